//! `GET /services` and `GET /services/{service}`: what readers are served.

use std::collections::BTreeSet;

use registry_wire::ProblemType;
use serde_json::{Value, json};

use crate::harness::{Answer, Store, minimal, path};

both!(
    the_list_of_names_is_sorted_and_paged,
    one_usable_instance_is_spread_at_the_top,
    each_usable_instance_is_picked_sometimes,
    two_instances_are_both_listed,
    all_adds_critical_and_draining_ones,
    none_usable_is_404_and_says_why,
    never_registered_is_404,
    every_answer_from_the_view_has_an_age,
    a_request_says_how_old_an_answer_may_be,
    head_is_get_without_a_body,
);

fn ids(answer: &Answer) -> Vec<&str> {
    let instances = answer.ok()["instances"].as_array().unwrap();
    instances.iter().map(|instance| instance["instance_id"].as_str().unwrap()).collect()
}

async fn the_list_of_names_is_sorted_and_paged(store: Store) {
    let node = store.node().await;
    // Empty because nobody is there: that is known.
    assert_eq!(node.get("/services").await.ok(), &json!([]));
    assert_eq!(node.get("/instances").await.ok(), &json!({"instances": [], "next": null}));
    for name in ["osint_service", "auth", "Zeta", "b-2", "b.1", "0"] {
        node.register(name, "i", &minimal()).await;
    }
    let all = json!(["0", "Zeta", "auth", "b-2", "b.1", "osint_service"]);
    assert_eq!(node.get("/services").await.ok(), &all);
    assert_eq!(node.get("/services?limit=2").await.ok(), &json!(["0", "Zeta"]));
    assert_eq!(node.get("/services?limit=2&after=Zeta").await.ok(), &json!(["auth", "b-2"]));
    assert_eq!(node.get("/services?after=b-2").await.ok(), &json!(["b.1", "osint_service"]));
    // After a name that is not there, in its place.
    assert_eq!(node.get("/services?after=b").await.ok(), &json!(["b-2", "b.1", "osint_service"]));
    assert_eq!(node.get("/services?after=zzz").await.ok(), &json!([]));
    // More than there are, and more than a machine counts.
    for limit in ["100000", "36893488147419103233"] {
        assert_eq!(node.get(&format!("/services?limit={limit}")).await.ok(), &all, "{limit}");
    }
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("after=", "after"),
        ("after=a%2Fb", "after"),
        ("after=a&after=b", "after"),
    ] {
        node.get(&format!("/services?{query}")).await.blames(ProblemType::Invalid, field);
    }
    // Critical and draining ones count: they are there.
    node.beat("auth", "i", &json!({"status": "critical"})).await.ok();
    node.put(&format!("{}/drain", path("b-2", "i")), &json!({"reason": "r"})).await.ok();
    assert_eq!(node.get("/services").await.ok(), &all);
}

async fn one_usable_instance_is_spread_at_the_top(store: Store) {
    let node = store.node().await;
    let body = json!({"endpoint": "http://vertice-osint:8049", "metadata": {"version": "1"},
                      "health_endpoint": "/up", "ttl_seconds": 75});
    node.register("osint", "a", &body).await;
    let answer = node.get("/services/osint").await;
    let top = answer.ok().as_object().unwrap();
    let mut names: Vec<&str> = top.keys().map(String::as_str).collect();
    names.sort_unstable();
    let expected = [
        "endpoint",
        "health_endpoint",
        "instances",
        "last_heartbeat",
        "metadata",
        "registered_at",
        "service_name",
        "ttl_remaining",
    ];
    assert_eq!(names, expected);
    let instance = &top["instances"][0];
    assert_eq!(instance["instance_id"], "a");
    for name in expected.into_iter().filter(|name| *name != "instances") {
        assert_eq!(top[name], instance[name], "{name}");
    }
    assert_eq!(top["service_name"], "osint");
    assert_eq!(top["endpoint"], "http://vertice-osint:8049");
    assert!((65..=75).contains(&top["ttl_remaining"].as_u64().unwrap()), "{answer:?}");
    assert_eq!(node.get("/services/osint?all=false").await.ok()["endpoint"], top["endpoint"]);
}

async fn each_usable_instance_is_picked_sometimes(store: Store) {
    let node = store.node().await;
    for (instance, status) in [("a", "passing"), ("b", "warning"), ("c", "critical"), ("d", "passing")] {
        let body = json!({"endpoint": format!("http://{instance}:1"), "status": status});
        node.register("web", instance, &body).await;
    }
    node.put(&format!("{}/drain", path("web", "d")), &json!({"reason": "r"})).await.ok();
    let mut picked = BTreeSet::new();
    // Each of two is missing from 100 picks once in 2^99.
    for _ in 0..100 {
        let answer = node.get("/services/web").await;
        assert_eq!(ids(&answer), ["a", "b"]);
        picked.insert(answer.body["endpoint"].as_str().unwrap().to_owned());
    }
    assert_eq!(picked, BTreeSet::from(["http://a:1".to_owned(), "http://b:1".to_owned()]));
}

/// One name held one endpoint.
async fn two_instances_are_both_listed(store: Store) {
    let node = store.node().await;
    node.register("web", "b", &json!({"endpoint": "http://b:1"})).await;
    node.register("web", "a", &json!({"endpoint": "http://a:1"})).await;
    let answer = node.get("/services/web").await;
    assert_eq!(ids(&answer), ["a", "b"]);
    assert_eq!(answer.body["instances"][0]["endpoint"], "http://a:1");
    assert_eq!(answer.body["instances"][1]["endpoint"], "http://b:1");
    // One goes: the other stays.
    assert_eq!(node.delete(&path("web", "a")).await.status, 204);
    let answer = node.get("/services/web").await;
    assert_eq!(ids(&answer), ["b"]);
    assert_eq!(answer.body["endpoint"], "http://b:1");
}

async fn all_adds_critical_and_draining_ones(store: Store) {
    let node = store.node().await;
    node.register("web", "bad", &json!({"endpoint": "http://bad:1", "status": "critical"})).await;
    let answer = node.get("/services/web?all=true").await;
    assert_eq!(ids(&answer), ["bad"]);
    // None is usable: nothing at the top that a script would take for one.
    let mut names: Vec<&String> = answer.body.as_object().unwrap().keys().collect();
    names.sort_unstable();
    assert_eq!(names, ["instances", "service_name"]);
    node.register("web", "out", &json!({"endpoint": "http://out:1"})).await;
    node.put(&format!("{}/drain", path("web", "out")), &json!({"reason": "r"})).await.ok();
    node.register("web", "good", &json!({"endpoint": "http://good:1"})).await;
    let answer = node.get("/services/web?all=true").await;
    assert_eq!(ids(&answer), ["bad", "good", "out"]);
    assert_eq!(answer.body["endpoint"], "http://good:1");
    assert_eq!(ids(&node.get("/services/web").await), ["good"]);
    for query in ["all=1", "all=", "all=TRUE", "all=true&all=true"] {
        node.get(&format!("/services/web?{query}")).await.blames(ProblemType::Invalid, "all");
    }
}

async fn none_usable_is_404_and_says_why(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &json!({"endpoint": "http://a:1", "status": "critical"})).await;
    node.register("web", "b", &json!({"endpoint": "http://b:1"})).await;
    node.put(&format!("{}/drain", path("web", "b")), &json!({"reason": "r"})).await.ok();
    let answer = node.get("/services/web").await;
    let detail = answer.problem(ProblemType::NoUsableInstance)["detail"].as_str().unwrap();
    assert!(detail.contains("1 draining") && detail.contains("1 critical") && detail.contains("all=true"));
    // One by one they are still shown.
    node.get(&path("web", "a")).await.ok();
    assert_eq!(node.get(&path("web", "b")).await.ok()["draining"], true);
}

async fn never_registered_is_404(store: Store) {
    let node = store.node().await;
    let service = node.get("/services/nobody").await;
    let body = service.problem(ProblemType::UnknownService);
    assert!(body["detail"].as_str().unwrap().contains("'nobody'"));
    node.get("/services/nobody?all=true").await.problem(ProblemType::UnknownService);
    let instance = node.get(&path("nobody", "a")).await;
    instance.problem(ProblemType::UnknownInstance);
    for answer in [service, instance] {
        for extra in ["state", "last_seen", "reason"] {
            assert_eq!(answer.body.get(extra), None, "nothing is known of it: {answer:?}");
        }
    }
    // An instance of a service that has another.
    node.register("web", "a", &minimal()).await;
    node.get(&path("web", "b")).await.problem(ProblemType::UnknownInstance);
}

const READS: [&str; 6] = [
    "/services",
    "/services/web",
    "/services/web?all=true",
    "/services/web/instances/a",
    "/instances",
    "/services/no",
];

async fn every_answer_from_the_view_has_an_age(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &minimal()).await;
    for path in READS.into_iter().chain(["/services/web/instances/no"]) {
        let answer = node.get(path).await;
        let age: u64 = answer.header("age").parse().unwrap_or_else(|_| panic!("{path}: {answer:?}"));
        assert!(age <= 1, "{path}: {answer:?}");
    }
    for path in ["/livez", "/readyz", "/health", "/"] {
        assert_eq!(node.get(path).await.header("age"), "", "{path}");
    }
}

async fn a_request_says_how_old_an_answer_may_be(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &minimal()).await;
    // What no node could give is passed over; what this one can give, it gives.
    for value in [
        "max-age=0",
        "no-cache",
        "no-cache, max-age=0",
        "max-age=3600",
        "Max-Age=\"60\"",
        "max-age=x",
        "max-age",
    ] {
        for path in READS {
            let request = || node.request("GET", path).header("cache-control", value);
            let answer = Answer::sure(request).await;
            let expected = if path == "/services/no" { 404 } else { 200 };
            assert_eq!(answer.status, expected, "{value} {path}: {answer:?}");
        }
    }
}

async fn head_is_get_without_a_body(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &minimal()).await;
    for path in READS.into_iter().chain(["/livez", "/readyz", "/health", "/openapi.json", "/"]) {
        let get = node.get(path).await;
        let head = Answer::of(node.request("HEAD", path)).await;
        assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{path}: {head:?}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
    // It writes nothing.
    let head = Answer::of(node.request("HEAD", "/register")).await;
    assert_eq!(head.status, 405);
    assert_eq!(head.body, Value::Null);
}
