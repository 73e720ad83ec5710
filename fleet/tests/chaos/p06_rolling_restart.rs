//! P6: a rolling restart is seen by no client.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Plan, is_error, scenario, through_nginx};

/// From SIGTERM to the end of the process.
const EXIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p06_a_rolling_restart_is_seen_by_no_client() {
    let bound = Duration::from_secs(600);
    scenario(Plan::new("P6", bound), async |stage| {
        let mut longest = Duration::ZERO;
        let mut ends = Vec::new();
        for node in stage.nodes() {
            stage
                .harm_node(
                    node,
                    async |node| {
                        let asked = Instant::now();
                        ends.push(node.stop().await);
                        longest = longest.max(asked.elapsed());
                    },
                    Duration::ZERO,
                    async |node| node.start(),
                )
                .await;
        }
        let mut outcome = stage.end("SIGTERM and start of each node in turn").await;
        outcome.none("client errors", |call| through_nginx(call) && is_error(call));
        outcome.at_most("longest exit", longest, EXIT);
        outcome.expect(ends.iter().all(std::process::ExitStatus::success), || format!("ends: {ends:?}"));
        outcome
    })
    .await;
}
