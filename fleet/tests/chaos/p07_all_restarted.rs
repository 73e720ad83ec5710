//! P7: all nodes restart at once; nobody is missing for long, and no list is ever empty.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{Instant, sleep};

use crate::support::{Client, Plan, scenario};

/// From the start of the nodes until each lists everybody.
const PROMISED: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p07_when_all_nodes_restart_at_once_everybody_is_listed_soon() {
    let bound = Duration::from_secs(600);
    scenario(Plan::new("P7", bound), async |stage| {
        let all = stage.everybody();
        let mut longest = Duration::ZERO;
        let mut partial = Vec::new();
        for _ in 0..stage.scale.pick(3, 5) {
            stage
                .harm_store(
                    async || {
                        for node in stage.nodes() {
                            stage.node(node).kill_9().await;
                        }
                    },
                    async || {},
                    async || {
                        stage.nodes().for_each(|node| stage.node(node).start());
                        let starts: Vec<_> = stage
                            .nodes()
                            .map(|node| tokio::spawn(first_answers(stage.direct(node), all.clone())))
                            .collect();
                        for start in starts {
                            let (took, wrong) = start.await.unwrap();
                            longest = longest.max(took);
                            partial.extend(wrong);
                        }
                    },
                )
                .await;
        }
        let mut outcome = stage.end("kill -9 of all nodes at once, all started again").await;
        outcome.at_most("everybody listed after", longest, PROMISED);
        outcome.figure(format!("{} first lists that lack somebody", partial.len()));
        outcome.expect(partial.is_empty(), || format!("first lists of {} had {partial:?}", all.len()));
        outcome
    })
    .await;
}

/// Asks a node that starts for everything, without a pause, until it lists everybody: how long that took, and how long
/// each list was that it gave before.
async fn first_answers(node: Client, all: BTreeSet<String>) -> (Duration, Vec<usize>) {
    let started = Instant::now();
    let mut partial = Vec::new();
    while started.elapsed() < PROMISED * 4 {
        match node.listed().await {
            Some(listed) if listed.is_superset(&all) => break,
            Some(listed) => partial.push(listed.intersection(&all).count()),
            None => sleep(Duration::from_millis(1)).await,
        }
    }
    (started.elapsed(), partial)
}
