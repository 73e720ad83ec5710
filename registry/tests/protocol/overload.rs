//! More changes at once than the store takes.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use registry_wire::ProblemType;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    harness::{Answer, Node, PATIENCE, Store, minimal, path},
    operator::{counter, grown, scrape_once},
};

both!(changes_beyond_the_queue_are_refused, refusals_count_as_rejected, beats_are_never_refused_for_changes);

/// Registrations sent at once, where a single one may wait.
const AT_ONCE: usize = 40;

/// Sends registrations of instances `{round}-0`, `{round}-1`, … at once.
async fn burst(node: &Node, round: usize) -> Vec<(String, Answer)> {
    join_all((0..AT_ONCE).map(async |number| {
        let instance = format!("{round}-{number}");
        let request = node.request("PUT", &path("web", &instance)).json(&minimal());
        (instance, Answer::of(request).await)
    }))
    .await
}

/// Bursts until one of them has a refusal among its answers.
async fn overloaded(node: &Node) -> Vec<(String, Answer)> {
    let begun = Instant::now();
    let mut answers = Vec::new();
    for round in 0.. {
        answers.extend(burst(node, round).await);
        if answers.iter().any(|(_, answer)| answer.status == 429) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{} registrations, and none was refused", answers.len());
    }
    answers
}

async fn changes_beyond_the_queue_are_refused(store: Store) {
    let node = store.node_with_queue(1).await;
    let mut taken = BTreeSet::new();
    let mut unknown = BTreeSet::new();
    for (instance, answer) in overloaded(&node).await {
        match answer.status {
            201 => drop(taken.insert(instance)),
            // Refused for a blink of blindness on a busy machine.
            503 => drop(unknown.insert(instance)),
            _ => drop(answer.problem(ProblemType::Overloaded)),
        }
    }
    // What was refused left nothing behind; what was taken is there.
    let listed = node.get("/instances?service=web&limit=1000").await;
    let listed: BTreeSet<String> = listed.ok()["instances"]
        .as_array()
        .unwrap()
        .iter()
        .map(|instance| instance["instance_id"].as_str().unwrap().to_owned())
        .filter(|instance| !unknown.contains(instance))
        .collect();
    assert_eq!(listed, taken);
}

async fn refusals_count_as_rejected(store: Store) {
    let node = store.node_with_queue(1).await;
    let before = scrape_once(&node).await;
    let answers = overloaded(&node).await;
    let after = scrape_once(&node).await;
    for (status, code) in [("success", 201), ("rejected", 429), ("error", 503)] {
        let answered = answers.iter().filter(|(_, answer)| answer.status == code).count();
        let counted = grown(&before, &after, &counter("register", status));
        assert_eq!(usize::try_from(counted).unwrap(), answered, "{status}");
    }
}

async fn beats_are_never_refused_for_changes(store: Store) {
    let node = store.node_with_queue(1).await;
    node.register("web", "beating", &minimal()).await;
    // With another status each time, too: such a beat is a change, and waits for its commit among others.
    let beats = async {
        let mut beats = Vec::new();
        for status in ["warning", "passing"].into_iter().cycle().take(50) {
            beats.push(node.beat("web", "beating", &json!({})).await.status);
            beats.push(node.beat("web", "beating", &json!({"status": status})).await.status);
        }
        beats
    };
    let (answers, beats) = tokio::join!(overloaded(&node), beats);
    assert!(answers.iter().any(|(_, answer)| answer.status == 429));
    assert_eq!(beats, vec![200; 100]);
}
