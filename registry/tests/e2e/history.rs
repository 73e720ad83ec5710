//! The store goes back in time under running nodes.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use testkit::{Postgres, Signal, Stopwatch, wait_until};
use tokio::time::sleep;

use crate::support::{Client, Poller, Registry, SOON, TICK, TTL, execute, number};

const TRUNCATE: &str = "TRUNCATE head, instances, leases, changes, ended_sessions, beats, writers";

/// A lease that does not end while a test runs.
const LONG: u64 = 60;

/// A lease that ends while a test runs, and not before the nodes have noticed a loss, also on a busy machine.
const LOST: Duration = Duration::from_secs(5);

/// What a sidecar does: it beats, and registers again on 404.
fn sidecar(client: &Client, service: &str) -> tokio::task::JoinHandle<()> {
    let (client, service) = (client.clone(), service.to_owned());
    tokio::spawn(async move {
        loop {
            let beat = client.beat_once(&service, "one", "once").await;
            if beat.is_ok_and(|reply| reply.status == StatusCode::NOT_FOUND) {
                // Refused while the node is blind: tried again with the next beat.
                drop(client.register_once(&service, "one").await);
            }
            sleep(TTL / 4).await;
        }
    })
}

async fn instances(client: &Client) -> Vec<Value> {
    let reply = client.look("/instances").await;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    reply.body["instances"].as_array().cloned().unwrap_or_default()
}

async fn resyncs(client: &Client, reason: &str) -> bool {
    let text = client.look("/metrics").await.body.as_str().unwrap_or_default().to_owned();
    text.contains(&format!("registry_resyncs_total{{reason=\"{reason}\"}} 1\n"))
}

#[tokio::test]
async fn a_truncated_store_is_filled_again_and_no_reader_misses_an_instance() {
    let database = Postgres::shared().fresh_database().await;
    let (nodes, tasks) = two_nodes_with_six(&database).await;
    let pollers: Vec<_> =
        nodes.iter().map(|node| Poller::start(node.client().clone(), "s-3", "one")).collect();
    let head = number(&database, "SELECT revision FROM head").await;

    execute(&database, TRUNCATE).await;
    let emptied = Stopwatch::start();
    for node in &nodes {
        wait_until(SOON, "the loss is known", async || resyncs(node.client(), "lost_history").await).await;
    }
    wait_until(TTL + SOON, "everything is in the store again", async || {
        number(&database, "SELECT count(*) FROM instances").await == 6
    })
    .await;
    for node in &nodes {
        wait_until(SOON, "listed anew, by all", async || {
            let list = instances(node.client()).await;
            list.len() == 6 && list.iter().all(|entry| entry["stale"] == false)
        })
        .await;
    }
    assert!(emptied.elapsed() < TTL + Duration::from_secs(7), "{:?}", emptied.elapsed());
    let first = number(&database, "SELECT min(revision) FROM changes").await;
    assert!(first > head, "{first} was given before: the last one was {head}");
    pollers.into_iter().for_each(Poller::finish);
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Rows that were trimmed before a node read them are no loss: the store did not go back, and the log goes on.
#[tokio::test]
async fn who_fell_behind_a_trim_loads_everything_and_begins_no_epoch() {
    let database = Postgres::shared().fresh_database().await;
    let nodes = [Registry::on(&database).started().await, Registry::on(&database).started().await];
    nodes[0].client().register("early", "one", "s", LONG).await;
    wait_until(SOON, "known to both", async || nodes[1].client().lists("early", "one").await).await;
    nodes[1].process().signal(Signal::STOP);
    for n in 0..5 {
        nodes[0].client().register(&format!("late-{n}"), "one", "s", LONG).await;
    }
    execute(&database, "DELETE FROM changes WHERE revision < (SELECT revision FROM head)").await;
    nodes[1].process().signal(Signal::CONT);
    wait_until(SOON, "the gap is known", async || resyncs(nodes[1].client(), "trimmed").await).await;
    wait_until(SOON, "everything is listed", async || instances(nodes[1].client()).await.len() == 6).await;
    assert_eq!(number(&database, "SELECT count(*) FROM changes WHERE kind = 'epoch'").await, 0);
    assert_eq!(number(&database, "SELECT revision FROM head").await, 6);
}

/// Two nodes, three instances at each whose sidecars go on whatever happens.
async fn two_nodes_with_six(database: &str) -> ([Registry; 2], Vec<tokio::task::JoinHandle<()>>) {
    let nodes = [Registry::on(database).started().await, Registry::on(database).started().await];
    let mut tasks = Vec::new();
    for n in 0..6 {
        let (client, service) = (nodes[n % 2].client(), format!("s-{n}"));
        client.register(&service, "one", "once", 30).await;
        tasks.push(sidecar(client, &service));
    }
    for node in &nodes {
        wait_until(SOON, "all listed", async || instances(node.client()).await.len() == 6).await;
    }
    (nodes, tasks)
}

async fn all_fresh(nodes: &[Registry]) {
    for node in nodes {
        wait_until(TTL + SOON, "listed anew, by all", async || {
            let list = instances(node.client()).await;
            list.len() == 6 && list.iter().all(|entry| entry["stale"] == false)
        })
        .await;
    }
}

#[tokio::test]
async fn a_database_that_was_made_anew_is_filled_by_running_nodes() {
    let database = Postgres::shared().fresh_database().await;
    let (nodes, tasks) = two_nodes_with_six(&database).await;
    let pollers: Vec<_> =
        nodes.iter().map(|node| Poller::start(node.client().clone(), "s-3", "one")).collect();
    execute(&database, "DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
    for node in &nodes {
        wait_until(SOON, "the loss is known", async || resyncs(node.client(), "lost_history").await).await;
    }
    wait_until(TTL + SOON, "everything is in the store again", async || {
        number(&database, "SELECT count(*) FROM instances").await == 6
    })
    .await;
    all_fresh(&nodes).await;
    pollers.into_iter().for_each(Poller::finish);
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_truncated_store_is_filled_again_although_all_nodes_were_restarted() {
    let database = Postgres::shared().fresh_database().await;
    let (mut nodes, tasks) = two_nodes_with_six(&database).await;
    for node in &nodes {
        node.kill_9().await;
    }
    execute(&database, TRUNCATE).await;
    nodes.iter_mut().for_each(Registry::start);
    let begun = Stopwatch::start();
    for node in &nodes {
        node.ready().await;
    }
    all_fresh(&nodes).await;
    assert!(begun.elapsed() < TTL + Duration::from_secs(7), "{:?}", begun.elapsed());
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_store_restored_to_an_older_state_is_noticed_and_mended() {
    let database = Postgres::shared().fresh_database().await;
    let nodes = [Registry::on(&database).started().await, Registry::on(&database).started().await];
    let [a, b] = [nodes[0].client(), nodes[1].client()];
    a.register("kept", "one", "s", LONG).await;
    a.register("moved", "one", "s", LONG).await;
    execute(
        &database,
        "CREATE TABLE old_head AS TABLE head; CREATE TABLE old_instances AS TABLE instances; \
         CREATE TABLE old_leases AS TABLE leases; CREATE TABLE old_changes AS TABLE changes",
    )
    .await;
    // Acknowledged after the copy was taken.
    a.register("lost", "one", "s", LOST.as_secs()).await;
    b.register("lost", "two", "s", LOST.as_secs()).await;
    a.put("/services/moved/instances/one", json!({"endpoint": "http://127.0.0.1:99", "session": "s"})).await;
    assert_eq!(a.delete("/services/kept/instances/one").await.status, StatusCode::NO_CONTENT);
    for node in &nodes {
        wait_until(SOON, "all nodes know", async || {
            node.client().lists("lost", "two").await
                && node.client().lists("lost", "one").await
                && node.client().look("/services/kept").await.status == StatusCode::NOT_FOUND
        })
        .await;
    }
    let head = number(&database, "SELECT revision FROM head").await;

    execute(
        &database,
        "BEGIN; TRUNCATE head, instances, leases, changes, ended_sessions; \
         INSERT INTO head SELECT * FROM old_head; INSERT INTO instances SELECT * FROM old_instances; \
         INSERT INTO leases SELECT * FROM old_leases; INSERT INTO changes SELECT * FROM old_changes; COMMIT",
    )
    .await;
    for node in &nodes {
        wait_until(SOON, "the loss is known", async || resyncs(node.client(), "lost_history").await).await;
        node.ready().await;
    }
    // Listed on, but as stale: nobody knows that they are gone.
    let list = a.look("/services/lost").await;
    assert!(list.lists("one") && list.lists("two"), "{list:?}");
    assert!(
        list.body["instances"].as_array().unwrap().iter().all(|entry| entry["stale"] == true),
        "{list:?}"
    );
    // A beat of one is answered with what makes a sidecar register again.
    assert_eq!(b.beat("lost", "one", "s").await.status, StatusCode::NOT_FOUND);
    b.register("lost", "one", "s", LONG).await;
    let now = number(&database, "SELECT revision FROM head").await;
    assert!(now > head, "{now} was given before");
    // The state of the copy is the truth about what it holds.
    for node in &nodes {
        wait_until(SOON, "as in the store", async || {
            let moved = node.client().instance("moved", "one").await;
            node.client().lists("kept", "one").await
                && moved.is_some_and(|entry| entry["endpoint"] == "http://127.0.0.1:9")
        })
        .await;
        // The one that came back stays, the other one's time ends.
        wait_until(LOST + SOON, "the lost one is let go", async || {
            let list = node.client().look("/services/lost").await;
            list.lists("one") && !list.lists("two")
        })
        .await;
    }
}

#[tokio::test]
async fn a_node_is_blind_from_the_moment_at_which_it_knows_of_a_loss() {
    let database = Postgres::shared().fresh_database().await;
    let node = Registry::on(&database).started().await;
    let client = node.client();
    client.register("here", "one", "s", LONG).await;
    // It can read the logs but not load again yet: it is seen between the loss and the load.
    let mut other = PgConnection::connect(&database).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE ended_sessions IN ACCESS EXCLUSIVE MODE")
        .execute(&mut other)
        .await
        .unwrap();
    execute(&database, "UPDATE changes SET tag = tag + 1").await;
    wait_until(SOON, "blind", async || !client.ready().await).await;
    let list = client.get("/services/here").await.unwrap();
    assert!(list.lists("one") && list.age.is_some(), "{list:?}");
    for reply in [
        client.beat_once("here", "one", "s").await.unwrap(),
        client.register_once("there", "one").await.unwrap(),
        client.get("/services/there").await.unwrap(),
    ] {
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{reply:?}");
    }
    other.close().await.unwrap();
    let back = Stopwatch::start();
    node.ready().await;
    assert!(back.elapsed() < TICK * 25, "{:?}", back.elapsed());
    assert_eq!(client.beat("here", "one", "s").await.status, StatusCode::OK);
}
