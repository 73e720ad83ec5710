//! All together: kills, a rolling restart and a dead Postgres under mixed load.

use std::time::Duration;

use fleet::history::{Act, What};
use rand::Rng;
use tokio::time::sleep;

use crate::support::{Plan, crash, is_error, is_read, scenario, start_again, through_nginx};

/// After the return of Postgres writes may be refused for this long.
const SETTLED: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grand_kills_restarts_and_a_dead_postgres_fail_no_read() {
    scenario(Plan::new("grand", Duration::from_secs(1200)), async |mut stage| {
        for _ in 0..10 {
            let node = stage.rng.random_range(stage.nodes());
            sleep(stage.scale.seconds(0.3, 5.0).mul_f64(stage.rng.random_range(0.0..1.0))).await;
            let down = stage.scale.seconds(0.3, 3.0).mul_f64(stage.rng.random_range(0.0..1.0));
            stage.kill_node(node, down).await;
        }
        for node in stage.nodes() {
            stage
                .harm_node(
                    node,
                    async |node| assert!(node.stop().await.success()),
                    Duration::ZERO,
                    async |node| node.start(),
                )
                .await;
        }
        let time = stage.scale.seconds(6.0, 60.0);
        let away = stage.fleet.history().now();
        let mut back = away;
        let ready = stage
            .harm_store(
                async || crash(&stage.postgres, true),
                async || sleep(time).await,
                async || {
                    start_again(&stage.postgres);
                    back = stage.fleet.history().now();
                },
            )
            .await;
        let settled = back.plus(SETTLED);
        let fault = format!("10 × kill -9, a rolling restart, Postgres dead for {} s", time.as_secs());
        let mut outcome = stage.end(&fault).await;
        outcome.figure(format!("all nodes ready {:.1} s after Postgres", ready.as_secs_f64()));
        outcome.none("failed reads", |call| through_nginx(call) && is_read(call) && is_error(call));
        outcome.none("other client errors", |call| {
            let refused = call.status == 503 && call.end >= away && call.start <= settled;
            let allowed = match call.what {
                What::Write(write) => matches!(write.act, Act::Register | Act::Beat),
                // Nobody can say that something is not there.
                What::Read(_) => !is_read(call),
            };
            through_nginx(call) && is_error(call) && !(refused && allowed)
        });
        outcome
    })
    .await;
}
