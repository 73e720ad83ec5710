//! P10: one node is cut off from Postgres while the others are fine.

use std::time::Duration;

use fleet::history::{Act, What};
use testkit::ProxyMode;

use crate::support::{Plan, is_error, is_read, scenario, through_nginx};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p10_a_node_that_is_cut_off_harms_nobody() {
    let bound = Duration::from_secs(1200);
    scenario(Plan::new("P10", bound), async |stage| {
        // Silence, and refusal: each is found out in another way.
        let silent = stage.scale.seconds(12.0, 600.0);
        let refused = stage.scale.seconds(12.0, 120.0);
        let (mut ready, mut blind) = (Vec::new(), true);
        for (node, mode, time) in [(0, ProxyMode::BlackHole, silent), (1, ProxyMode::Refuse, refused)] {
            let back = stage
                .harm_node(
                    node,
                    async |node| node.store().set(mode),
                    time,
                    async |node| {
                        blind &= !node.is_ready().await;
                        node.store().set(ProxyMode::Pass);
                    },
                )
                .await;
            ready.push(format!("{:.1} s after {mode:?}", back.as_secs_f64()));
        }
        let (silent, refused) = (silent.as_secs(), refused.as_secs());
        let fault =
            format!("one node cut off for {silent} s by silence, then one for {refused} s by refusal");
        let mut outcome = stage.end(&fault).await;
        outcome.none("beat errors", |call| {
            through_nginx(call)
                && is_error(call)
                && matches!(call.what, What::Write(write) if write.act == Act::Beat)
        });
        outcome.figure(format!("ready {}", ready.join(" and ")));
        outcome.expect(blind, || "a node that was cut off said that it was ready".to_owned());
        outcome.none("failed reads", |call| through_nginx(call) && is_read(call) && is_error(call));
        outcome
    })
    .await;
}
