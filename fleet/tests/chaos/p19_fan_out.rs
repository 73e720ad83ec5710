//! P19: the fan-out loses its notifications, a transaction stays open, writers race, a node comes back under its id.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Sql, wait_until};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::support::{Client, Plan, Stage, scenario};

/// By when all nodes agree, whatever is lost.
const AGREE: Duration = Duration::from_secs(6);

/// Keys that writers race for.
const KEYS: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p19_all_nodes_agree_although_notifications_are_lost_and_writers_race() {
    let plan = Plan::new("P19", Duration::from_secs(600)).setting("REGISTRY_NODE_ID", "same");
    scenario(plan, async |mut stage| {
        let (stop, stopped) = watch::channel(false);
        let racers: Vec<_> = stage
            .nodes()
            .map(|node| tokio::spawn(race(stage.direct(node), node, stopped.clone())))
            .collect();
        let listeners = tokio::spawn(end_listeners(stage.cluster.database.clone(), stopped.clone()));

        // With no notification, and a transaction open that has written and holds back every cleaning.
        let mut open = Sql::open(&stage.cluster.database).await;
        open.run("BEGIN").await;
        open.run("CREATE TABLE held_open ()").await;
        let mut longest = Duration::ZERO;
        let begun = Instant::now();
        let mut number = 0;
        while begun.elapsed() < stage.scale.seconds(6.0, 10.0) {
            number += 1;
            longest = longest.max(seen_by_all(&stage, number).await);
        }
        open.run("ROLLBACK").await;

        // Its old rows are of another process run, though the id is the same.
        for node in stage.nodes() {
            stage.kill_node(node, Duration::ZERO).await;
            number += 1;
            longest = longest.max(seen_by_all(&stage, number).await);
        }
        stop.send_replace(true);
        let mut written = 0;
        for racer in racers {
            written += racer.await.unwrap();
        }
        let ended = listeners.await.unwrap();
        let quiet = Instant::now();
        wait_until(AGREE * 4, "all nodes say the same", async || {
            let mut all = Vec::new();
            for node in stage.nodes() {
                all.push(raced(&stage.direct(node)).await);
            }
            all[0].as_ref().is_some_and(|first| first.len() == KEYS) && all.iter().all(|one| *one == all[0])
        })
        .await;
        let agreed = quiet.elapsed();

        let mut sql = Sql::open(&stage.cluster.database).await;
        let skipped = sql.number("SELECT max(revision) - min(revision) + 1 - count(*) FROM changes").await;
        let beats = "SELECT coalesce(sum(gap), 0)::bigint FROM (SELECT max(seq) - min(seq) + 1 - count(*) AS gap \
                     FROM beats GROUP BY writer) AS gaps";
        let skipped_beats = sql.number(beats).await;
        stage.others = 2;
        let mut outcome = stage.end("LISTEN killed, open transaction, racing writers, old node id").await;
        outcome.at_most("a change in all answers after", longest, AGREE);
        outcome.at_most("all nodes the same after", agreed, AGREE);
        outcome.figure(format!("{written} racing writes, {ended} LISTEN connections killed"));
        outcome.expect(written > 0 && ended > 0, || "the faults had no effect".to_owned());
        outcome.figure(format!("{skipped} revisions and {skipped_beats} beat rows skipped"));
        outcome.expect(skipped == 0 && skipped_beats == 0, || "the logs have gaps".to_owned());
        outcome
    })
    .await;
}

/// Writes all keys again and again until told to stop; how often it was acknowledged.
async fn race(client: Client, node: u8, stop: watch::Receiver<bool>) -> usize {
    let mut written = 0;
    for round in 0_usize.. {
        if *stop.borrow() {
            break;
        }
        let endpoint = format!("http://chaos.invalid:{}", 1000 + round % 60_000);
        let body = json!({ "endpoint": endpoint, "ttl_seconds": 3600, "metadata": { "node": node } });
        let path = format!("/services/p19-raced/instances/k{}", round % KEYS);
        match client.call(Method::PUT, &path, Some(&body)).await {
            Some(reply) if matches!(reply.status, 200 | 201) => written += 1,
            _ => sleep(Duration::from_millis(50)).await,
        }
    }
    written
}

/// Ends every session that listens, again and again; how many.
async fn end_listeners(database: String, stop: watch::Receiver<bool>) -> i64 {
    let mut sql = Sql::open(&database).await;
    let mut ended = 0;
    while !*stop.borrow() {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE query ILIKE 'listen%' AND datname = current_database()";
        ended += sql.number(end).await;
        sleep(Duration::from_millis(50)).await;
    }
    ended
}

/// Registers at one node and waits until all list it.
async fn seen_by_all(stage: &Stage, number: u32) -> Duration {
    let node = u8::try_from(number % 3).unwrap();
    let name = format!("n{number}");
    let client = stage.direct(node);
    wait_until(AGREE * 4, "a registration is taken", async || {
        let reply = client.register("p19-seen", &name, 3600).await;
        reply.is_some_and(|reply| matches!(reply.status, 200 | 201))
    })
    .await;
    let acknowledged = Instant::now();
    let path = format!("/services/p19-seen/instances/{name}");
    for node in stage.nodes() {
        let client = stage.direct(node);
        let there = async || client.get(&path).await.is_some_and(|reply| reply.status == 200);
        wait_until(AGREE * 4, "the change is in the node's answers", there).await;
    }
    acknowledged.elapsed()
}

/// What a node says about the keys, without what is the node's own.
async fn raced(client: &Client) -> Option<Vec<Value>> {
    let reply = client.get("/services/p19-raced?all=true").await.filter(|reply| reply.status == 200)?;
    let mut found: Vec<Value> = Vec::new();
    for one in reply.body["instances"].as_array()? {
        found.push(json!([one["instance_id"], one["endpoint"], one["metadata"], one["registered_at"]]));
    }
    found.sort_by_key(Value::to_string);
    Some(found)
}
