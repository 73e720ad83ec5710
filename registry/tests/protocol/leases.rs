//! What time does to an entry. Leases of 3 s, the shortest there are; nothing here waits for longer than one.

use std::{collections::BTreeMap, time::Duration};

use registry_wire::ProblemType;
use serde_json::{Value, json};
use testkit::{Stopwatch, wait_until};
use tokio::time::{Instant, sleep};

use crate::harness::{Node, PATIENCE, Store, TICK_MS, path};

both!(
    hidden_within_a_second_and_a_half_of_its_ttl,
    an_entry_whose_lease_has_ended_is_gone,
    the_last_that_went_is_named,
    a_beat_of_a_hidden_entry_revives_it,
    after_the_lease_a_registration_is_new,
    beats_keep_an_entry,
    a_registration_counts_the_lease_anew,
    what_the_operator_does_is_no_beat,
    entries_survive_a_restart,
);

fn short(session: &str) -> Value {
    json!({"endpoint": "http://h:1", "ttl_seconds": 3, "session": session})
}

/// Ticks so long that no sweep removes an entry while a test looks: what hides it then is the reader.
fn no_sweep(settings: &mut registry::config::Settings) {
    settings.tick_ms = Some("2000".into());
}

async fn listed(node: &Node, service: &str) -> bool {
    let names = node.get("/services").await;
    names.status == 200 && names.body.as_array().unwrap().contains(&json!(service))
}

/// Waits until a service is not listed any more. Returns how long its last lease was.
async fn until_hidden(node: &Node, service: &str, since: Instant) -> Duration {
    wait_until(PATIENCE, "the lease ends", async || !listed(node, service).await).await;
    since.elapsed()
}

/// With the tick that users have.
async fn hidden_within_a_second_and_a_half_of_its_ttl(store: Store) {
    const TTL: Duration = Duration::from_secs(3);
    const BOUND: Duration = Duration::from_millis(1500);
    /// A look that takes longer was held up by the machine, which holds up the node as well: it runs in this thread.
    const LOOK: Duration = Duration::from_millis(100);
    let node = store.node_with(|settings| settings.tick_ms = Some("1000".into())).await;
    let mut leases = BTreeMap::new();
    // Spread over a tick, so that some end just after one.
    for number in 0..10 {
        let begun = Instant::now();
        node.register(&format!("s{number}"), "a", &short("s")).await;
        leases.insert(format!("s{number}"), (begun + TTL, Instant::now() + TTL + BOUND));
        sleep(LOOK).await;
    }
    let mut held_up = Duration::ZERO;
    while !leases.is_empty() {
        let asked = Instant::now();
        sleep(Duration::from_millis(10)).await;
        let begun = Instant::now();
        let listed = node.get_once("/services").await;
        let listed: Vec<String> = serde_json::from_value(listed.ok().clone()).unwrap();
        held_up += asked.elapsed().saturating_sub(LOOK);
        leases.retain(|service, (earliest, latest)| {
            let there = listed.contains(service);
            assert!(there || Instant::now() >= *earliest, "{service} is hidden before its TTL");
            let late = begun.saturating_duration_since(*latest + held_up);
            assert!(!there || late.is_zero(), "{service} is listed {:?} after its TTL", late + BOUND);
            there
        });
    }
}

async fn an_entry_whose_lease_has_ended_is_gone(store: Store) {
    let node = store.node().await;
    let begun = Instant::now();
    node.register("web", "a", &short("s")).await;
    let took = until_hidden(&node, "web", begun).await;
    assert!(took >= Duration::from_secs(3), "hidden after {took:?}");
    // Hidden everywhere at once, before and after its removal, and the same is said of it.
    let removed = async || {
        let metrics = node.get("/metrics").await.text;
        metrics.contains("registry_changes_total{kind=\"expire\"} 1")
    };
    let mut seen_removed = false;
    wait_until(PATIENCE, "the entry is removed", async || {
        seen_removed = removed().await;
        let reason = "no heartbeat for 3 s";
        let watch = Stopwatch::start();
        let instance = node.get(&path("web", "a")).await;
        let service = node.get("/services/web").await;
        let all = node.get("/services/web?all=true").await;
        // On a busy machine the node may be blind for a moment, and then knows nothing.
        if [&instance, &service, &all].into_iter().all(|answer| answer.status == 404) {
            instance.gone(ProblemType::UnknownInstance, "expired", reason);
            service.gone(ProblemType::UnknownService, "expired", reason);
            all.gone(ProblemType::UnknownService, "expired", reason);
            assert!(service.body["detail"].as_str().unwrap().contains("'a'"), "{service:?}");
        }
        let listed = node.get("/instances").await.ok()["instances"].clone();
        // A node that stood still with its machine for three ticks was blind, and lists what it is not sure of.
        let blind = watch.longest_stall() > Duration::from_millis(TICK_MS);
        assert!(listed == json!([]) || blind, "{listed}");
        seen_removed
    })
    .await;
    // Its beats say "register again" once it is removed, and its session may: it had not ended.
    node.beat("web", "a", &json!({"session": "s"})).await.problem(ProblemType::UnknownInstance);
    node.register("web", "a", &short("s")).await;
}

/// What a 404 says of a service is said of its last instance, however that went.
async fn the_last_that_went_is_named(store: Store) {
    let node = store.node_with(no_sweep).await;
    let named = async |instance: &str, state: &str| {
        let answer = node.get("/services/web").await;
        let body = answer.problem(ProblemType::UnknownService);
        assert_eq!(body["state"], state, "{answer:?}");
        assert!(body["detail"].as_str().unwrap().contains(&format!("'{instance}'")), "{answer:?}");
    };
    // The later one has the smaller name, and was registered first.
    for instance in ["a", "b"] {
        node.register("web", instance, &json!({"endpoint": "http://h:1"})).await;
    }
    assert_eq!(node.delete(&path("web", "b")).await.status, 204);
    assert_eq!(node.delete(&path("web", "a")).await.status, 204);
    named("a", "deregistered").await;
    // One whose lease has ended and which nobody has removed yet went later than those.
    let begun = Instant::now();
    node.register("web", "c", &short("s")).await;
    until_hidden(&node, "web", begun).await;
    named("c", "expired").await;
    // But not later than one that is deregistered after its end.
    node.register("web", "b", &json!({"endpoint": "http://h:1"})).await;
    assert_eq!(node.delete(&path("web", "b")).await.status, 204);
    named("b", "deregistered").await;
    let metrics = node.get("/metrics").await.text;
    assert!(metrics.contains("registry_changes_total{kind=\"expire\"} 0"), "hidden, not removed");
}

async fn a_beat_of_a_hidden_entry_revives_it(store: Store) {
    let node = store.node_with(no_sweep).await;
    for round in 0..2 {
        let begun = Instant::now();
        if round == 0 {
            node.register("web", "a", &short("s")).await;
        } else {
            node.beat("web", "a", &json!({"session": "s"})).await.ok();
        }
        // Sight may lag by a tick on Postgres.
        until_hidden(&node, "web", begun).await;
        node.beat("web", "a", &json!({"session": "s"})).await.ok();
        let entry = node.get(&path("web", "a")).await;
        assert_eq!(entry.ok()["stale"], false, "{entry:?}");
        assert!((2..=3).contains(&entry.body["ttl_remaining"].as_u64().unwrap()), "{entry:?}");
        assert!(listed(&node, "web").await);
    }
    // The row was there all the time: nothing was removed and put back.
    let metrics = node.get("/metrics").await.text;
    assert!(metrics.contains("registry_changes_total{kind=\"revive\"} 0"), "{metrics}");
}

async fn after_the_lease_a_registration_is_new(store: Store) {
    // Once while the row is still there, once after it went.
    for swept in [false, true] {
        let node = if swept { store.node().await } else { store.node_with(no_sweep).await };
        let begun = Instant::now();
        let first = node.register("web", "a", &short("s")).await;
        node.put(&format!("{}/drain", path("web", "a")), &json!({"reason": "r"})).await.ok();
        until_hidden(&node, "web", begun).await;
        if swept {
            wait_until(PATIENCE, "the entry is removed", async || {
                node.get("/metrics").await.text.contains("registry_changes_total{kind=\"expire\"} 1")
            })
            .await;
        } else {
            let metrics = node.get("/metrics").await.text;
            assert!(metrics.contains("registry_changes_total{kind=\"expire\"} 0"), "hidden, not removed");
            node.get(&path("web", "a")).await.gone(
                ProblemType::UnknownInstance,
                "expired",
                "no heartbeat for 3 s",
            );
        }
        let again = node.register("web", "a", &short("s")).await;
        assert!(again["registered_at"].as_f64() > first["registered_at"].as_f64(), "swept: {swept}");
        assert_eq!(again["draining"], false, "the operator's drain ended with the entry");
        assert!(listed(&node, "web").await);
    }
}

async fn beats_keep_an_entry(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &short("s")).await;
    node.register("web", "b", &short("s")).await;
    let begun = Instant::now();
    // `b` is silent and goes; `a` outlives two leases and is in every answer.
    wait_until(PATIENCE, "two leases have passed", async || {
        assert_eq!(node.beat("web", "a", &json!({"session": "s"})).await.status, 200);
        let entry = node.get(&path("web", "a")).await;
        assert_eq!(entry.ok()["stale"], false);
        assert!((2..=3).contains(&entry.body["ttl_remaining"].as_u64().unwrap()), "{entry:?}");
        let service = node.get("/services/web").await;
        assert!(service.ok()["instances"].to_string().contains("\"instance_id\":\"a\""), "{service:?}");
        begun.elapsed() > Duration::from_secs(6) && node.get(&path("web", "b")).await.status == 404
    })
    .await;
}

async fn a_registration_counts_the_lease_anew(store: Store) {
    let node = store.node().await;
    node.register("web", "long", &json!({"endpoint": "http://h:1", "ttl_seconds": 3600})).await;
    node.register("web", "short", &short("s")).await;
    // Longer: it outlives its old lease. Shorter: it does not live out its old one.
    let longer =
        node.put(&path("web", "short"), &json!({"endpoint": "http://h:1", "ttl_seconds": 3600})).await;
    assert_eq!(longer.ok()["ttl_remaining"], 3600);
    let begun = Instant::now();
    let shorter = node.put(&path("web", "long"), &short("s")).await;
    assert_eq!(shorter.ok()["ttl_remaining"], 3);
    wait_until(PATIENCE, "the shorter lease ends", async || {
        node.get(&path("web", "long")).await.status == 404
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_secs(3));
    let remaining = node.get(&path("web", "short")).await.ok()["ttl_remaining"].as_u64().unwrap();
    assert!((3570..=3597).contains(&remaining), "{remaining}");
}

async fn what_the_operator_does_is_no_beat(store: Store) {
    let node = store.node().await;
    let begun = Instant::now();
    node.register("web", "a", &short("s")).await;
    let drain = format!("{}/drain", path("web", "a"));
    let mut drained = 0;
    wait_until(PATIENCE, "the lease ends although it is drained all the time", async || {
        drained += u32::from(node.put(&drain, &json!({"reason": "r"})).await.status == 200);
        !listed(&node, "web").await
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_secs(3) && drained > 1, "{drained} drains");
}

async fn entries_survive_a_restart(store: Store) {
    let dir = testkit::memory_dir();
    let url = match store {
        Store::Sqlite => format!("sqlite://{}/registry.db", dir.path().display()),
        Store::Postgres => testkit::Postgres::shared().fresh_database().await,
    };
    let node = Node::start(url.clone(), None, |_| {}).await;
    let body = json!({"endpoint": "http://h:1", "session": "s", "metadata": {"v": 1}, "status": "warning"});
    node.register("web", "a", &body).await;
    node.register("web", "b", &json!({"endpoint": "http://h:2", "session": "old"})).await;
    node.put(&path("web", "b"), &json!({"endpoint": "http://h:2", "session": "new"})).await.ok();
    node.put(&format!("{}/drain", path("web", "b")), &json!({"reason": "r"})).await.ok();
    node.register("db", "c", &json!({"endpoint": "http://h:3", "session": "s"})).await;
    assert_eq!(node.delete(&path("db", "c")).await.status, 204);
    let before = node.state().await;
    node.end().await;
    let node = Node::start(url, Some(dir), |_| {}).await;
    assert_eq!(node.state().await, before);
    node.beat("web", "a", &json!({"session": "s"})).await.ok();
    // It also knows who ended and what went.
    node.beat("web", "b", &json!({"session": "old"})).await.problem(ProblemType::Superseded);
    node.put(&path("db", "c"), &json!({"endpoint": "http://h:3", "session": "s"}))
        .await
        .problem(ProblemType::Superseded);
    let gone = node.get(&path("db", "c")).await;
    gone.gone(ProblemType::UnknownInstance, "deregistered", "deregistered by a client");
}
