//! Mass death: too many that fall silent at once stay in the answers. Leases of 3 s, the shortest there are.

use std::time::Duration;

use registry_wire::ProblemType;
use serde_json::{Value, json};
use testkit::wait_until;
use tokio::time::Instant;

use crate::harness::{Node, PATIENCE, Store, path};

both!(
    three_of_four_are_held_and_then_let_go,
    who_beats_while_held_is_alive_and_was_never_missing,
    a_restart_during_a_hold_forgets_nobody,
    two_of_two_and_those_that_never_beat_go_as_ever,
);

const TTL: Duration = Duration::from_secs(3);

/// A TTL, and two of hold.
const HELD: Duration = Duration::from_secs(9);

/// A node that was blind for a moment on a busy machine counts everything anew.
const TO_THE_END: Duration = PATIENCE.saturating_mul(3);

fn short() -> Value {
    json!({"endpoint": "http://h:1", "ttl_seconds": 3, "session": "s"})
}

async fn beat(node: &Node, instance: &str) {
    node.beat("web", instance, &json!({"session": "s"})).await.ok();
}

/// The instances that a list names, and those of them that are stale; `None` while the node cannot say.
async fn listed(node: &Node) -> Option<(Vec<String>, Vec<String>)> {
    let answer = node.get_once("/services/web").await;
    let instances = match answer.status {
        200 => answer.body["instances"].as_array().unwrap().clone(),
        404 => Vec::new(),
        _ => return None,
    };
    let names = |of: &dyn Fn(&Value) -> bool| {
        let chosen = instances.iter().filter(|instance| of(instance));
        chosen.map(|instance| instance["instance_id"].as_str().unwrap().to_owned()).collect()
    };
    Some((names(&|_| true), names(&|instance| instance["stale"] == true)))
}

async fn metric(node: &Node, name: &str) -> String {
    let text = node.get("/metrics").await.text;
    let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name}: {text}")).rsplit_once(' ').unwrap().1.to_owned()
}

async fn three_of_four_are_held_and_then_let_go(store: Store) {
    let node = store.node().await;
    for instance in ["a", "b", "c", "d"] {
        node.register("web", instance, &short()).await;
    }
    let silent = Instant::now();
    for instance in ["a", "b", "c"] {
        beat(&node, instance).await;
    }
    let mut seen_held = false;
    wait_until(TO_THE_END, "all three are let go", async || {
        beat(&node, "d").await;
        let Some((all, stale)) = listed(&node).await else { return false };
        let elapsed = silent.elapsed();
        assert!(all.contains(&"d".to_owned()) && !stale.contains(&"d".to_owned()), "{all:?} {stale:?}");
        assert!(all.len() == 4 || elapsed >= HELD, "after {elapsed:?} only {all:?}");
        if stale.len() == 3 && !seen_held {
            seen_held = true;
            assert!(elapsed >= TTL);
            // Handed out last, shown as what it is, and told to who asks.
            for _ in 0..5 {
                let service = node.get("/services/web").await;
                assert_eq!(service.ok()["ttl_remaining"].as_u64().map(|left| left > 0), Some(true));
            }
            let held = node.get(&path("web", "a")).await;
            assert_eq!((&held.ok()["stale"], &held.body["ttl_remaining"]), (&json!(true), &json!(0)));
            let shown = async || {
                let health = node.get("/health").await.ok().clone();
                health["status"] == "degraded"
                    && health["brake_engaged"] == true
                    && health["held"] == 3
                    && node.get("/readyz").await.ok() == &json!({"status": "ready", "held": 3})
                    && metric(&node, "registry_held_entries").await == "3"
                    && metric(&node, "registry_silent_entries").await == "3"
                    && metric(&node, "registry_brake_engaged").await == "1"
            };
            wait_until(TO_THE_END, "operators are shown it", shown).await;
        }
        all.len() == 1
    })
    .await;
    assert!(seen_held);
    // Hidden first and then removed, with the same words.
    for _ in 0..2 {
        let gone = node.get(&path("web", "a")).await;
        let problem = gone.problem(ProblemType::UnknownInstance);
        assert_eq!(problem["state"], "expired");
        let reason = problem["reason"].as_str().unwrap();
        let held = reason.strip_prefix("no heartbeat for 3 s, and let go after a hold of ").unwrap();
        let seconds: u64 = held.strip_suffix(" s").unwrap().parse().unwrap();
        assert!((6..20).contains(&seconds), "{reason}");
        let removed = async || metric(&node, "registry_let_go_total").await == "3";
        wait_until(PATIENCE, "they are removed", removed).await;
    }
    // A node that was blind for a moment begins again, and says so again.
    for kind in ["hold", "release", "expire"] {
        let count = metric(&node, &format!("registry_changes_total{{kind=\"{kind}\"}}")).await;
        assert!((1..=3).contains(&count.parse().unwrap()), "{kind}: {count}");
    }
    beat(&node, "d").await;
    let over = async || node.get("/health").await.ok()["status"] == "healthy";
    wait_until(PATIENCE, "the brake is off", over).await;
    assert_eq!(metric(&node, "registry_brake_engaged").await, "0");
}

async fn who_beats_while_held_is_alive_and_was_never_missing(store: Store) {
    let node = store.node().await;
    for instance in ["a", "b", "c"] {
        node.register("web", instance, &short()).await;
        beat(&node, instance).await;
    }
    let whole = async || {
        let (all, stale) = listed(&node).await?;
        assert_eq!(all.len(), 3, "never missing: {all:?}");
        Some(stale.len())
    };
    // A list may show an entry as stale in the moment before it ends; held is what stays so.
    wait_until(TO_THE_END, "all three are held", async || {
        whole().await == Some(3) && node.get("/health").await.ok()["held"] == 3
    })
    .await;
    // One comes back by a beat, one by another registration, which replaces what is there.
    beat(&node, "a").await;
    assert_eq!(node.get(&path("web", "a")).await.ok()["stale"], false);
    assert_eq!(node.put(&path("web", "b"), &short()).await.status, 200);
    beat(&node, "c").await;
    let back = Instant::now();
    wait_until(PATIENCE, "a TTL has passed and nothing is left of it", async || {
        for instance in ["a", "b", "c"] {
            beat(&node, instance).await;
        }
        let stale = whole().await;
        assert_ne!(stale, Some(3));
        let health = node.get("/health").await.ok().clone();
        back.elapsed() > TTL && health["status"] == "healthy" && health["held"] == 0
    })
    .await;
    assert_eq!(metric(&node, "registry_changes_total{kind=\"expire\"}").await, "0");
    assert_eq!(metric(&node, "registry_changes_total{kind=\"release\"}").await, "0");
}

async fn a_restart_during_a_hold_forgets_nobody(store: Store) {
    let dir = testkit::memory_dir();
    let url = match store {
        Store::Sqlite => format!("sqlite://{}/registry.db", dir.path().display()),
        Store::Postgres => testkit::Postgres::shared().fresh_database().await,
    };
    let mut node = Node::start(url.clone(), None, |_| {}).await;
    for instance in ["a", "b", "c"] {
        node.register("web", instance, &short()).await;
        beat(&node, instance).await;
    }
    // Held, and held again by the node that comes after: it knows from the store that they have beaten.
    for restarted in [false, true] {
        if restarted {
            node.end().await;
            node = Node::start(url.clone(), None, |_| {}).await;
        }
        wait_until(TO_THE_END, "all three are held", async || {
            if let Some((all, stale)) = listed(&node).await {
                assert_eq!(all.len(), 3, "never missing: {all:?}");
                assert!(!restarted || stale.len() == 3, "it is known when they were seen last: {stale:?}");
            }
            node.get("/health").await.ok()["held"] == 3
        })
        .await;
    }
    for instance in ["a", "b", "c"] {
        beat(&node, instance).await;
        assert_eq!(node.get(&path("web", instance)).await.ok()["stale"], false);
    }
}

async fn two_of_two_and_those_that_never_beat_go_as_ever(store: Store) {
    let node = store.node().await;
    let begun = Instant::now();
    for instance in ["a", "b", "c", "d", "e"] {
        node.register("web", instance, &short()).await;
    }
    for instance in ["a", "b"] {
        beat(&node, instance).await;
    }
    wait_until(PATIENCE, "all are gone", async || listed(&node).await.is_some_and(|(all, _)| all.is_empty()))
        .await;
    assert!(begun.elapsed() >= TTL, "{:?}", begun.elapsed());
    assert_eq!(metric(&node, "registry_changes_total{kind=\"hold\"}").await, "0");
}
