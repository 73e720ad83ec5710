//! The registry is killed, with or without its data, and comes back.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::{Postgres, Stopwatch, wait_until};
use tokio::time::sleep;

use crate::support::{Poller, Registry, SOON, Sample, Sidecar, TTL};

async fn a_killed_node_comes_back_with_everything(mut node: Registry) {
    let service = Sample::start();
    let client = node.client().clone();
    let sidecar = Sidecar::of("kept", service.port(), &node.url()).started();
    let before = sidecar.listed(&client).await;

    // An operator's drain, an ended session, and one that is gone with a reason.
    let other = "/services/other/instances";
    client.register("other", "drained", "a", 600).await;
    let drained = client.put(&format!("{other}/drained/drain"), json!({"reason": "new kernel"})).await;
    assert_eq!(drained.status, StatusCode::OK, "{drained:?}");
    client.register("other", "taken-over", "old", 600).await;
    client.register("other", "taken-over", "new", 600).await;
    client.register("other", "gone", "c", 600).await;
    client.delete(&format!("{other}/gone")).await;
    let gone = client.look(&format!("{other}/gone")).await;
    client.register("other", "left", "leaver", 600).await;
    client.delete(&format!("{other}/left?session=leaver")).await;

    let poller = Poller::start(client.clone(), "kept", sidecar.instance());
    for _ in 0..2 {
        node.kill_9().await;
        node.start();
        node.ready().await;
        let seen = poller.listed();
        wait_until(SOON, "listed after the restart", async || poller.listed() > seen).await;
    }
    // It beats on: nothing ends a lease later.
    sleep(TTL + Duration::from_secs(1)).await;
    poller.finish();
    let after = sidecar.listed(&client).await;
    assert_eq!(after["registered_at"], before["registered_at"], "the sidecar had to register again");
    assert!(after["last_heartbeat"].as_f64() > before["last_heartbeat"].as_f64());

    let drained = client.entry("other", "drained").await;
    assert_eq!(drained["draining"], true, "{drained}");
    let late = client.delete(&format!("{other}/taken-over?session=old")).await;
    assert_eq!(late.status, StatusCode::CONFLICT, "{late:?}");
    let late = client.beat("other", "taken-over", "old").await;
    assert_eq!(late.status, StatusCode::CONFLICT, "{late:?}");
    assert_eq!(client.beat("other", "taken-over", "new").await.status, StatusCode::OK);
    // Its session ended with an entry that was gone before the node started.
    client.register("other", "left", "successor", 600).await;
    let late = client.beat("other", "left", "leaver").await;
    assert_eq!(late.status, StatusCode::CONFLICT, "{late:?}");
    let still_gone = client.look(&format!("{other}/gone")).await;
    assert_eq!(still_gone.status, StatusCode::NOT_FOUND);
    assert_eq!(gone.body["state"], "deregistered", "{gone:?}");
    for field in ["state", "reason", "last_seen"] {
        assert_eq!(still_gone.body[field], gone.body[field], "{field}");
    }
}

#[tokio::test]
async fn a_killed_node_comes_back_with_everything_on_sqlite() {
    a_killed_node_comes_back_with_everything(Registry::on_sqlite().started().await).await;
}

#[tokio::test]
async fn a_killed_node_comes_back_with_everything_on_postgres() {
    let database = Postgres::shared().fresh_database().await;
    a_killed_node_comes_back_with_everything(Registry::on(&database).started().await).await;
}

/// `wipe` removes every entry while the node is down.
async fn wiped_data_is_made_up_for(mut node: Registry, wipe: impl AsyncFnOnce(&Registry)) {
    let service = Sample::start();
    let client = node.client().clone();
    let sidecar = Sidecar::of("wiped", service.port(), &node.url()).started();
    let before = sidecar.listed(&client).await;
    node.kill_9().await;
    wipe(&node).await;
    node.start();
    node.ready().await;
    let ready = Stopwatch::start();
    let after = sidecar.listed(&client).await;
    let took = ready.elapsed();
    // One beat of 1 s, and what a busy machine adds.
    assert!(took < Duration::from_secs(4), "listed {took:?} after the node was ready");
    assert!(after["registered_at"].as_f64() > before["registered_at"].as_f64());
    assert!(sidecar.process().stderr().contains("does not know this instance any more"));
}

#[tokio::test]
async fn wiped_data_is_made_up_for_on_sqlite() {
    wiped_data_is_made_up_for(Registry::on_sqlite().started().await, async |node| {
        for name in ["registry.db", "registry.db-wal", "registry.db-shm"] {
            // The last two are there or not.
            let removed = std::fs::remove_file(node.dir().join(name));
            assert!(removed.is_ok() || name != "registry.db", "{removed:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn wiped_data_is_made_up_for_on_postgres() {
    let database = Postgres::shared().fresh_database().await;
    wiped_data_is_made_up_for(Registry::on(&database).started().await, async |_| {
        let mut connection = PgConnection::connect(&database).await.unwrap();
        let sql = "DROP SCHEMA public CASCADE; CREATE SCHEMA public";
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    })
    .await;
}
