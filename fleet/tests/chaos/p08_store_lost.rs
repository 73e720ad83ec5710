//! P8: the store loses everything, and all nodes restart. It heals by itself.

use std::time::Duration;

use fleet::FaultKind;
use testkit::{Sql, wait_until};
use tokio::time::Instant;

use crate::support::{Plan, scenario};

/// Beyond an interval between two beats.
const PROMISED: Duration = Duration::from_secs(7);

const TRUNCATE: &str =
    "TRUNCATE head, instances, leases, changes, ended_sessions, beats, writers RESTART IDENTITY";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p08_a_store_that_lost_everything_heals_by_itself() {
    scenario(Plan::new("P8", Duration::from_secs(600)), async |stage| {
        let all = stage.everybody();
        let history = stage.fleet.history();
        let fault = history.fault(FaultKind::StoreLost);
        for node in stage.nodes() {
            stage.node(node).kill_9().await;
        }
        let mut sql = Sql::open(&stage.cluster.database).await;
        sql.run(TRUNCATE).await;
        history.held(fault);
        history.lifting(fault);
        stage.nodes().for_each(|node| stage.node(node).start());
        let started = Instant::now();
        for node in stage.nodes() {
            let node = stage.direct(node);
            wait_until(stage.scale.interval * 4 + PROMISED, "everybody is listed", async || {
                node.listed().await.is_some_and(|listed| listed.is_superset(&all))
            })
            .await;
        }
        let took = started.elapsed();
        stage.cluster.ready().await;
        history.over(fault);
        let most = stage.scale.interval + PROMISED;
        let mut outcome = stage.end("every table truncated, all nodes killed and started").await;
        outcome.at_most("everybody listed after", took, most);
        outcome
    })
    .await;
}
