//! What somebody might do with a registry who is not its friend. SECURITY.md lists the threats, and the tests of each.

use std::{io::ErrorKind, net::TcpListener, path::Path, process::Command};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use registry::http::ROUTES;
use registry_wire::ProblemType;
use serde_json::{Value, json};
use testkit::{Process, free_port, wait_until};

use crate::harness::{Answer, PATIENCE, Store, WITH_BODY, minimal, path};

both!(
    no_connection_is_made_to_what_was_registered,
    a_page_of_elsewhere_may_not_write_and_is_given_nothing,
    markup_is_answered_as_json,
);

/// A whole life of an instance, whose address is one where somebody listens.
async fn no_connection_is_made_to_what_was_registered(store: Store) {
    let node = store.node().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = format!("http://{address}/hook");
    let body = json!({"endpoint": endpoint, "ttl_seconds": 3, "health_endpoint": "/health",
                      "metadata": {"callback": endpoint, "url": format!("http://{address}/")}});
    node.register("web", "a", &body).await;
    node.register("web", "ends", &body).await;
    let flat = json!({"service_name": "flat", "endpoint": endpoint, "health_endpoint": "/health"});
    assert!(node.post("/register", &flat).await.status < 300);
    node.beat("web", "a", &json!({"status": "critical", "output": endpoint})).await.ok();
    node.put(&format!("{}/drain", path("web", "a")), &json!({"reason": endpoint})).await.ok();
    for route in ROUTES.iter().filter(|route| route.method == "GET") {
        let path = route.path.replace("{service}", "web").replace("{instance}", "a");
        assert!(Answer::of(node.request("GET", &path)).await.status < 500, "{path}");
    }
    // Somebody who checks on what falls silent would do it now.
    wait_until(PATIENCE, "its lease has ended", async || {
        node.get_once("/services/web/instances/ends").await.status == 404
    })
    .await;
    node.delete(&path("web", "a")).await;
    let seen = listener.accept().expect_err("nobody came");
    assert_eq!(seen.kind(), ErrorKind::WouldBlock);
    // Whoever comes is seen.
    let _caller = std::net::TcpStream::connect(address).unwrap();
    wait_until(PATIENCE, "the connection is seen", async || listener.accept().is_ok()).await;
    node.end().await;
}

/// Headers with which a browser calls for a page: of elsewhere, of nowhere, and of a name that was made to mean this node.
const PAGES: [(&str, &str); 3] =
    [("https://evil.example", ""), ("null", ""), ("http://rebound.example:8888", "rebound.example:8888")];

async fn a_page_of_elsewhere_may_not_write_and_is_given_nothing(store: Store) {
    let open = store.node().await;
    let closed =
        store.node_with(|settings| settings.auth_token = Some("write-9f8e7d6c5b4a3210".into())).await;
    open.register("web", "a", &minimal()).await;
    let before = open.state().await;
    for (origin, host) in PAGES {
        for node in [&open, &closed] {
            let calls = ROUTES.iter().map(|route| (route.method.as_str(), route.path));
            // A browser asks by OPTIONS whether a page may.
            let asks = ROUTES.iter().map(|route| ("OPTIONS", route.path));
            for (method, pattern) in calls.chain(asks) {
                let path = ["{service}", "{service_name}", "{instance}"].iter().zip(["web", "web", "a"]);
                let path = path.fold(pattern.to_owned(), |path, (from, to)| path.replace(from, to));
                let mut request = node.request(method, &path).header("origin", origin);
                if !host.is_empty() {
                    request = request.header("host", host);
                }
                if method == "OPTIONS" {
                    request = request.header("access-control-request-method", "PUT");
                }
                // What a page may send without asking first: no type at all.
                if WITH_BODY.iter().any(|(_, with)| *with == path) {
                    request =
                        request.body(r#"{"service_name":"web","instance_id":"b","endpoint":"http://h:1"}"#);
                }
                let answer = Answer::of(request).await;
                if method != "GET" {
                    let refused = matches!(answer.status, 401 | 403 | 405);
                    assert!(refused, "{method} {path} for {origin}: {answer:?}");
                }
                for name in answer.headers.keys().map(reqwest::header::HeaderName::as_str) {
                    assert!(!name.starts_with("access-control-"), "{method} {path}: {answer:?}");
                    assert!(name != "set-cookie", "{method} {path}: {answer:?}");
                }
            }
        }
    }
    assert_eq!(open.state().await, before);
    // With a token it is somebody who was let in, whatever they use.
    let body = minimal();
    let put = Answer::sure(|| {
        let put = closed.request("PUT", &path("web", "a")).header("origin", "https://tool.example");
        put.header("x-registry-token", "write-9f8e7d6c5b4a3210").json(&body)
    });
    assert_eq!(put.await.status, 201);
    let refused = open.request("PUT", &path("web", "b")).header("origin", "null").json(&body);
    Answer::of(refused).await.problem(ProblemType::Forbidden);
}

const MARKUP: &str = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'`{{7*7}}";

async fn markup_is_answered_as_json(store: Store) {
    let node = store.node().await;
    let body = json!({"endpoint": "http://h:1/<script>", "metadata": {"k": MARKUP}});
    let refused = node.put(&path("web", "a"), &body).await;
    refused.blames(ProblemType::Invalid, "endpoint");
    let body =
        json!({"endpoint": "http://h:1", "status": "critical", "output": MARKUP, "metadata": {"k": MARKUP}});
    node.register("web", "a", &body).await;
    node.put(&format!("{}/drain", path("web", "a")), &json!({"reason": MARKUP})).await.ok();
    let mut shown = 0;
    for route in ROUTES.iter().filter(|route| route.method == "GET") {
        let path = route.path.replace("{service}", "web").replace("{instance}", "a");
        for path in [path.clone(), format!("{path}?all=true&x={MARKUP}"), format!("{path}/{MARKUP}")] {
            let answer = Answer::sure(|| node.request("GET", &path)).await;
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}: {answer:?}");
            let kind = answer.header("content-type");
            if answer.text.contains("alert(1)") {
                assert!(
                    matches!(kind, "application/json" | "application/problem+json"),
                    "{path}: {answer:?}"
                );
                assert!(!answer.body.is_null(), "{path}: {answer:?}");
                shown += 1;
            }
            // One page is no JSON; it shows nothing that anybody sent.
            let is_page = kind.starts_with("text/html");
            assert!(!is_page || route.path == "/" && !answer.text.contains("alert(1)"), "{path}: {answer:?}");
        }
    }
    assert!(shown >= 3, "what was registered is shown as it was");
}

/// What would begin a line of its own, or tell a terminal what to do.
const FORGED: [&str; 4] = [
    "x\n2026-01-01T00:00:00.000000Z ERROR forged: everything is lost",
    "x\r\n{\"level\":\"ERROR\",\"message\":\"forged\"}",
    "\u{1b}[2J\u{1b}]0;forged\u{7}",
    "\u{85}\u{2028}forged\u{202e}",
];

/// The log in both forms, at its most verbose: each line is the node's own.
#[tokio::test]
async fn nothing_that_is_sent_makes_a_line_of_the_log() {
    for format in ["text", "json"] {
        let dir = testkit::memory_dir();
        let port = free_port();
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_registry")));
        command
            .current_dir(dir.path())
            .env("REGISTRY_LISTEN", format!("127.0.0.1:{port}"))
            .env("DATABASE_URL", "sqlite://registry.db")
            .env("REGISTRY_TICK_MS", "100")
            .env("REGISTRY_LOG", "trace")
            .env("REGISTRY_LOG_FORMAT", format);
        let process = Process::start("registry", dir.path(), &mut command);
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let url = format!("http://127.0.0.1:{port}");
        wait_until(PATIENCE, "it is ready", async || {
            client.get(format!("{url}/readyz")).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        let put = async |target: &str, body: Value| {
            Answer::sure(|| client.put(format!("{url}{target}")).json(&body)).await.status
        };
        for (number, text) in FORGED.into_iter().enumerate() {
            let encoded = utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            assert_eq!(put(&path(&encoded, "a"), minimal()).await, 422);
            let instance = path("web", &format!("a{number}"));
            let body =
                json!({"endpoint": "http://h:1", "ttl_seconds": 3, "output": text, "metadata": {"k": text}});
            put(&instance, body).await;
            let plain = json!({"endpoint": "http://h:1", "ttl_seconds": 3});
            assert_eq!(put(&instance, plain).await / 100, 2);
            put(&format!("{instance}/heartbeat"), json!({"status": "critical", "output": text})).await;
            put(&format!("{instance}/drain"), json!({"reason": text})).await;
            let query = client.get(format!("{url}/services/web?all={encoded}&session={encoded}"));
            Answer::of(query.header("user-agent", "\u{9b}2Jforged").header("x-forwarded-for", "forged"))
                .await;
        }
        // All of them end, of which the log tells.
        wait_until(PATIENCE, "the leases have ended", async || {
            process.stderr().matches("expired").count() >= FORGED.len()
        })
        .await;
        let log = process.stderr();
        for line in log.lines() {
            assert!(!line.chars().any(char::is_control), "{format}: {line:?}");
            if format == "json" {
                let event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"));
                assert!(event["target"].as_str().unwrap().starts_with("registry::"), "{line:?}");
            } else {
                // The time, a level, and the module that says it.
                let words: Vec<_> = line.split_whitespace().take(3).collect();
                assert!(words[0].ends_with('Z') && words[2].starts_with("registry::"), "{line:?}");
            }
        }
        assert!(!log.contains("forged"), "{log}");
    }
}
