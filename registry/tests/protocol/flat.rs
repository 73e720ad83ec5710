//! The flat dialect, as existing clients speak it.

use std::time::Duration;

use registry_wire::ProblemType;
use serde_json::{Value, json};
use testkit::wait_until;

use crate::harness::{Answer, Store, minimal, path};

both!(
    the_three_calls_answer_exactly_this,
    without_an_id_they_act_on_default,
    a_404_names_the_ids_that_are_there,
    heartbeats_of_unknown_services_are_404,
    a_new_endpoint_is_served_at_once,
    both_dialects_tell_one_truth,
    sessions_and_statuses_are_native_only,
);

fn flat(service: &str) -> Value {
    json!({"service_name": service, "endpoint": format!("http://{service}:8080")})
}

async fn the_three_calls_answer_exactly_this(store: Store) {
    let node = store.node().await;
    let full = json!({"service_name": "x", "endpoint": "http://x:1", "health_endpoint": "/up",
                      "metadata": {"v": 1}, "instance_id": "i:1", "ttl_seconds": 33});
    let registered = node.post("/register", &full).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    assert_eq!(registered.header("content-type"), "application/json");
    let expected = json!({"message": "Service registered successfully", "service_name": "x"});
    assert_eq!(registered.body, expected);
    // Again is no error, and answered in the same way.
    let again = node.post("/register", &full).await;
    assert_eq!((again.status, &again.body), (201, &expected));
    let entry = node.get(&path("x", "i:1")).await;
    assert_eq!(entry.ok()["endpoint"], "http://x:1");
    assert_eq!(entry.body["health_endpoint"], "/up");
    assert_eq!(entry.body["metadata"], json!({"v": "1"}));
    assert_eq!(entry.body["ttl_seconds"], 33);
    let beat = json!({"service_name": "x", "instance_id": "i:1"});
    // Times have milliseconds, and two calls may fall into one.
    wait_until(Duration::from_secs(5), "a later beat", async || {
        let beaten = node.post("/heartbeat", &beat).await;
        assert_eq!(beaten.ok(), &json!({"message": "Heartbeat received", "service_name": "x"}));
        let last = node.get(&path("x", "i:1")).await;
        last.ok()["last_heartbeat"].as_f64() > entry.body["last_heartbeat"].as_f64()
    })
    .await;
    let removed = node.delete("/deregister/x?instance_id=i:1").await;
    assert_eq!(removed.ok(), &json!({"message": "Service deregistered", "service_name": "x"}));
    node.delete("/deregister/x?instance_id=i:1").await.problem(ProblemType::UnknownInstance);
    assert_eq!(node.get("/services").await.ok(), &json!([]));
}

async fn without_an_id_they_act_on_default(store: Store) {
    let node = store.node().await;
    node.register("x", "other", &minimal()).await;
    assert_eq!(node.post("/register", &flat("x")).await.status, 201);
    let ids = async || {
        let list = node.get("/instances?service=x").await;
        let ids = list.ok()["instances"].as_array().unwrap().clone();
        ids.into_iter().map(|instance| instance["instance_id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids().await, ["default", "other"]);
    let before = node.get(&path("x", "other")).await.ok()["last_heartbeat"].clone();
    node.post("/heartbeat", &json!({"service_name": "x"})).await.ok();
    let after = node.get(&path("x", "other")).await.ok()["last_heartbeat"].as_f64().unwrap();
    // Read from two clocks, so the same moment may differ in its last digits.
    assert!((after - before.as_f64().unwrap()).abs() < 0.01, "{before} and {after}");
    node.delete("/deregister/x").await.ok();
    assert_eq!(ids().await, ["other"]);
    node.delete("/deregister/x").await.problem(ProblemType::UnknownInstance);
    assert_eq!(ids().await, ["other"]);
}

async fn a_404_names_the_ids_that_are_there(store: Store) {
    let node = store.node().await;
    node.register("x", "host-a:1", &minimal()).await;
    node.register("x", "host-b:2", &minimal()).await;
    let beat = node.post("/heartbeat", &json!({"service_name": "x"})).await;
    let remove = node.delete("/deregister/x").await;
    for answer in [beat, remove] {
        let detail = answer.problem(ProblemType::UnknownInstance)["detail"].as_str().unwrap();
        assert!(detail.contains("'host-a:1'") && detail.contains("'host-b:2'"), "{detail}");
        assert!(detail.contains("'default'") && detail.contains("'x'"), "{detail}");
    }
    assert_eq!(node.get("/instances").await.ok()["instances"].as_array().unwrap().len(), 2);
}

/// The registry before this one answered 500, and an expired service was lost until somebody restarted its sidecar.
async fn heartbeats_of_unknown_services_are_404(store: Store) {
    let node = store.node().await;
    for _ in 0..8 {
        let beat = node.post("/heartbeat", &json!({"service_name": "nobody"})).await;
        beat.problem(ProblemType::UnknownInstance);
        let beat = node.post("/heartbeat", &json!({"service_name": "nobody", "instance_id": "i"})).await;
        beat.problem(ProblemType::UnknownInstance);
        // Six of these took the old load balancer down, because they were 500s.
        node.delete("/deregister/nobody").await.problem(ProblemType::UnknownInstance);
    }
    // What was there and went: the same.
    assert_eq!(node.post("/register", &flat("x")).await.status, 201);
    node.delete("/deregister/x").await.ok();
    let beat = node.post("/heartbeat", &json!({"service_name": "x"})).await;
    beat.problem(ProblemType::UnknownInstance);
    // The way back is a registration, at once.
    assert_eq!(node.post("/register", &flat("x")).await.status, 201);
    node.post("/heartbeat", &json!({"service_name": "x"})).await.ok();
}

async fn a_new_endpoint_is_served_at_once(store: Store) {
    let node = store.node().await;
    for port in 1..=5 {
        let endpoint = format!("http://10.0.0.9:{port}");
        let body = json!({"service_name": "x", "endpoint": endpoint});
        assert_eq!(node.post("/register", &body).await.status, 201);
        let served = node.get("/services/x").await;
        assert_eq!(served.ok()["endpoint"], endpoint);
        assert_eq!(served.body["instances"].as_array().unwrap().len(), 1, "the last writer wins: {served:?}");
    }
}

async fn both_dialects_tell_one_truth(store: Store) {
    let node = store.node().await;
    assert_eq!(node.post("/register", &flat("x")).await.status, 201);
    node.beat("x", "default", &json!({})).await.ok();
    let put = node.put(&path("x", "default"), &json!({"endpoint": "http://native:1", "session": "s"})).await;
    put.ok();
    node.post("/heartbeat", &json!({"service_name": "x"})).await.ok();
    assert_eq!(node.get("/services/x").await.ok()["endpoint"], "http://native:1");
    // A flat registration ends the session of a native one.
    assert_eq!(node.post("/register", &flat("x")).await.status, 201);
    node.beat("x", "default", &json!({"session": "s"})).await.problem(ProblemType::Superseded);
    assert_eq!(node.delete(&path("x", "default")).await.status, 204);
    node.delete("/deregister/x").await.problem(ProblemType::UnknownInstance);
}

async fn sessions_and_statuses_are_native_only(store: Store) {
    let node = store.node().await;
    let body = json!({"service_name": "x", "endpoint": "http://x:1", "session": "s", "status": "critical",
                      "output": "o"});
    assert_eq!(node.post("/register", &body).await.status, 201);
    let entry = node.get(&path("x", "default")).await;
    assert_eq!(entry.ok()["status"], "passing");
    assert_eq!(entry.body.get("output"), None);
    node.beat("x", "default", &json!({"session": "s"})).await.problem(ProblemType::UnknownInstance);
    node.post("/heartbeat", &json!({"service_name": "x", "status": "critical"})).await.ok();
    assert_eq!(node.get(&path("x", "default")).await.ok()["status"], "passing");
    // The wrong method on each path.
    for (method, path) in [("PUT", "/register"), ("PUT", "/heartbeat"), ("POST", "/deregister/x")] {
        let answer = Answer::of(node.request(method, path)).await;
        answer.problem(ProblemType::MethodNotAllowed);
    }
}
