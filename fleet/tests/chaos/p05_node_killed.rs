//! P5: a node is killed, ten times, and no client sees an error.

use std::time::Duration;

use rand::Rng;
use tokio::time::sleep;

use crate::support::{Plan, is_error, scenario, through_nginx};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p05_ten_kills_of_nodes_are_seen_by_no_client() {
    let bound = Duration::from_secs(600);
    scenario(Plan::new("P5", bound), async |mut stage| {
        for _ in 0..10 {
            let node = stage.rng.random_range(stage.nodes());
            let calm = stage.scale.seconds(0.5, 5.0).mul_f64(stage.rng.random_range(0.0..1.0));
            sleep(calm).await;
            let down = stage.scale.seconds(0.5, 3.0).mul_f64(stage.rng.random_range(0.0..1.0));
            stage.kill_node(node, down).await;
        }
        let mut outcome = stage.end("10 × kill -9 of a node").await;
        outcome.none("client errors", |call| through_nginx(call) && is_error(call));
        outcome
    })
    .await;
}
