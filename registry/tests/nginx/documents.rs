//! What nginx itself says is what the nodes would say.

use registry_wire::ProblemType;
use serde_json::Value;

use crate::support::{Client, Reply, start, unscaled};

#[tokio::test]
async fn metrics_are_handed_out_to_nobody() {
    let cluster = start(unscaled()).await;
    let client = Client::new(cluster.nginx.port());
    let paths = ["/metrics", "/metrics?x=1", "/%6Detrics", "//metrics", "/./metrics", "/services/../metrics"];
    for path in paths {
        // By hand: an HTTP library would tidy the path up.
        let answer = crate::limits::raw(cluster.nginx.port(), &format!("GET {path} HTTP/1.1\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{path}: {answer}");
        assert!(!answer.contains("registry_"), "{path}: {answer}");
    }
    for method in ["GET", "POST", "PUT", "OPTIONS"] {
        client.call(method, "/metrics", &Value::Null).await.unwrap().is_problem(ProblemType::Forbidden);
    }
    for path in ["/metrics/", "/metrics/x", "/METRICS"] {
        client.get(path).await.unwrap().is_problem(ProblemType::NotFound);
    }
    assert!(cluster.nodes[0].metric("registry_active_services").await.abs() < 0.1, "the node itself tells");
}

#[tokio::test]
async fn other_paths_pass() {
    let cluster = start(unscaled()).await;
    let client = Client::new(cluster.nginx.port());
    for path in
        ["/livez", "/readyz", "/readyz?stale=ok", "/health", "/openapi.json", "/", "/services", "/instances"]
    {
        assert_eq!(client.get(path).await.unwrap().status, 200, "{path}");
        assert_eq!(client.call("HEAD", path, &Value::Null).await.unwrap().status, 200, "{path}");
    }
    client.get("/never").await.unwrap().is_problem(ProblemType::NotFound);
    client.get("/.balancer/malformed").await.unwrap().is_problem(ProblemType::NotFound);
    let reply = client.call("PATCH", "/services", &Value::Null).await.unwrap();
    reply.is_problem(ProblemType::MethodNotAllowed);
    assert_eq!(reply.header("allow"), Some("GET,HEAD"), "the node's own answer");
    client.get("/services/x").await.unwrap().is_problem(ProblemType::UnknownService);
    client.beat("x", "one").await.unwrap().is_problem(ProblemType::UnknownInstance);
}

#[tokio::test]
async fn the_address_that_a_client_claims_is_not_believed() {
    let cluster = start(unscaled()).await;
    let client = Client::new(cluster.nginx.port());
    let body = serde_json::json!({"endpoint": "http://127.0.0.1:9"});
    let request = client.request(reqwest::Method::PUT, "/services/a/instances/b").json(&body);
    let reply = Reply::of(request.header("x-forwarded-for", "203.0.113.9")).await.unwrap();
    assert_eq!(reply.body["observed_address"], "127.0.0.1", "{reply:?}");
}
