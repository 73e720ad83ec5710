//! How the tests call, and what they stand before nginx's back.

mod call;
mod stub;
mod traffic;

use std::time::Duration;

use testkit::{Cluster, ClusterOptions, Postgres, ProxyMode, wait_until};

pub(crate) use self::{
    call::{Client, Reply},
    stub::{Answer, Stub},
    traffic::Traffic,
};

/// For what takes no time but the machine's, which other tests share.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Longest that a call through nginx takes. A busy machine may add a little to what nginx's own clock says.
pub(crate) const LONGEST: Duration = Duration::from_millis(6200);

/// Three nodes, in time scaled down.
pub(crate) fn scaled() -> ClusterOptions {
    ClusterOptions::new(env!("CARGO_BIN_EXE_registry"))
}

/// Three nodes with the tick of production, which a busy machine does not blind.
pub(crate) fn unscaled() -> ClusterOptions {
    ClusterOptions { tick: Duration::from_secs(1), ..scaled() }
}

pub(crate) async fn start(options: ClusterOptions) -> Cluster {
    Cluster::start(options, Postgres::shared()).await
}

/// Registers instance `one` of service `kept`, and waits until every node has heard of it: a node without any entry
/// gives no list while it is blind.
pub(crate) async fn keep(cluster: &Cluster, client: &Client) {
    assert_eq!(client.register("kept", "one").await.unwrap().status, 201);
    for node in &cluster.nodes {
        let node = Client::new(node.port());
        wait_until(SOON, "every node lists it", async || {
            node.get("/services/kept").await.is_ok_and(|reply| reply.lists("one"))
        })
        .await;
    }
}

/// Cuts these nodes off from their store, and waits until what they know is too old for a first pass.
pub(crate) async fn blind(cluster: &Cluster, nodes: &[usize]) {
    for &node in nodes {
        cluster.nodes[node].store().set(ProxyMode::Refuse);
    }
    for &node in nodes {
        let client = Client::new(cluster.nodes[node].port());
        wait_until(SOON, "what the node knows is old", async || {
            client.get("/services").await.is_ok_and(|reply| reply.age.is_some_and(|age| age >= 4))
        })
        .await;
    }
}
