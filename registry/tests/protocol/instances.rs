//! `GET /instances`: filters and pages.

use registry_wire::ProblemType;
use serde_json::{Value, json};

use crate::harness::{Node, Store, minimal, path};

both!(
    filters_can_be_joined,
    pages_hold_each_instance_once,
    a_page_has_at_most_a_thousand,
    bad_queries_are_422
);

/// The instances that a query lists, as `service/instance`, and the cursor.
async fn list(node: &Node, query: &str) -> (Vec<String>, Value) {
    let answer = node.get(&format!("/instances{query}")).await;
    let body = answer.ok();
    assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
    let text = |instance: &Value, field: &str| instance[field].as_str().unwrap().to_owned();
    let names = body["instances"].as_array().unwrap().iter();
    let names = names.map(|i| format!("{}/{}", text(i, "service_name"), text(i, "instance_id")));
    (names.collect(), body["next"].clone())
}

async fn filters_can_be_joined(store: Store) {
    let node = store.node().await;
    for (service, instance, status, metadata) in [
        ("auth", "a", "passing", json!({"zone": "1", "version": "1.0"})),
        ("auth", "b", "critical", json!({"zone": "2", "version": "1.0"})),
        ("web", "a", "warning", json!({"zone": "1", "version": "2.0"})),
        ("web", "b", "passing", json!({"zone": "2 & 3"})),
    ] {
        let body = json!({"endpoint": "http://h:1", "status": status, "metadata": metadata});
        node.register(service, instance, &body).await;
    }
    node.put(&format!("{}/drain", path("web", "b")), &json!({"reason": "r"})).await.ok();
    for (query, expected) in [
        ("", ["auth/a", "auth/b", "web/a", "web/b"].as_slice()),
        ("?service=auth", &["auth/a", "auth/b"]),
        ("?service=nobody", &[]),
        ("?status=passing", &["auth/a", "web/b"]),
        ("?status=warning", &["web/a"]),
        ("?status=critical", &["auth/b"]),
        ("?meta.zone=1", &["auth/a", "web/a"]),
        ("?meta.zone=2%20%26%203", &["web/b"]),
        ("?meta.zone=1&meta.version=1.0", &["auth/a"]),
        ("?meta.zone=1&meta.zone=2", &[]),
        ("?meta.nothing=1", &[]),
        ("?service=auth&status=critical&meta.zone=2", &["auth/b"]),
        ("?service=auth&status=critical&meta.zone=1", &[]),
        ("?unknown=1", &["auth/a", "auth/b", "web/a", "web/b"]),
    ] {
        let (names, next) = list(&node, query).await;
        assert_eq!(names, expected, "{query}");
        assert_eq!(next, Value::Null, "{query}");
    }
}

async fn pages_hold_each_instance_once(store: Store) {
    let node = store.node().await;
    let mut all = Vec::new();
    for service in ["a", "b", "c-c"] {
        for instance in ["1", "2:x", "3"] {
            node.register(service, instance, &minimal()).await;
            all.push(format!("{service}/{instance}"));
        }
    }
    for limit in [1, 2, 3, 4, 8, 9, 10] {
        let (mut found, mut query) = (Vec::new(), format!("?limit={limit}"));
        loop {
            let (names, next) = list(&node, &query).await;
            assert!(names.len() <= limit);
            found.extend(names);
            let Some(cursor) = next.as_str() else { break };
            assert!(found.len() < all.len(), "a cursor means that there is more: {cursor}");
            let cursor = percent_encoding::utf8_percent_encode(cursor, percent_encoding::NON_ALPHANUMERIC);
            query = format!("?limit={limit}&after={cursor}");
        }
        assert_eq!(found, all, "limit {limit}");
    }
    // A cursor and a filter; a cursor whose instance has gone.
    let (names, next) = list(&node, "?service=b&limit=2").await;
    assert_eq!(names, ["b/1", "b/2:x"]);
    assert_eq!(node.delete(&path("b", "2:x")).await.status, 204);
    let (names, next) = list(&node, &format!("?service=b&limit=2&after={}", next.as_str().unwrap())).await;
    assert_eq!((names, next), (vec!["b/3".to_owned()], Value::Null));
}

async fn a_page_has_at_most_a_thousand(store: Store) {
    let node = store.node().await;
    for start in (0..1010).step_by(101) {
        let puts = (start..start + 101).map(|number| {
            let (node, instance) = (&node, format!("i{number:04}"));
            async move { node.register("web", &instance, &minimal()).await }
        });
        futures_util::future::join_all(puts).await;
    }
    let (names, next) = list(&node, "").await;
    assert_eq!(names.len(), 100, "without a limit it is 100");
    assert_eq!(next, "web/i0099");
    let (names, next) = list(&node, "?limit=1000").await;
    assert_eq!(names.len(), 1000);
    let (names, next) = list(&node, &format!("?limit=1000&after={}", next.as_str().unwrap())).await;
    assert_eq!((names.len(), next), (10, Value::Null));
    // The body of a service holds them all.
    assert_eq!(node.get("/services/web").await.ok()["instances"].as_array().unwrap().len(), 1010);
}

async fn bad_queries_are_422(store: Store) {
    let node = store.node().await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=1.5", "limit"),
        ("limit=99999999999999999999999", "limit"),
        ("status=bogus", "status"),
        ("status=", "status"),
        ("status=passing&status=passing", "status"),
        ("service=a%20b", "service"),
        ("service=", "service"),
        ("service=a%00", "service"),
        ("after=x", "after"),
        ("after=a/b/c", "after"),
        ("after=%2F", "after"),
        ("after=", "after"),
    ] {
        node.get(&format!("/instances?{query}")).await.blames(ProblemType::Invalid, field);
    }
    // As many pairs as an entry may have.
    let pairs = |count| format!("/instances?{}", "meta.v=1&".repeat(count));
    node.get(&pairs(32)).await.ok();
    node.get(&pairs(33)).await.blames(ProblemType::Invalid, "meta");
}
