//! How many there may be.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use registry_wire::ProblemType;
use serde_json::json;
use testkit::Postgres;

use crate::{
    harness::{Answer, Node, Store, minimal, path},
    operator::{grown, scrape_once},
};

both!(
    each_cap_takes_the_last_and_nobody_more,
    what_is_there_is_replaced_and_beats_at_the_cap,
    registrations_at_once_fill_a_cap_and_do_not_pass_it,
);

/// A refusal for a cap: says which setting, and that there is time.
#[track_caller]
fn full(answer: &Answer, setting: &str) {
    let body = answer.problem(ProblemType::Full);
    let detail = body["detail"].as_str().unwrap();
    assert!(detail.contains(setting), "{detail}");
    assert_eq!(body["retry_after_seconds"], 30);
}

async fn each_cap_takes_the_last_and_nobody_more(store: Store) {
    let node = store
        .node_with(|settings| {
            settings.limits.max_instances = Some("6".into());
            settings.limits.max_services = Some("3".into());
            settings.limits.max_instances_per_service = Some("3".into());
        })
        .await;
    let before = scrape_once(&node).await;
    for (service, instance) in [("a", "1"), ("a", "2"), ("a", "3")] {
        node.register(service, instance, &minimal()).await;
    }
    full(&node.put(&path("a", "4"), &minimal()).await, "REGISTRY_MAX_INSTANCES_PER_SERVICE");
    node.register("b", "1", &minimal()).await;
    node.register("c", "1", &minimal()).await;
    full(&node.put(&path("d", "1"), &minimal()).await, "REGISTRY_MAX_SERVICES");
    // As existing clients do it.
    let flat = json!({"service_name": "d", "endpoint": "http://h:1"});
    full(&node.post("/register", &flat).await, "REGISTRY_MAX_SERVICES");
    node.register("c", "2", &minimal()).await;
    full(&node.put(&path("c", "3"), &minimal()).await, "REGISTRY_MAX_INSTANCES");
    // Who goes makes room.
    assert_eq!(node.delete(&path("b", "1")).await.status, 204);
    node.register("d", "1", &minimal()).await;
    full(&node.put(&path("d", "2"), &minimal()).await, "REGISTRY_MAX_INSTANCES");
    let after = scrape_once(&node).await;
    for (reason, count) in [("instances", 2), ("services", 2), ("instances_of_service", 1)] {
        let name = format!("registry_refused_total{{reason=\"cap_{reason}\"}}");
        assert_eq!(grown(&before, &after, &name), count, "{name}");
    }
}

async fn what_is_there_is_replaced_and_beats_at_the_cap(store: Store) {
    let node = store.node_with(|settings| settings.limits.max_instances = Some("2".into())).await;
    node.register("web", "a", &json!({"endpoint": "http://h:1", "session": "s1"})).await;
    node.register("flat", "default", &minimal()).await;
    let flat = json!({"service_name": "flat", "endpoint": "http://h:2"});
    for round in 2..12 {
        // Another process takes the place, and the same one registers again.
        for _ in 0..2 {
            let body = json!({"endpoint": "http://h:1", "session": format!("s{round}")});
            assert_eq!(node.put(&path("web", "a"), &body).await.status, 200, "{round}");
        }
        assert_eq!(node.post("/register", &flat).await.status, 201);
        let status = if round % 2 == 0 { "warning" } else { "passing" };
        for body in [json!({}), json!({"status": status})] {
            assert_eq!(node.beat("web", "a", &body).await.status, 200, "{round}");
        }
        assert_eq!(node.post("/heartbeat", &json!({"service_name": "flat"})).await.status, 200);
        full(&node.put(&path("web", "b"), &minimal()).await, "REGISTRY_MAX_INSTANCES");
        // It is not there, and is told so: only its registration is refused.
        assert_eq!(node.beat("web", "b", &json!({})).await.status, 404);
    }
    node.put(&format!("{}/drain", path("web", "a")), &json!({"reason": "r"})).await.ok();
}

async fn registrations_at_once_fill_a_cap_and_do_not_pass_it(store: Store) {
    const CAP: usize = 20;
    let node = store
        .node_with(|settings| {
            settings.limits.max_instances = Some(CAP.to_string());
            settings.limits.max_instances_per_service = Some("5".into());
        })
        .await;
    let answers = join_all((0..200).map(async |number| {
        let (service, instance) = (format!("s{}", number % 10), format!("i{number}"));
        let answer = node.put(&path(&service, &instance), &minimal()).await;
        (answer.status, service, answer)
    }))
    .await;
    let mut of: BTreeMap<String, usize> = BTreeMap::new();
    for (status, service, answer) in answers {
        match status {
            201 => *of.entry(service).or_default() += 1,
            // Carried out although a node that was blind for a moment could not say so.
            200 if answer.again => *of.entry(service).or_default() += 1,
            // On a busy machine: for load, or not said in time.
            503 => {}
            _ if answer.body["type"] == ProblemType::Overloaded.path() => {}
            _ => drop(answer.problem(ProblemType::Full)),
        }
    }
    assert!(of.values().sum::<usize>() <= CAP && of.values().all(|count| *count <= 5), "{of:?}");
    // Those who come again fill what is left, and nobody passes it.
    for number in 0..200 {
        let answer = node.put(&path(&format!("s{}", number % 10), &format!("i{number}")), &minimal()).await;
        assert!([200, 201, 429].contains(&answer.status), "{answer:?}");
    }
    let listed = node.get("/instances?limit=1000").await;
    assert_eq!(listed.ok()["instances"].as_array().unwrap().len(), CAP);
}

/// At the cap, an instance that took the place of another a moment ago, at another node, is there, although this one
/// has heard of neither.
#[tokio::test]
async fn at_the_cap_a_node_asks_whether_the_instance_is_there() {
    let url = Postgres::shared().fresh_database().await;
    let change = |settings: &mut registry::config::Settings| {
        settings.limits.max_instances = Some("2".into());
    };
    let (one, other) = (Node::start(url.clone(), None, change).await, Node::start(url, None, change).await);
    one.register("web", "first", &minimal()).await;
    one.register("web", "i0", &minimal()).await;
    for round in 1..40 {
        let (from, to) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        assert_eq!(from.delete(&path("web", &format!("i{}", round - 1))).await.status, 204);
        let instance = path("web", &format!("i{round}"));
        assert_eq!(from.put(&instance, &minimal()).await.status, 201, "{round}");
        let again = to.put(&instance, &minimal()).await;
        assert_eq!(again.status, 200, "{round}: {again:?}");
    }
    full(&other.put(&path("web", "one-more"), &minimal()).await, "REGISTRY_MAX_INSTANCES");
}
