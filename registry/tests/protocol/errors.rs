//! Problem documents and what goes with them, besides those of single calls.

use std::collections::BTreeSet;

use registry_wire::ProblemType;
use serde_json::json;

use crate::harness::{Answer, Store, WITH_BODY, minimal, path, paths};

both!(paths_and_methods_that_do_not_exist, types_of_bodies, bodies_that_end_early, nothing_is_ever_a_500);

async fn paths_and_methods_that_do_not_exist(store: Store) {
    let node = store.node().await;
    for path in [
        "/nowhere",
        "/services/web/instances",
        "/services/web/instances/a/b",
        "/problems",
        "/LIVEZ",
        "/livez/",
    ] {
        for method in ["GET", "PUT", "DELETE", "POST"] {
            let answer = Answer::of(node.request(method, path)).await;
            let detail = answer.problem(ProblemType::NotFound)["detail"].as_str().unwrap();
            assert!(detail.contains("/openapi.json"), "{detail}");
        }
    }
    for (method, path, allowed) in [
        ("POST", "/services/web/instances/a", ["DELETE", "GET", "HEAD", "PUT"].as_slice()),
        ("PATCH", "/services/web/instances/a", &["DELETE", "GET", "HEAD", "PUT"]),
        ("GET", "/services/web/instances/a/heartbeat", &["PUT"]),
        ("POST", "/services/web/instances/a/heartbeat", &["PUT"]),
        ("GET", "/services/web/instances/a/drain", &["DELETE", "PUT"]),
        ("DELETE", "/services", &["GET", "HEAD"]),
        ("DELETE", "/services/web", &["GET", "HEAD"]),
        ("PUT", "/instances", &["GET", "HEAD"]),
        ("GET", "/register", &["POST"]),
        ("GET", "/heartbeat", &["POST"]),
        ("GET", "/deregister/web", &["DELETE"]),
        ("POST", "/livez", &["GET", "HEAD"]),
        ("BREW", "/", &["GET", "HEAD"]),
    ] {
        let answer = Answer::of(node.request(method, path)).await;
        answer.problem(ProblemType::MethodNotAllowed);
        let found: BTreeSet<&str> = answer.header("allow").split(',').map(str::trim).collect();
        assert_eq!(found, allowed.iter().copied().collect(), "{method} {path}: {answer:?}");
    }
}

async fn types_of_bodies(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &minimal()).await;
    let body = r#"{"service_name":"web","instance_id":"a","endpoint":"http://h:1","reason":"r"}"#;
    for (method, path) in WITH_BODY {
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json", ""] {
            let answer = Answer::sure(|| {
                let request = node.request(method, path).body(body);
                if good.is_empty() { request } else { request.header("content-type", good) }
            })
            .await;
            assert!(answer.status < 300, "{method} {path} {good}: {answer:?}");
        }
        let before = node.state().await;
        for bad in
            ["text/plain", "application/x-www-form-urlencoded", "application/xml", "json", "text/json", "*/*"]
        {
            let answer = Answer::of(node.request(method, path).body(body).header("content-type", bad)).await;
            answer.blames(ProblemType::UnsupportedMedia, "Content-Type");
        }
        for bad in ["gzip", "br", "deflate, gzip"] {
            let answer =
                Answer::of(node.request(method, path).body(body).header("content-encoding", bad)).await;
            answer.blames(ProblemType::UnsupportedMedia, "Content-Encoding");
        }
        assert_eq!(node.state().await, before, "{method} {path}");
    }
    // Some clients name a type where there is no body.
    let request = || node.request("PUT", WITH_BODY[1].1).header("content-type", "text/plain");
    Answer::sure(request).await.ok();
}

async fn bodies_that_end_early(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &minimal()).await;
    let before = node.state().await;
    for (method, path) in WITH_BODY {
        // A chunk that says it is none.
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
        let answer = node.raw(format!("{head}zz\r\n{{}}\r\n0\r\n\r\n").as_bytes()).await;
        assert_eq!(answer.status, 400, "{method} {path}: {answer:?}");
        // Two lengths, and a length that is none: whose body it is cannot be told.
        for length in ["content-length: 2\r\ncontent-length: 3", "content-length: x", "content-length: -1"] {
            let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n{{}}");
            let answer = node.raw(request.as_bytes()).await;
            assert_eq!(answer.status, 400, "{method} {path} {length}: {answer:?}");
        }
    }
    assert_eq!(node.state().await, before);
}

/// Client errors that were answered 500 took the old load balancer down.
async fn nothing_is_ever_a_500(store: Store) {
    let node = store.node().await;
    let bodies = ["", "{", "[]", "null", "{}", "\u{0}", r#"{"endpoint":{},"service_name":[],"reason":1}"#];
    let names = ["web", "%00", "%ff", "..", "%2F", "a b".replace(' ', "%20").as_str()].map(str::to_owned);
    for pattern in paths() {
        for name in &names {
            let path = ["{service}", "{instance}", "{service_name}"]
                .into_iter()
                .fold(pattern.to_owned(), |path, part| path.replace(part, name));
            for method in ["GET", "PUT", "POST", "DELETE", "PATCH"] {
                for body in bodies {
                    let request = format!(
                        "{method} {path}?limit=x&after=%ff&session=%00&all=2 HTTP/1.1\r\nhost: x\r\n\
                         cache-control: max-age=99999999999999999999\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    let answer = node.raw(request.as_bytes()).await;
                    let shown = format!("{method} {path} {body:?}");
                    assert!(answer.status < 500, "{shown}: {answer:?}");
                    if answer.status >= 400 {
                        assert_eq!(answer.header("content-type"), "application/problem+json", "{shown}");
                        assert_eq!(answer.body["status"], answer.status, "{shown}: {answer:?}");
                    }
                }
            }
        }
    }
    assert_eq!(node.get("/instances").await.ok()["instances"], json!([]));
    assert_eq!(node.put(&path("web", "a"), &minimal()).await.status, 201, "and it still works");
}
