//! Who may call what.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use registry_wire::ProblemType;
use serde_json::json;

use crate::harness::{Answer, Node, Store, minimal, path, paths};

both!(
    without_tokens_everything_is_open,
    a_write_token_closes_every_write,
    a_read_token_closes_every_read,
    tokens_come_in_two_headers_only,
    denied_calls_change_nothing,
    metrics_and_health_are_open_to_neighbours_alone,
);

const WRITE: &str = "write-9f8e7d6c5b4a3210";
const READ: &str = "read-0f1e2d3c4b5a6978";
const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"];

/// Every path there is and some that are not, all with each method.
fn calls() -> impl Iterator<Item = (&'static str, String)> {
    let filled = |path: &str| {
        path.replace("{service}", "web").replace("{instance}", "a").replace("{service_name}", "web")
    };
    let unknown = ["/services/web/instances/a/future", "/admin", "/livez/x", "/metrics/", "/Health", "//"];
    let paths: Vec<String> = paths().into_iter().map(filled).chain(unknown.map(str::to_owned)).collect();
    METHODS.into_iter().flat_map(move |method| paths.clone().into_iter().map(move |path| (method, path)))
}

/// What stays open from loopback, whatever is configured. Everything that is not named here is closed.
fn open(method: &str, path: &str) -> bool {
    matches!(method, "GET" | "HEAD")
        && ["/", "/livez", "/readyz", "/openapi.json", "/health", "/metrics"].contains(&path)
}

fn reads(method: &str) -> bool {
    matches!(method, "GET" | "HEAD")
}

async fn call(node: &Node, method: &str, path: &str, token: Option<&str>) -> Answer {
    let request = node.request(method, path);
    let answer = Answer::of(match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    });
    answer.await
}

/// A HEAD has the same status, and no body to say why.
#[track_caller]
pub(crate) fn denied(method: &str, answer: &Answer, kind: ProblemType) {
    if method == "HEAD" {
        assert_eq!(answer.status, kind.status(), "{answer:?}");
    } else {
        answer.problem(kind);
    }
    if kind == ProblemType::Unauthorized {
        assert_eq!(answer.header("www-authenticate"), "Bearer", "{answer:?}");
    }
}

#[track_caller]
pub(crate) fn let_through(answer: &Answer) {
    assert!(!matches!(answer.status, 401 | 403), "{answer:?}");
    assert_ne!(answer.status, 500, "{answer:?}");
}

async fn without_tokens_everything_is_open(store: Store) {
    let node = store.node().await;
    for (method, path) in calls() {
        let_through(&call(&node, method, &path, None).await);
        // A token that nobody asked for is no reason to refuse.
        let_through(&call(&node, method, &path, Some("whatever")).await);
    }
}

async fn a_write_token_closes_every_write(store: Store) {
    let node = store.node_with(|settings| settings.auth_token = Some(WRITE.into())).await;
    for (method, path) in calls() {
        for token in [None, Some("wrong-0123456789"), Some(READ), Some(""), Some(&WRITE[1..])] {
            let answer = call(&node, method, &path, token).await;
            if reads(method) {
                let_through(&answer);
            } else {
                denied(method, &answer, ProblemType::Unauthorized);
            }
        }
        let_through(&call(&node, method, &path, Some(WRITE)).await);
    }
}

async fn a_read_token_closes_every_read(store: Store) {
    let both = store
        .node_with(|settings| {
            settings.auth_token = Some(WRITE.into());
            settings.read_token = Some(READ.into());
        })
        .await;
    for (method, path) in calls() {
        for token in [None, Some("wrong-0123456789")] {
            let answer = call(&both, method, &path, token).await;
            if open(method, &path) {
                let_through(&answer);
            } else {
                denied(method, &answer, ProblemType::Unauthorized);
            }
        }
        let answer = call(&both, method, &path, Some(READ)).await;
        if reads(method) {
            let_through(&answer);
        } else {
            denied(method, &answer, ProblemType::Forbidden);
        }
        let_through(&call(&both, method, &path, Some(WRITE)).await);
    }
    // Reads alone may be closed, too.
    let read_only = store.node_with(|settings| settings.read_token = Some(READ.into())).await;
    denied("GET", &call(&read_only, "GET", "/services", None).await, ProblemType::Unauthorized);
    call(&read_only, "GET", "/services", Some(READ)).await.ok();
    let_through(&call(&read_only, "DELETE", "/deregister/web", None).await);
}

/// An address of this machine that is not a loopback one; packets to it do not leave the machine.
pub(crate) fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // A documentation address: asked for the route alone, nothing is sent.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().unwrap().ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

async fn metrics_and_health_are_open_to_neighbours_alone(store: Store) {
    let Some(address) = own_address() else {
        eprintln!("SKIPPED: this machine has no address but loopback ones");
        return;
    };
    let node = async |trusted: &str| {
        store
            .node_with(|settings| {
                settings.listen = Some(SocketAddr::new(address, 0).to_string());
                settings.auth_token = Some(WRITE.into());
                settings.read_token = Some(READ.into());
                settings.trusted_proxies = Some(trusted.to_owned());
            })
            .await
    };
    let elsewhere = node("").await;
    let proxy = node(&address.to_string()).await;
    for path in ["/metrics", "/health"] {
        for method in ["GET", "HEAD"] {
            denied(method, &call(&elsewhere, method, path, None).await, ProblemType::Unauthorized);
            let_through(&call(&elsewhere, method, path, Some(READ)).await);
            let_through(&call(&proxy, method, path, None).await);
        }
    }
    let_through(&call(&elsewhere, "GET", "/livez", None).await);
    denied("GET", &call(&proxy, "GET", "/services", None).await, ProblemType::Unauthorized);
}

async fn tokens_come_in_two_headers_only(store: Store) {
    let node = store
        .node_with(|settings| {
            settings.auth_token = Some(WRITE.into());
            settings.read_token = Some(READ.into());
        })
        .await;
    let status = async |headers: &[(&str, String)]| {
        Answer::sure(|| {
            let mut request = node.request("PUT", &path("web", "a")).json(&minimal());
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            request
        })
        .await
        .status
    };
    let bearer = |token: &str| ("authorization", format!("Bearer {token}"));
    let plain = |token: &str| ("x-registry-token", token.to_owned());
    assert_eq!(status(&[bearer(WRITE)]).await, 201);
    for good in [
        [plain(WRITE)].as_slice(),
        &[("authorization", format!("bearer {WRITE}"))],
        &[("authorization", format!("Bearer   {WRITE}  "))],
        &[bearer(WRITE), plain(WRITE)],
    ] {
        assert_eq!(status(good).await, 200, "{good:?}");
    }
    for bad in [
        [("authorization", WRITE.to_owned())].as_slice(),
        &[("authorization", format!("Basic {WRITE}"))],
        &[("authorization", format!("Bearer{WRITE}"))],
        &[("authorization", "Bearer".to_owned())],
        &[("authorization", String::new())],
        &[plain(&format!("Bearer {WRITE}"))],
        &[plain(&WRITE.to_uppercase())],
        &[("cookie", format!("token={WRITE}"))],
        &[("x-api-key", WRITE.to_owned())],
        // Two that do not agree are none.
        &[bearer(WRITE), plain(READ)],
        &[bearer(READ), plain(WRITE)],
        &[bearer(WRITE), plain("wrong")],
        &[bearer("wrong"), plain(WRITE)],
        &[bearer(WRITE), bearer("wrong")],
        &[("authorization", format!("Basic {WRITE}")), plain(WRITE)],
    ] {
        assert_eq!(status(bad).await, 401, "{bad:?}");
    }
    assert_eq!(status(&[bearer(READ)]).await, 403);
    assert_eq!(status(&[bearer(READ), plain(READ)]).await, 403);
    // Neither a query nor a body is a header.
    let query = format!("{}?token={WRITE}&access_token={WRITE}", path("web", "a"));
    assert_eq!(call(&node, "DELETE", &query, None).await.status, 401);
    // Bytes that are no text are no token.
    let head = format!("DELETE {} HTTP/1.1\r\nhost: x\r\nx-registry-token: ", path("web", "a"));
    let raw = [head.as_bytes(), b"\xff\xfe", b"\r\n\r\n"].concat();
    node.raw(&raw).await.problem(ProblemType::Unauthorized);
}

async fn denied_calls_change_nothing(store: Store) {
    let node = store.node_with(|settings| settings.auth_token = Some(WRITE.into())).await;
    let put = node.request("PUT", &path("web", "a")).bearer_auth(WRITE).json(&minimal());
    assert_eq!(Answer::of(put).await.status, 201);
    let before = node.state().await;
    let drain = format!("{}/drain", path("web", "a"));
    let beat = format!("{}/heartbeat", path("web", "a"));
    let flat = json!({"service_name": "web", "instance_id": "a", "endpoint": "http://evil:1"});
    for (method, path, body) in [
        ("PUT", path("web", "a").as_str(), json!({"endpoint": "http://evil:1"})),
        ("PUT", &beat, json!({"status": "critical"})),
        ("PUT", &drain, json!({"reason": "r"})),
        ("DELETE", &drain, json!(null)),
        ("DELETE", &path("web", "a"), json!(null)),
        ("POST", "/register", flat.clone()),
        ("POST", "/heartbeat", flat),
        ("DELETE", "/deregister/web?instance_id=a", json!(null)),
    ] {
        let answer = Answer::of(node.request(method, path).json(&body)).await;
        let problem = answer.problem(ProblemType::Unauthorized);
        assert!(problem["detail"].as_str().unwrap().contains("X-Registry-Token"), "says how: {answer:?}");
        assert!(!answer.text.contains(WRITE), "{answer:?}");
        assert_eq!(node.state().await, before, "{method} {path}");
    }
    // A refusal comes before anything is read: it does not say whether a field is wrong.
    let answer = Answer::of(node.request("PUT", "/services/%ff/instances/a").body("{")).await;
    answer.problem(ProblemType::Unauthorized);
}
