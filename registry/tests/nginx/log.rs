//! The access log.

use serde_json::Value;
use testkit::wait_until;

use crate::support::{Client, Reply, SOON, start, unscaled};

const SECRET: &str = "canary-0f3a91c26b7d";

#[tokio::test]
async fn each_call_is_a_line_of_json_without_secrets() {
    let cluster = start(unscaled().setting("REGISTRY_AUTH_TOKEN", SECRET)).await;
    let client = Client::new(cluster.nginx.port());
    let put = |path: &str| {
        let body = serde_json::json!({"endpoint": "http://127.0.0.1:9"});
        client.request(reqwest::Method::PUT, path).json(&body)
    };
    let path = "/services/a/instances/b";
    let refused = Reply::of(put(path)).await.unwrap();
    assert_eq!(refused.status, 401);
    let reply = Reply::of(put(path).header("x-registry-token", SECRET)).await.unwrap();
    assert_eq!(reply.status, 201);
    Reply::of(put(path).header("authorization", format!("Bearer {SECRET}"))).await.unwrap();
    Reply::of(put(&format!("{path}?session=s&token={SECRET}"))).await.unwrap();
    let agent = reqwest::header::HeaderValue::from_bytes(b"\"quoted\" \xff\xc3").unwrap();
    Reply::of(client.request(reqwest::Method::GET, "/services").header("user-agent", agent)).await.unwrap();
    Reply::of(client.request(reqwest::Method::GET, "/services").header("user-agent", "a \"b\" \\c"))
        .await
        .unwrap();
    let bytes = b"GET /\xff\xc3\"x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    crate::limits::send(cluster.nginx.port(), bytes).await;
    crate::limits::raw(cluster.nginx.port(), "\u{1}\u{2} nonsense\r\n").await;
    for node in &cluster.nodes {
        node.kill_9().await;
    }
    client.get("/services").await.unwrap();
    client.get("/last").await.unwrap();

    wait_until(SOON, "the last call is logged", async || {
        cluster.nginx.access_log().iter().any(|line| line.contains("/last"))
    })
    .await;
    let text = cluster.nginx.access_log();
    let log: Vec<Value> = text
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for line in &log {
        for field in ["time", "request_id", "client", "method", "path", "agent", "nodes", "node_statuses"] {
            assert!(line[field].is_string(), "{field}: {line}");
        }
        for field in ["status", "seconds", "bytes_in", "bytes_out"] {
            assert!(line[field].is_number(), "{field}: {line}");
        }
        assert_eq!(line["request_id"].as_str().unwrap().len(), 32, "{line}");
    }
    let of = |status: u64| log.iter().find(|line| line["path"] == path && line["status"] == status).unwrap();
    assert_eq!(of(201)["method"], "PUT");
    assert_eq!(of(201)["node_statuses"], "201");
    assert!(cluster.nodes.iter().any(|node| of(201)["nodes"] == format!("127.0.0.1:{}", node.port())));
    assert_eq!(log.iter().filter(|line| line["path"] == path).count(), 4, "a query is not logged");
    // The first call of all, by testkit, had no agent; the last but one had no path.
    assert_eq!(log[0]["agent"], "", "{text:?}");
    assert!(log.iter().any(|line| line["path"] == "" && line["status"] == 400), "{text:?}");
    let unanswered = log.iter().find(|line| line["path"] == "/last").unwrap();
    assert_eq!(unanswered["status"], 503);
    // Three nodes in each of two passes.
    assert_eq!(unanswered["node_statuses"].as_str().unwrap().matches("502").count(), 6, "{unanswered}");
    assert!(log.iter().any(|line| line["agent"] == "a \"b\" \\c"), "{text:?}");
    assert!(log.iter().any(|line| line["agent"] == "(not printable)"), "{text:?}");
    assert!(log.iter().any(|line| line["path"] == "(not printable)" && line["method"] == "GET"), "{text:?}");

    let all = format!("{}{}", cluster.nginx.process().stdout(), cluster.nginx.config());
    assert!(!all.contains(SECRET));
}
