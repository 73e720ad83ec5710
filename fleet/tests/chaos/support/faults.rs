//! Faults, and their marks in the history.

use std::time::Duration;

use fleet::FaultKind;
use testkit::{Node, Postgres, StopMode, wait_until};
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

use super::Stage;

/// For what takes no time but the machine's.
const SOON: Duration = Duration::from_secs(60);

impl Stage {
    pub(crate) fn node(&self, node: u8) -> &Node {
        &self.cluster.nodes[usize::from(node)]
    }

    /// The numbers of the nodes.
    pub(crate) fn nodes(&self) -> std::ops::Range<u8> {
        0..u8::try_from(self.cluster.nodes.len()).unwrap()
    }

    /// Does harm to one node for a time, marked as such. Returns how long it took to be ready afterwards.
    pub(crate) async fn harm_node(
        &self,
        node: u8,
        begin: impl AsyncFnOnce(&Node),
        during: Duration,
        end: impl AsyncFnOnce(&Node),
    ) -> Duration {
        let history = self.fleet.history();
        let fault = history.fault(FaultKind::Node(node));
        begin(self.node(node)).await;
        history.held(fault);
        sleep(during).await;
        history.lifting(fault);
        let lifted = Instant::now();
        end(self.node(node)).await;
        self.node(node).ready().await;
        history.over(fault);
        lifted.elapsed()
    }

    /// Does something after which no node sees, for a time, marked as such. Returns how long it took until all nodes
    /// were ready afterwards.
    pub(crate) async fn harm_store(
        &self,
        begin: impl AsyncFnOnce(),
        during: impl AsyncFnOnce(),
        end: impl AsyncFnOnce(),
    ) -> Duration {
        let history = self.fleet.history();
        let fault = history.fault(FaultKind::Store);
        begin().await;
        self.blind().await;
        history.held(fault);
        during().await;
        history.lifting(fault);
        let lifted = Instant::now();
        end().await;
        self.cluster.ready().await;
        history.over(fault);
        lifted.elapsed()
    }

    /// Waits until no node is ready.
    pub(crate) async fn blind(&self) {
        for node in &self.cluster.nodes {
            wait_until(SOON, "the node is not ready", async || !node.is_ready().await).await;
        }
    }

    /// Kills a node and starts it again after a time.
    pub(crate) async fn kill_node(&self, node: u8, down: Duration) -> Duration {
        self.harm_node(node, async |node| node.kill_9().await, down, async |node| node.start()).await
    }

    /// Waits until every node counts this many services.
    pub(crate) async fn agree(&self, services: u32) {
        wait_until(SOON, &format!("all nodes count {services} services"), async || {
            for node in &self.cluster.nodes {
                if (node.metric("registry_active_services").await - f64::from(services)).abs() > 0.5 {
                    return false;
                }
            }
            true
        })
        .await;
    }
}

/// Ends Postgres as a crash does.
pub(crate) fn crash(postgres: &Postgres, kill: bool) {
    block_in_place(|| if kill { postgres.kill_9() } else { postgres.stop(StopMode::Immediate) });
}

pub(crate) fn start_again(postgres: &Postgres) {
    block_in_place(|| postgres.start_again());
}
