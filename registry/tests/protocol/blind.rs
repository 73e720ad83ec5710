//! A node whose store is away: it says what it knows, says that it does not know the rest, and comes back by itself.
//!
//! On Postgres alone: a node on SQLite sees as long as it runs.

use std::{collections::BTreeSet, time::Duration};

use registry_wire::ProblemType;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use testkit::{Postgres, StopMode, Stopwatch, wait_until};

use crate::{
    harness::{Answer, Node, PATIENCE, minimal, path},
    operator::{counter, grown, scrape_once},
};

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

/// While a store is away every sidecar there is comes again and again. Half of the time between two beats is soon
/// enough, as the lease will have all of its TTL; of an instance that it does not know a node cannot say so.
#[tokio::test]
async fn a_refused_beat_may_come_again_after_half_of_its_interval() {
    let postgres = Postgres::start();
    let node = Node::start(postgres.fresh_database().await, None, |_| {}).await;
    for (name, ttl) in [("short", 3), ("usual", 90), ("long", 3600)] {
        node.register("web", name, &json!({"endpoint": "http://h:1", "ttl_seconds": ttl})).await;
    }
    postgres.stop(StopMode::Immediate);
    until_blind(&node).await;
    for (name, seconds) in [("short", 1), ("usual", 15), ("long", 600), ("unknown", 1)] {
        let at = format!("{}/heartbeat", path("web", name));
        let answer = Answer::of(node.request("PUT", &at).json(&json!({}))).await;
        assert_eq!(answer.problem(ProblemType::Unavailable)["retry_after_seconds"], seconds, "{name}");
    }
    // What nobody does again and again of itself is worth a try at once.
    let drain = format!("{}/drain", path("web", "usual"));
    let answer = Answer::of(node.request("PUT", &drain).json(&json!({"reason": "r"}))).await;
    assert_eq!(answer.problem(ProblemType::Unavailable)["retry_after_seconds"], 1);
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
    let entry = node.get(&at).await;
    assert_eq!(entry.ok()["stale"], false, "{entry:?}");
    assert!((2..=3).contains(&entry.body["ttl_remaining"].as_u64().unwrap()), "{entry:?}");
    node.register("web", "b", &minimal()).await;
    wait_until(PATIENCE, "the breaker closes", async || !breaker(&node).await).await;
    assert_eq!(node.get_once("/health").await.ok()["status"], "healthy");
}

/// An empty list because *we* know nothing is no answer.
#[tokio::test]
async fn never_lists_nothing_for_its_own_sake() {
    let postgres = Postgres::start();
    let node = Node::start(postgres.fresh_database().await, None, |_| {}).await;
    assert_eq!(node.get("/services").await.ok(), &json!([]));
    postgres.stop(StopMode::Immediate);
    until_blind(&node).await;
    // Nor is it healthy in any way: it can answer no list.
    for path in ["/services", "/instances", "/services/web", "/services/web/instances/a", "/health"] {
        node.get_once(path).await.problem(ProblemType::Unavailable);
    }
    postgres.start_again();
    until_ready(&node).await;
    assert_eq!(node.get("/services").await.ok(), &json!([]));
    assert_eq!(node.get_once("/health").await.ok()["status"], "healthy");
}

/// What a request asks for may have come while this node could not see: nothing found is "I do not know".
#[tokio::test]
async fn nothing_found_is_no_answer_while_blind() {
    let postgres = Postgres::start();
    let node = Node::start(postgres.fresh_database().await, None, |_| {}).await;
    node.register("web", "bad", &json!({"endpoint": "http://h:1", "status": "critical"})).await;
    node.register("web", "out", &minimal()).await;
    node.put(&format!("{}/drain", path("web", "out")), &json!({"reason": "r"})).await.ok();
    let nothing = [
        "/instances?service=unknown",
        "/instances?status=warning",
        "/instances?meta.version=1",
        "/instances?service=web&meta.version=1",
        "/instances?after=zzz/a",
        "/services?after=zzz",
    ];
    let denied = ["/services/web", "/services/unknown", "/services/unknown?all=true"];
    for path in nothing {
        node.get(path).await.ok();
    }
    for path in denied {
        assert_eq!(node.get(path).await.status, 404, "{path}");
    }
    postgres.stop(StopMode::Immediate);
    until_blind(&node).await;
    for path in nothing.into_iter().chain(denied) {
        node.get_once(path).await.problem(ProblemType::Unavailable);
    }
    let all = node.get_once("/services/web?all=true").await;
    assert_eq!(all.ok()["instances"].as_array().unwrap().len(), 2, "{all:?}");
    assert_eq!(all.body.get("endpoint"), None, "{all:?}");
    let critical = node.get_once("/instances?status=critical").await;
    assert_eq!(critical.ok()["instances"][0]["instance_id"], "bad");
    assert_eq!(node.get_once("/health").await.ok()["status"], "degraded");
}

#[tokio::test]
async fn one_that_is_not_stale_is_picked_if_there_is_any() {
    let postgres = Postgres::start();
    let node = Node::start(postgres.fresh_database().await, None, |_| {}).await;
    let body =
        |instance: &str, ttl: u32| json!({"endpoint": format!("http://{instance}:1"), "ttl_seconds": ttl});
    for (service, instance, ttl) in
        [("one", "a", 3), ("one", "b", 3600), ("one", "c", 3), ("none", "a", 3), ("none", "b", 3)]
    {
        node.register(service, instance, &body(instance, ttl)).await;
    }
    postgres.stop(StopMode::Immediate);
    wait_until(PATIENCE, "all but one are stale", async || {
        let text = node.get_once("/instances").await.text;
        text.matches("\"stale\":true").count() == 4
    })
    .await;
    let picked = async |service: &str, listed: usize| {
        let mut picked = BTreeSet::new();
        // Each of two is missing from 100 picks once in 2^99.
        for _ in 0..100 {
            let answer = node.get_once(&format!("/services/{service}")).await;
            assert_eq!(answer.ok()["instances"].as_array().unwrap().len(), listed, "{answer:?}");
            picked.insert(answer.body["endpoint"].as_str().unwrap().to_owned());
        }
        picked.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(picked("one", 3).await, ["http://b:1"]);
    assert_eq!(picked("none", 2).await, ["http://a:1", "http://b:1"]);
}

#[tokio::test]
async fn what_it_does_not_know_counts_as_an_error() {
    let postgres = Postgres::start();
    let node = Node::start(postgres.fresh_database().await, None, |_| {}).await;
    postgres.stop(StopMode::Immediate);
    until_blind(&node).await;
    let at = path("web", "a");
    let flat = json!({"service_name": "web", "endpoint": "http://h:1"});
    for (method, path, operation) in [
        ("PUT", at.as_str(), "register"),
        ("POST", "/register", "register"),
        ("PUT", &format!("{at}/heartbeat"), "heartbeat"),
        ("POST", "/heartbeat", "heartbeat"),
        ("DELETE", &at, "deregister"),
        ("DELETE", "/deregister/web", "deregister"),
        ("GET", "/services", "list"),
        ("GET", "/services/web", "get"),
    ] {
        let before = scrape_once(&node).await;
        Answer::of(node.request(method, path).json(&flat)).await.problem(ProblemType::Unavailable);
        let after = scrape_once(&node).await;
        for status in ["success", "error", "not_found", "denied", "rejected"] {
            let grown = grown(&before, &after, &counter(operation, status));
            assert_eq!(grown, i64::from(status == "error"), "{method} {path}: {status} grew by {grown}");
        }
    }
}

/// Only the commit fails: the node sees, beats are acknowledged, and a change is not until it is in the store.
#[tokio::test]
async fn a_change_that_cannot_be_committed_is_not_acknowledged() {
    let url = Postgres::shared().fresh_database().await;
    let node = Node::start(url.clone(), None, |settings| settings.tick_ms = Some("1000".into())).await;
    let session = json!({"endpoint": "http://h:1", "session": "s"});
    node.register("web", "a", &session).await;
    let mut other = PgConnection::connect(&url).await.unwrap();
    for (case, breaks, mends, status) in [
        ("it hangs", "BEGIN; SELECT revision FROM head FOR UPDATE", "ROLLBACK", "critical"),
        (
            "it fails",
            "ALTER TABLE changes ADD CONSTRAINT never CHECK (false) NOT VALID",
            "ALTER TABLE changes DROP CONSTRAINT never",
            "warning",
        ),
    ] {
        let before = node.state().await;
        sqlx::raw_sql(breaks).execute(&mut other).await.unwrap();
        let beat = format!("{}/heartbeat", path("web", "a"));
        let change = json!({"session": "s", "status": status, "output": "HTTP 500"});
        for (method, path, body) in [
            ("PUT", beat.as_str(), &change),
            ("PUT", &path("web", "new"), &session),
            ("POST", "/register", &json!({"service_name": "flat", "endpoint": "http://h:1"})),
            ("PUT", &format!("{}/drain", path("web", "a")), &json!({"reason": "r"})),
            ("DELETE", &path("web", "a"), &json!(null)),
        ] {
            let begun = Stopwatch::start();
            let answer = Answer::of(node.request(method, path).json(body)).await;
            answer.problem(ProblemType::Unavailable);
            assert!(
                begun.elapsed() < Duration::from_secs(2),
                "{case}: {method} {path}: {:?}",
                begun.elapsed()
            );
            assert_ne!(answer.body["detail"], "This node cannot reach its store.", "{case}: it sees");
        }
        assert_eq!(node.get_once("/readyz").await.status, 200, "{case}");
        Answer::of(node.request("PUT", &beat).json(&json!({"session": "s"}))).await.ok();
        assert_eq!(node.state().await, before, "{case}");
        sqlx::raw_sql(mends).execute(&mut other).await.unwrap();
        node.beat("web", "a", &change).await.ok();
        let entry = node.get(&path("web", "a")).await;
        assert_eq!((&entry.ok()["status"], &entry.body["output"]), (&json!(status), &json!("HTTP 500")));
    }
}
