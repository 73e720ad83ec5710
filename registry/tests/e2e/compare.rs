//! Every node compares what it holds with the table, slice by slice.

use std::process::Command;

use futures_util::future::join_all;
use reqwest::StatusCode;
use testkit::{Postgres, wait_until};

use crate::support::{Client, REGISTRY, Registry, SOON, execute};

async fn counter(client: &Client, name: &str) -> u64 {
    let text = client.look("/metrics").await.body.as_str().unwrap_or_default().to_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

async fn mended(client: &Client) -> [u64; 3] {
    let mut counts = [0; 3];
    for (count, difference) in counts.iter_mut().zip(["missing", "extra", "changed"]) {
        let name = format!("registry_compare_mended_total{{difference=\"{difference}\"}}");
        *count = counter(client, &name).await;
    }
    counts
}

/// A node whose rounds of 60 ticks take some seconds.
async fn started(database: &str) -> Registry {
    let mut node = Registry::on(database);
    node.start_as(Command::new(REGISTRY).env("REGISTRY_TICK_MS", "60"));
    node.ready().await;
    node
}

async fn another_round(client: &Client) {
    let before = counter(client, "registry_compare_rounds_total").await;
    wait_until(SOON * 2, "a round of compares", async || {
        counter(client, "registry_compare_rounds_total").await > before
    })
    .await;
}

#[tokio::test]
async fn nothing_differs_on_busy_nodes_and_what_was_changed_behind_their_backs_is_mended() {
    let database = Postgres::shared().fresh_database().await;
    let nodes = [started(&database).await, started(&database).await];
    let [one, two] = [nodes[0].client(), nodes[1].client()];
    for instance in ["same", "moved", "taken"] {
        one.register("table", instance, "s", 60).await;
    }
    // Busy: both nodes change the same entries while both compare.
    let churn: Vec<_> = [one, two]
        .map(|client| {
            let client = client.clone();
            tokio::spawn(async move {
                for round in 0.. {
                    let instance = format!("i-{}", round % 7);
                    drop(client.register_once("busy", &instance).await);
                    drop(client.delete(&format!("/services/busy/instances/{instance}")).await);
                }
            })
        })
        .into();
    join_all([one, two].map(another_round)).await;
    for client in [one, two] {
        assert_eq!(mended(client).await, [0, 0, 0]);
    }
    churn.iter().for_each(tokio::task::JoinHandle::abort);

    execute(
        &database,
        "BEGIN; UPDATE instances SET endpoint = 'http://elsewhere:1' WHERE instance = 'moved'; \
         DELETE FROM instances WHERE instance = 'taken'; \
         INSERT INTO instances (service, instance, endpoint, health_endpoint, metadata, ttl, status, registered_at, \
            revision) SELECT 'table', 'put', endpoint, health_endpoint, metadata, ttl, status, registered_at, revision \
            FROM instances WHERE instance = 'same'; COMMIT",
    )
    .await;
    for client in [one, two] {
        wait_until(SOON * 2, "all three are mended", async || mended(client).await == [1, 1, 1]).await;
        assert_eq!(client.entry("table", "moved").await["endpoint"], "http://elsewhere:1");
        assert!(client.usable("table", "put").await && client.usable("table", "same").await);
        // Nobody said why: stale for its time, and its beat brings it back.
        assert_eq!(client.entry("table", "taken").await["stale"], true);
        assert_eq!(client.beat("table", "taken", "s").await.status, StatusCode::NOT_FOUND);
    }
    for node in &nodes {
        assert!(node.process().stderr().contains("table/taken"), "the log names it");
    }
    one.register("table", "taken", "s", 60).await;
    join_all([one, two].map(another_round)).await;
    for client in [one, two] {
        assert_eq!(client.entry("table", "taken").await["stale"], false);
        assert_eq!(mended(client).await, [1, 1, 1]);
    }
}
