//! A node whose store is away: it says what it knows, says that it does not know the rest, and comes back by itself.
//!
//! On Postgres alone: a node on SQLite sees as long as it runs.

use registry_wire::ProblemType;
use serde_json::json;
use testkit::{Postgres, StopMode, wait_until};

use crate::harness::{Answer, Node, PATIENCE, minimal, path};

const READS: [&str; 5] =
    ["/services", "/services/web", "/services/web?all=true", "/services/web/instances/a", "/instances"];

async fn until_blind(node: &Node) {
    wait_until(PATIENCE, "the node is blind", async || node.get_once("/readyz").await.status == 503).await;
}

async fn until_ready(node: &Node) {
    wait_until(PATIENCE, "the node sees", async || node.get_once("/readyz").await.status == 200).await;
}

async fn breaker(node: &Node) -> bool {
    node.get_once("/metrics").await.text.contains("\nregistry_circuit_breaker_open 1\n")
}

/// The registry before this one restarted every node 474 times while its store was away, and its breaker never closed.
#[tokio::test]
async fn serves_what_it_knows_and_heals() {
    let postgres = Postgres::start();
    let node = Node::start(postgres.fresh_database().await, None, |_| {}).await;
    node.register("web", "a", &json!({"endpoint": "http://h:1", "session": "s", "ttl_seconds": 3})).await;
    postgres.stop(StopMode::Immediate);
    until_blind(&node).await;

    // Alive, so nobody restarts it; not ready, so balancers prefer others; ready enough for those that must have one.
    node.get_once("/livez").await.ok();
    node.get_once("/readyz").await.problem(ProblemType::Unavailable);
    node.get_once("/readyz?stale=ok").await.ok();
    assert_eq!(node.get_once("/health").await.ok()["status"], "degraded");
    wait_until(PATIENCE, "the breaker opens", async || breaker(&node).await).await;

    // What claims knowledge or writes is refused: another node may see.
    let (at, drain) = (path("web", "a"), format!("{}/drain", path("web", "a")));
    let beat = format!("{at}/heartbeat");
    let flat = json!({"service_name": "web", "endpoint": "http://h:1"});
    for (method, path, body) in [
        ("PUT", at.as_str(), minimal()),
        ("PUT", &path("web", "new"), minimal()),
        ("PUT", &beat, json!({"session": "s"})),
        ("PUT", &beat, json!({"session": "never"})),
        ("PUT", "/services/no/instances/no/heartbeat", json!({})),
        ("PUT", &drain, json!({"reason": "r"})),
        ("DELETE", &drain, json!({})),
        ("DELETE", &at, json!({})),
        ("POST", "/register", flat.clone()),
        ("POST", "/heartbeat", flat),
        ("DELETE", "/deregister/web", json!({})),
        ("GET", "/services/no", json!({})),
        ("GET", "/services/web/instances/no", json!({})),
    ] {
        let answer = Answer::of(node.request(method, path).json(&body)).await;
        answer.problem(ProblemType::Unavailable);
    }
    // A wrong field is wrong whoever sees.
    let answer = Answer::of(node.request("PUT", &at).json(&json!({}))).await;
    answer.blames(ProblemType::Invalid, "endpoint");

    // Reads go on, with their age; a request may ask for younger ones.
    wait_until(PATIENCE, "sight is two seconds old", async || {
        node.get_once("/services").await.header("age").parse::<u64>().unwrap() >= 2
    })
    .await;
    for path in READS {
        node.get_once(path).await.ok();
        for (value, fresh_enough) in [
            ("max-age=1", false),
            ("max-age=600, max-age=1", false),
            ("no-cache, max-age=1", false),
            ("max-age=0", true),
            ("no-cache", true),
            ("max-age=600", true),
        ] {
            let answer = Answer::of(node.request("GET", path).header("cache-control", value)).await;
            if fresh_enough {
                answer.ok();
            } else {
                answer.problem(ProblemType::Unavailable);
            }
        }
    }
    // A TTL passes: nothing ends while nobody can say so, but it is marked.
    wait_until(PATIENCE, "the entry is stale", async || {
        let entry = node.get_once(&at).await;
        entry.ok()["stale"] == true && entry.body["ttl_remaining"] == 0
    })
    .await;
    assert_eq!(node.get_once("/services").await.ok(), &json!(["web"]));
    assert_eq!(node.get_once("/services/web").await.ok()["endpoint"], "http://h:1");

    // The store is back: so is the node, with everything, the silent ones included for one more TTL.
    postgres.start_again();
    until_ready(&node).await;
    node.beat("web", "a", &json!({"session": "s"})).await.ok();
    let entry = node.get_once(&at).await;
    assert_eq!((&entry.ok()["stale"], &entry.body["ttl_remaining"]), (&json!(false), &json!(3)));
    node.register("web", "b", &minimal()).await;
    wait_until(PATIENCE, "the breaker closes", async || !breaker(&node).await).await;
    assert_eq!(node.get_once("/health").await.ok()["status"], "healthy");
}

/// An empty list because *we* know nothing is no answer.
#[tokio::test]
async fn never_lists_nothing_for_its_own_sake() {
    let postgres = Postgres::start();
    let node = Node::start(postgres.fresh_database().await, None, |_| {}).await;
    assert_eq!(node.get_once("/services").await.ok(), &json!([]));
    postgres.stop(StopMode::Immediate);
    until_blind(&node).await;
    for path in ["/services", "/instances", "/services/web", "/services/web/instances/a"] {
        node.get_once(path).await.problem(ProblemType::Unavailable);
    }
    postgres.start_again();
    until_ready(&node).await;
    assert_eq!(node.get_once("/services").await.ok(), &json!([]));
}
