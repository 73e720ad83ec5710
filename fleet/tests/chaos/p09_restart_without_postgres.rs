//! P9: all nodes restart while Postgres is away: they say that they do not know, and recover by themselves.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use testkit::wait_until;
use tokio::time::{Instant, sleep};

use crate::support::{Plan, crash, scenario, start_again};

/// From the return of Postgres until each node lists everybody.
const PROMISED: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p09_nodes_that_start_without_postgres_say_that_they_do_not_know() {
    let bound = Duration::from_secs(600);
    scenario(Plan::new("P9", bound), async |stage| {
        let all = stage.everybody();
        let time = stage.scale.seconds(4.0, 30.0);
        let mut wrong = Vec::new();
        let mut longest = Duration::ZERO;
        stage
            .harm_store(
                async || {
                    crash(&stage.postgres, false);
                    for node in stage.nodes() {
                        stage.node(node).kill_9().await;
                    }
                },
                async || {
                    stage.nodes().for_each(|node| stage.node(node).start());
                    for node in stage.nodes() {
                        stage.node(node).blind().await;
                    }
                    let begun = Instant::now();
                    while begun.elapsed() < time {
                        for node in stage.nodes() {
                            let client = stage.direct(node);
                            let beat =
                                format!("/services/{}/heartbeat", stage.name(0).replace('/', "/instances/"));
                            for (method, path, body) in [
                                (Method::GET, "/readyz", None),
                                (Method::GET, "/services", None),
                                (Method::GET, "/instances", None),
                                (Method::PUT, beat.as_str(), Some(json!({ "status": "passing" }))),
                            ] {
                                let status = client
                                    .call(method.clone(), path, body.as_ref())
                                    .await
                                    .map(|reply| reply.status);
                                if status != Some(503) {
                                    wrong.push(format!("node {node}: {method} {path}: {status:?}"));
                                }
                            }
                        }
                        sleep(stage.scale.tick).await;
                    }
                },
                async || {
                    start_again(&stage.postgres);
                    let back = Instant::now();
                    for node in stage.nodes() {
                        let node = stage.direct(node);
                        wait_until(PROMISED * 4, "everybody is listed", async || {
                            node.listed().await.is_some_and(|listed| listed.is_superset(&all))
                        })
                        .await;
                    }
                    longest = back.elapsed();
                },
            )
            .await;
        let fault = format!("all nodes killed and started while Postgres is away for {} s", time.as_secs());
        let mut outcome = stage.end(&fault).await;
        outcome.figure(format!("{} answers other than 503 meanwhile", wrong.len()));
        outcome.expect(wrong.is_empty(), || format!("answers without Postgres: {wrong:?}"));
        outcome.at_most("everybody listed after", longest, PROMISED);
        outcome
    })
    .await;
}
