//! What operators, balancers and dashboards ask.

use std::collections::{BTreeMap, BTreeSet};

use registry::http::ROUTES;
use registry_wire::ProblemType;
use serde_json::json;

use crate::harness::{Answer, Node, Store, minimal, path, paths};

both!(
    probes_of_a_healthy_node,
    metric_names_that_dashboards_use,
    active_services_are_those_that_are_listed,
    operations_are_counted,
    openapi_describes_every_path,
    the_page_runs_nothing,
);

async fn probes_of_a_healthy_node(store: Store) {
    let node = store.node().await;
    assert_eq!(node.get("/livez").await.ok(), &json!({"status": "alive"}));
    for path in ["/readyz", "/readyz?stale=ok"] {
        assert_eq!(Answer::sure(|| node.request("GET", path)).await.ok(), &json!({"status": "ready"}));
    }
    node.get("/readyz?stale=no").await.blames(ProblemType::Invalid, "stale");
    node.register("web", "a", &minimal()).await;
    node.register("web", "b", &minimal()).await;
    let health = node.get("/health").await;
    assert_eq!(health.ok()["status"], "healthy");
    assert_eq!(health.body["node"], "under-test");
    assert_eq!(health.body["services"], 1);
    assert_eq!(health.body["instances"], 2);
    assert_eq!(health.body["blind"], false);
    assert_eq!(health.body["store_reachable"], true);
    assert!(health.body["sight_age_seconds"].as_f64().unwrap() < 1.0, "{health:?}");
}

/// The lines of a scrape: name with labels, and value.
pub(crate) async fn scrape_once(node: &Node) -> BTreeMap<String, String> {
    let answer = node.get_once("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").starts_with("text/plain"), "{answer:?}");
    let lines = answer.text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| line.rsplit_once(' ').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// How much a counter has grown between two scrapes.
pub(crate) fn grown(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>, name: &str) -> i64 {
    let number = |scrape: &BTreeMap<String, String>| scrape[name].parse::<i64>().unwrap();
    number(after) - number(before)
}

const OPERATIONS: [&str; 5] = ["register", "heartbeat", "deregister", "list", "get"];
const STATUSES: [&str; 5] = ["success", "error", "not_found", "denied", "rejected"];

pub(crate) fn counter(operation: &str, status: &str) -> String {
    format!("registry_operations_total{{operation=\"{operation}\",status=\"{status}\"}}")
}

async fn metric_names_that_dashboards_use(store: Store) {
    let node = store.node().await;
    let text = node.get("/metrics").await.text;
    for (name, kind) in [
        ("registry_active_services", "gauge"),
        ("registry_operations_total", "counter"),
        ("registry_operation_duration_seconds", "histogram"),
        ("registry_circuit_breaker_open", "gauge"),
    ] {
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{text}");
    }
    let metrics = scrape_once(&node).await;
    // All there from the start: a rate over a series that begins at 1 misses its first event.
    let operations: BTreeSet<&String> =
        metrics.keys().filter(|name| name.starts_with("registry_operations_total")).collect();
    let expected: Vec<String> = OPERATIONS
        .iter()
        .flat_map(|operation| STATUSES.iter().map(|status| counter(operation, status)))
        .collect();
    assert_eq!(operations, expected.iter().collect());
    for operation in OPERATIONS {
        let count = format!("registry_operation_duration_seconds_count{{operation=\"{operation}\"}}");
        assert!(metrics.contains_key(&count), "{count}");
    }
    assert_eq!(metrics["registry_circuit_breaker_open"], "0");
    assert_eq!(metrics["registry_active_services"], "0");
}

/// Replicas counted different numbers of services, and none of them that of the list.
async fn active_services_are_those_that_are_listed(store: Store) {
    let node = store.node().await;
    for (service, instance, status) in
        [("a", "1", "passing"), ("a", "2", "passing"), ("b", "1", "critical"), ("c", "1", "warning")]
    {
        node.register(service, instance, &json!({"endpoint": "http://h:1", "status": status})).await;
    }
    node.put(&format!("{}/drain", path("c", "1")), &json!({"reason": "r"})).await.ok();
    for expected in [3, 2, 2] {
        let listed = node.get("/services").await.ok().as_array().unwrap().len();
        assert_eq!(listed, expected);
        assert_eq!(scrape_once(&node).await["registry_active_services"], listed.to_string());
        drop(node.delete(&path("b", "1")).await);
    }
}

async fn operations_are_counted(store: Store) {
    const TOKEN: &str = "token-9f8e7d6c5b4a3210";
    let node = store.node_with(|settings| settings.auth_token = Some(TOKEN.into())).await;
    let at = path("web", "a");
    let (beat, drain) = (format!("{at}/heartbeat"), format!("{at}/drain"));
    let other_beat = format!("{}/heartbeat", path("web", "b"));
    let flat = json!({"service_name": "flat", "endpoint": "http://h:1"});
    let nothing = json!(null);
    let old = json!({"endpoint": "http://h:1", "session": "s"});
    for (method, path, body, token, expected) in [
        ("PUT", at.as_str(), &old, true, Some(("register", "success"))),
        ("PUT", &at, &minimal(), true, Some(("register", "success"))),
        ("PUT", &at, &old, true, Some(("register", "rejected"))),
        ("PUT", &at, &json!({}), true, Some(("register", "rejected"))),
        ("PUT", &at, &minimal(), false, Some(("register", "denied"))),
        ("POST", "/register", &flat, true, Some(("register", "success"))),
        ("POST", "/register", &nothing, true, Some(("register", "rejected"))),
        ("POST", "/register", &flat, false, Some(("register", "denied"))),
        ("PUT", &beat, &json!({}), true, Some(("heartbeat", "success"))),
        ("PUT", &beat, &json!({"session": "s"}), true, Some(("heartbeat", "rejected"))),
        ("PUT", &other_beat, &json!({}), true, Some(("heartbeat", "not_found"))),
        ("PUT", &beat, &json!({}), false, Some(("heartbeat", "denied"))),
        ("POST", "/heartbeat", &flat, true, Some(("heartbeat", "success"))),
        ("POST", "/heartbeat", &json!({"service_name": "no"}), true, Some(("heartbeat", "not_found"))),
        ("GET", "/services", &nothing, false, Some(("list", "success"))),
        ("GET", "/services?limit=0", &nothing, false, Some(("list", "rejected"))),
        ("GET", "/instances", &nothing, false, Some(("list", "success"))),
        ("GET", "/services/web", &nothing, false, Some(("get", "success"))),
        ("GET", "/services/no", &nothing, false, Some(("get", "not_found"))),
        ("GET", &at, &nothing, false, Some(("get", "success"))),
        ("GET", &path("web", "b"), &nothing, false, Some(("get", "not_found"))),
        // An answer of no operation that a dashboard names.
        ("PUT", &drain, &json!({"reason": "r"}), true, None),
        ("DELETE", &drain, &nothing, true, None),
        ("GET", "/health", &nothing, false, None),
        ("GET", "/nowhere", &nothing, false, None),
        ("DELETE", &at, &nothing, false, Some(("deregister", "denied"))),
        ("DELETE", &at, &nothing, true, Some(("deregister", "success"))),
        ("DELETE", &at, &nothing, true, Some(("deregister", "not_found"))),
        ("DELETE", "/deregister/flat", &nothing, true, Some(("deregister", "success"))),
        ("DELETE", "/deregister/flat", &nothing, true, Some(("deregister", "not_found"))),
    ] {
        // A node that was blind for a moment counted an error instead; then it is asked again.
        let (before, after) = loop {
            let before = scrape_once(&node).await;
            let mut request = node.request(method, path).json(body);
            if token {
                request = request.bearer_auth(TOKEN);
            }
            if Answer::of(request).await.status != 503 {
                break (before, scrape_once(&node).await);
            }
        };
        for operation in OPERATIONS {
            for status in STATUSES {
                let name = counter(operation, status);
                let grown = grown(&before, &after, &name);
                let wanted = i64::from(expected == Some((operation, status)));
                assert_eq!(grown, wanted, "{method} {path} {body}: {name} grew by {grown}");
            }
            let name = format!("registry_operation_duration_seconds_count{{operation=\"{operation}\"}}");
            let grown = grown(&before, &after, &name);
            let wanted = i64::from(expected.is_some_and(|(expected, _)| expected == operation));
            assert_eq!(grown, wanted, "{method} {path}: {name} grew by {grown}");
        }
    }
}

async fn openapi_describes_every_path(store: Store) {
    let node = store.node().await;
    let answer = node.get("/openapi.json").await;
    let document = answer.ok();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."), "{document}");
    let documented = document["paths"].as_object().unwrap();
    let described: BTreeSet<&str> = documented.keys().map(String::as_str).collect();
    assert_eq!(described, paths());
    let calls = ROUTES.iter().map(|route| (route.path, route.method.as_str().to_ascii_lowercase()));
    for (path, method) in calls {
        assert!(documented[path].get(&method).is_some(), "{method} {path} is not described");
    }
    // Each method that it describes is there, and each that is there is described.
    for (path, item) in documented {
        let filled =
            path.replace("{service}", "web").replace("{instance}", "a").replace("{service_name}", "web");
        for method in ["get", "put", "post", "delete", "patch"] {
            let answer = Answer::of(node.request(&method.to_uppercase(), &filled)).await;
            assert_eq!(item.get(method).is_some(), answer.status != 405, "{method} {path}: {answer:?}");
            if let Some(call) = item.get(method) {
                assert!(!call["summary"].as_str().unwrap().is_empty(), "{method} {path}");
                assert!(!call["responses"].as_object().unwrap().is_empty(), "{method} {path}");
            }
        }
    }
}

async fn the_page_runs_nothing(store: Store) {
    let node = store.node().await;
    let page = node.get("/").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let policy = page.header("content-security-policy");
    for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    let text = page.text.to_ascii_lowercase();
    assert!(text.starts_with("<!doctype html>"));
    for bad in
        ["<script", "javascript:", " onload=", " onclick=", " onerror=", "<iframe", "http://", "https://"]
    {
        assert!(!text.contains(bad), "{bad}");
    }
}
