//! Several nodes on one Postgres.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::StatusCode;
use testkit::{Postgres, Stopwatch, wait_until};
use tokio::time::sleep;

use crate::support::{Poller, Registry, SOON, TTL};

/// Within this time a change that one node acknowledged is in the answers of all.
const CHANGE_EVERYWHERE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn five_nodes_start_at_once_on_an_empty_database_and_agree() {
    let database = Postgres::shared().fresh_database().await;
    let mut nodes: Vec<_> = (0..5).map(|_| Registry::on(&database)).collect();
    nodes.iter_mut().for_each(Registry::start);
    join_all(nodes.iter().map(Registry::ready)).await;

    // One registration at each node, seen by all.
    for (number, node) in nodes.iter().enumerate() {
        let service = format!("fan-{number}");
        node.client().register(&service, "one", "s", 30).await;
        let acknowledged = Stopwatch::start();
        join_all(nodes.iter().map(|node| {
            wait_until(SOON, "a node hears of a registration", async || {
                node.client().lists(&service, "one").await
            })
        }))
        .await;
        let took = acknowledged.elapsed();
        assert!(took < CHANGE_EVERYWHERE, "{took:?}");
    }

    // Beats at one node keep an entry alive on all.
    let first = nodes[0].client();
    first.register("kept", "one", "s", TTL.as_secs()).await;
    let beating = first.beating("kept", "one", "s");
    join_all(
        nodes
            .iter()
            .map(|node| wait_until(SOON, "listed", async || node.client().lists("kept", "one").await)),
    )
    .await;
    let pollers: Vec<_> =
        nodes.iter().map(|node| Poller::start(node.client().clone(), "kept", "one")).collect();
    sleep(TTL * 2).await;
    pollers.into_iter().for_each(Poller::finish);

    // Without beats it is gone from all, and every node says why.
    beating.abort();
    let silent = Stopwatch::start();
    join_all(nodes.iter().map(|node| {
        wait_until(SOON, "expired", async || {
            let reply = node.client().get("/services/kept").await.unwrap();
            reply.status == StatusCode::NOT_FOUND && reply.body["state"] == "expired"
        })
    }))
    .await;
    let took = silent.elapsed();
    assert!(took < TTL + Duration::from_secs(7), "gone after {took:?}");
}
