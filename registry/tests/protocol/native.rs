//! The native dialect's writes: PUT, heartbeat, DELETE, and what they answer.

use registry_wire::ProblemType;
use serde_json::{Value, json};

use crate::harness::{Answer, Store, minimal, path};

both!(
    an_instance_has_these_fields_and_no_others,
    defaults_are_filled_in,
    new_is_201_and_replaced_is_200,
    a_new_endpoint_is_served_at_once,
    beats_are_acknowledged,
    a_beat_changes_the_status,
    output_is_kept_only_with_a_change,
    deregistering,
    metadata_is_kept_as_text,
    unknown_fields_and_nulls_are_ignored,
    the_callers_address_is_observed,
);

/// A value's JSON type.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "text",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

const FIELDS: [(&str, &str); 13] = [
    ("service_name", "text"),
    ("instance_id", "text"),
    ("endpoint", "text"),
    ("health_endpoint", "text"),
    ("metadata", "object"),
    ("status", "text"),
    ("draining", "bool"),
    ("stale", "bool"),
    ("ttl_seconds", "int"),
    ("ttl_remaining", "int"),
    ("registered_at", "float"),
    ("last_heartbeat", "float"),
    ("observed_address", "text"),
];

fn assert_instance(instance: &Value, more: &[(&str, &str)]) {
    let found: Vec<(&str, &str)> =
        instance.as_object().unwrap().iter().map(|(name, value)| (name.as_str(), kind(value))).collect();
    let mut expected: Vec<(&str, &str)> = FIELDS.iter().chain(more).copied().collect();
    expected.sort_unstable();
    let mut sorted = found.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected, "{instance}");
}

async fn an_instance_has_these_fields_and_no_others(store: Store) {
    let node = store.node().await;
    let before = registry::clock::unix_now(registry::clock::now());
    let put = node
        .register(
            "osint_service",
            "vertice-osint:8049",
            &json!({"endpoint": "http://vertice-osint:8049", "health_endpoint": "/healthz?full=1",
                    "metadata": {"version": "1.4.2"}, "ttl_seconds": 60, "session": "s1", "status": "warning"}),
        )
        .await;
    assert_instance(&put, &[("heartbeat_interval_seconds", "int")]);
    let got = node.get(&path("osint_service", "vertice-osint:8049")).await;
    assert_instance(got.ok(), &[]);
    let listed = node.get("/instances").await.ok()["instances"][0].clone();
    assert_instance(&listed, &[]);
    for instance in [&put, &got.body, &listed] {
        assert_eq!(instance["service_name"], "osint_service");
        assert_eq!(instance["instance_id"], "vertice-osint:8049");
        assert_eq!(instance["endpoint"], "http://vertice-osint:8049");
        assert_eq!(instance["health_endpoint"], "/healthz?full=1");
        assert_eq!(instance["metadata"], json!({"version": "1.4.2"}));
        assert_eq!(instance["status"], "warning");
        assert_eq!(instance["draining"], false);
        assert_eq!(instance["stale"], false);
        assert_eq!(instance["ttl_seconds"], 60);
        let remaining = instance["ttl_remaining"].as_u64().unwrap();
        assert!((50..=60).contains(&remaining), "{remaining}");
        assert_eq!(instance["observed_address"], "127.0.0.1");
        assert_eq!(instance["registered_at"], put["registered_at"]);
        for time in ["registered_at", "last_heartbeat"] {
            let time = instance[time].as_f64().unwrap();
            assert!((before - 1.0..before + 20.0).contains(&time), "{time}");
        }
    }
    assert_eq!(put["heartbeat_interval_seconds"], 20);
    // What came with a status, and why it drains, stand beside the others where there is any.
    let beat = json!({"session": "s1", "status": "critical", "output": "connection refused"});
    node.beat("osint_service", "vertice-osint:8049", &beat).await.ok();
    let drain = format!("{}/drain", path("osint_service", "vertice-osint:8049"));
    let drained = node.put(&drain, &json!({"reason": "maintenance"})).await;
    assert_instance(drained.ok(), &[("output", "text"), ("drain_reason", "text")]);
    assert_eq!(drained.body["output"], "connection refused");
    assert_eq!(drained.body["drain_reason"], "maintenance");
    assert_instance(
        node.get(&path("osint_service", "vertice-osint:8049")).await.ok(),
        &[("output", "text"), ("drain_reason", "text")],
    );
}

async fn defaults_are_filled_in(store: Store) {
    let node = store.node().await;
    let put = node.register("web", "a", &minimal()).await;
    assert_eq!(put["health_endpoint"], "/health");
    assert_eq!(put["metadata"], json!({}));
    assert_eq!(put["status"], "passing");
    assert_eq!(put["ttl_seconds"], 90);
    assert_eq!(put["heartbeat_interval_seconds"], 30);
    let other = store.node_with(|settings| settings.default_ttl = Some("10".into())).await;
    let put = other.register("web", "a", &minimal()).await;
    assert_eq!(put["ttl_seconds"], 10);
    // Three beats in a lease, rounded down.
    assert_eq!(put["heartbeat_interval_seconds"], 3);
}

async fn new_is_201_and_replaced_is_200(store: Store) {
    let node = store.node().await;
    let first = node.put(&path("web", "a"), &minimal()).await;
    assert_eq!(first.status, 201, "{first:?}");
    assert_eq!(first.header("content-type"), "application/json");
    let again = node.put(&path("web", "a"), &minimal()).await;
    again.ok();
    // Nobody named a session, so it is the same one.
    assert_eq!(again.body["registered_at"], first.body["registered_at"]);
    let other = node.put(&path("web", "b"), &minimal()).await;
    assert_eq!(other.status, 201, "{other:?}");
    let elsewhere = node.put(&path("db", "a"), &minimal()).await;
    assert_eq!(elsewhere.status, 201, "{elsewhere:?}");
    assert_eq!(node.get("/services").await.ok(), &json!(["db", "web"]));
    // A replacement says all: what it leaves out is back at its default.
    let rich = json!({"endpoint": "http://10.0.0.1:1", "metadata": {"a": "b"}, "status": "critical",
                      "output": "down", "ttl_seconds": 300, "health_endpoint": "/up"});
    assert_eq!(node.put(&path("web", "a"), &rich).await.ok()["output"], "down");
    let plain = node.put(&path("web", "a"), &minimal()).await;
    assert_eq!(plain.ok()["metadata"], json!({}));
    assert_eq!(plain.body["status"], "passing");
    assert_eq!(plain.body["ttl_seconds"], 90);
    assert_eq!(plain.body["health_endpoint"], "/health");
    assert_eq!(plain.body.get("output"), None);
}

/// A registry that cached the endpoint served the old one until the entry expired.
async fn a_new_endpoint_is_served_at_once(store: Store) {
    let node = store.node().await;
    for port in 1..=5 {
        let endpoint = format!("http://10.0.0.1:{port}");
        let body = json!({"endpoint": endpoint});
        assert!([200, 201].contains(&node.put(&path("web", "a"), &body).await.status));
        assert_eq!(node.get("/services/web").await.ok()["endpoint"], endpoint);
        assert_eq!(node.get("/services/web").await.ok()["instances"][0]["endpoint"], endpoint);
        assert_eq!(node.get(&path("web", "a")).await.ok()["endpoint"], endpoint);
    }
}

async fn beats_are_acknowledged(store: Store) {
    let node = store.node().await;
    let put = node
        .register("web", "a", &json!({"endpoint": "http://h:1", "session": "s", "ttl_seconds": 45}))
        .await;
    let beat = format!("{}/heartbeat", path("web", "a"));
    let expected = json!({"ttl_seconds": 45, "heartbeat_interval_seconds": 15});
    // An empty body, an object without fields, with some of them, with all.
    let empty = Answer::sure(|| node.request("PUT", &beat)).await;
    assert_eq!(empty.ok(), &expected);
    for body in [
        json!({}),
        json!({"session": "s"}),
        json!({"status": "passing"}),
        json!({"session": "s", "status": "passing", "output": "fine"}),
    ] {
        assert_eq!(node.put(&beat, &body).await.ok(), &expected, "{body}");
    }
    let got = node.get(&path("web", "a")).await;
    assert!(got.ok()["last_heartbeat"].as_f64() > put["last_heartbeat"].as_f64(), "{got:?} after {put}");
    assert_eq!(got.body["registered_at"], put["registered_at"]);
    node.beat("web", "b", &json!({})).await.problem(ProblemType::UnknownInstance);
    node.beat("nobody", "a", &json!({})).await.problem(ProblemType::UnknownInstance);
    node.beat("web", "a", &json!({"session": "never"})).await.problem(ProblemType::UnknownInstance);
}

async fn a_beat_changes_the_status(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &minimal()).await;
    for status in ["critical", "warning", "passing", "critical"] {
        let beat = node.beat("web", "a", &json!({"status": status})).await;
        assert_eq!(beat.ok(), &json!({"ttl_seconds": 90, "heartbeat_interval_seconds": 30}), "as any other");
        assert_eq!(node.get(&path("web", "a")).await.ok()["status"], status);
        // Nobody is sent to one that is critical; a warning does not keep traffic away.
        let served = node.get("/services/web").await;
        if status == "critical" {
            served.problem(ProblemType::NoUsableInstance);
        } else {
            assert_eq!(served.ok()["instances"][0]["status"], status);
        }
        // It is listed whatever its status.
        assert_eq!(node.get("/services").await.ok(), &json!(["web"]));
        // A beat without a status leaves it as it is.
        node.beat("web", "a", &json!({})).await.ok();
        assert_eq!(node.get(&path("web", "a")).await.ok()["status"], status);
    }
}

async fn output_is_kept_only_with_a_change(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &minimal()).await;
    let output = async || node.get(&path("web", "a")).await.ok().get("output").cloned();
    node.beat("web", "a", &json!({"output": "lost"})).await.ok();
    node.beat("web", "a", &json!({"status": "passing", "output": "lost"})).await.ok();
    assert_eq!(output().await, None);
    node.beat("web", "a", &json!({"status": "critical", "output": "  refused \n"})).await.ok();
    assert_eq!(output().await, Some(json!("refused")));
    node.beat("web", "a", &json!({"status": "critical", "output": "timed out"})).await.ok();
    assert_eq!(output().await, Some(json!("refused")));
    node.beat("web", "a", &json!({"status": "passing"})).await.ok();
    assert_eq!(output().await, None);
}

async fn deregistering(store: Store) {
    let node = store.node().await;
    node.delete(&path("web", "a")).await.problem(ProblemType::UnknownInstance);
    node.register("web", "a", &minimal()).await;
    let gone = node.delete(&path("web", "a")).await;
    assert_eq!((gone.status, gone.text.as_str()), (204, ""), "{gone:?}");
    node.delete(&path("web", "a")).await.problem(ProblemType::UnknownInstance);
    node.get(&path("web", "a")).await.gone(
        ProblemType::UnknownInstance,
        "deregistered",
        "deregistered by a client",
    );
    let service = node.get("/services/web").await;
    service.gone(ProblemType::UnknownService, "deregistered", "deregistered by a client");
    assert!(service.body["detail"].as_str().unwrap().contains("'a'"), "names the last one: {service:?}");
    assert_eq!(node.get("/services").await.ok(), &json!([]));
    node.beat("web", "a", &json!({})).await.problem(ProblemType::UnknownInstance);
    // With a session; then its own process did it.
    node.register("web", "a", &json!({"endpoint": "http://h:1", "session": "s"})).await;
    let wrong = format!("{}?session=never", path("web", "a"));
    node.delete(&wrong).await.problem(ProblemType::UnknownInstance);
    let right = format!("{}?session=s", path("web", "a"));
    assert_eq!(node.delete(&right).await.status, 204);
    node.get(&path("web", "a")).await.gone(
        ProblemType::UnknownInstance,
        "deregistered",
        "deregistered by its own process",
    );
}

/// A numeric version in a health answer once meant 422 for ever.
async fn metadata_is_kept_as_text(store: Store) {
    let node = store.node().await;
    let answer = Answer::sure(|| {
        let body = r#"{"endpoint":"http://h:1","metadata":{"version":1.10,"canary":true,"off":false,"n":-3,"e":1e3,"":""}}"#;
        node.request("PUT", &path("web", "bad")).header("content-type", "application/json").body(body)
    })
    .await;
    answer.blames(ProblemType::Invalid, "metadata");
    let answer = Answer::sure(|| {
        let body = r#"{"endpoint":"http://h:1","metadata":{"version":1.10,"canary":true,"off":false,"n":-3,"e":1e3,"none":""}}"#;
        node.request("PUT", &path("web", "a")).header("content-type", "application/json").body(body)
    })
    .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let expected =
        json!({"version": "1.10", "canary": "true", "off": "false", "n": "-3", "e": "1e3", "none": ""});
    assert_eq!(answer.body["metadata"], expected);
    assert_eq!(node.get("/services/web").await.ok()["metadata"], expected);
    for bad in [json!(null), json!([]), json!({})] {
        let body = json!({"endpoint": "http://h:1", "metadata": {"key": bad}});
        node.put(&path("web", "a"), &body).await.blames(ProblemType::Invalid, "metadata.key");
    }
}

async fn unknown_fields_and_nulls_are_ignored(store: Store) {
    let node = store.node().await;
    let body = json!({"endpoint": "http://h:1", "weight": 3, "tags": ["x"], "deep": {"a": {"b": 1}},
                      "health_endpoint": null, "ttl_seconds": null, "session": null, "status": null,
                      "metadata": null, "output": null});
    let put = node.register("web", "a", &body).await;
    assert_eq!(put["ttl_seconds"], 90);
    assert_eq!(put.get("weight"), None);
    node.beat("web", "a", &json!({"future": [1], "status": null})).await.ok();
    let drain = format!("{}/drain", path("web", "a"));
    node.put(&drain, &json!({"reason": "r", "until": 5})).await.ok();
    let flat = json!({"service_name": "flat", "endpoint": "http://h:1", "future": {}, "instance_id": null});
    assert_eq!(node.post("/register", &flat).await.status, 201);
    let beat = json!({"service_name": "flat", "timestamp": 17.5});
    node.post("/heartbeat", &beat).await.ok();
}

async fn the_callers_address_is_observed(store: Store) {
    let address = async |node: &crate::harness::Node, forwarded: &str| {
        let put = Answer::sure(|| {
            let request = node.request("PUT", &path("web", "a")).json(&minimal());
            if forwarded.is_empty() { request } else { request.header("x-forwarded-for", forwarded) }
        })
        .await;
        assert!(matches!(put.status, 200 | 201), "{put:?}");
        put.body["observed_address"].as_str().unwrap().to_owned()
    };
    // Whoever is not trusted says what it likes.
    let node = store.node().await;
    assert_eq!(address(&node, "").await, "127.0.0.1");
    assert_eq!(address(&node, "10.9.9.9").await, "127.0.0.1");
    let behind =
        store.node_with(|settings| settings.trusted_proxies = Some("127.0.0.0/8, 10.1.0.1".into())).await;
    for (forwarded, expected) in [
        ("", "127.0.0.1"),
        ("192.0.2.7", "192.0.2.7"),
        ("6.6.6.6, 192.0.2.7", "192.0.2.7"),
        ("6.6.6.6, 192.0.2.7, 10.1.0.1", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("nonsense", "127.0.0.1"),
    ] {
        assert_eq!(address(&behind, forwarded).await, expected, "{forwarded}");
    }
}
