//! What NOTIFY brings late or not at all, the tables tell all the same.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use sqlx::{Connection, PgConnection};
use testkit::{Postgres, Stopwatch, wait_until};
use tokio::time::Instant;

use crate::support::{Registry, SOON, TICK, number};

/// Without any notification a change is everywhere within this time; scaled from 6 s at a tick of 1 s.
const WITHOUT_HINTS: Duration = TICK.saturating_mul(6);

#[tokio::test]
async fn nodes_agree_while_their_listen_connections_are_killed() {
    let database = Postgres::shared().fresh_database().await;
    let nodes = [Registry::on(&database).started().await, Registry::on(&database).started().await];
    let listening = "SELECT count(*) FROM pg_stat_activity \
                     WHERE datname = current_database() AND application_name = 'registry-listen'";
    wait_until(SOON, "both listen", async || number(&database, listening).await == 2).await;
    let killed = Arc::new(AtomicBool::new(false));
    let task = {
        let (killed, database) = (Arc::clone(&killed), database.clone());
        tokio::spawn(async move {
            let mut connection = PgConnection::connect(&database).await.unwrap();
            loop {
                let ended: i64 = sqlx::query_scalar(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                     WHERE datname = current_database() AND application_name = 'registry-listen'",
                )
                .fetch_one(&mut connection)
                .await
                .unwrap();
                killed.fetch_or(ended > 0, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };
    wait_until(SOON, "one was killed", async || killed.load(Ordering::Relaxed)).await;
    let mut slowest = Duration::ZERO;
    for n in 0..20 {
        let service = format!("s-{n}");
        nodes[n % 2].client().register(&service, "one", "s", 60).await;
        let acknowledged = Stopwatch::start();
        join_all(
            nodes.iter().map(|node| {
                wait_until(SOON, "everywhere", async || node.client().lists(&service, "one").await)
            }),
        )
        .await;
        slowest = slowest.max(acknowledged.elapsed());
    }
    assert!(slowest < WITHOUT_HINTS, "{slowest:?}");
    task.abort();
    wait_until(SOON, "both listen again", async || number(&database, listening).await == 2).await;
}

#[tokio::test]
async fn a_long_transaction_holds_up_changes_and_no_revision_is_skipped() {
    let database = Postgres::shared().fresh_database().await;
    let nodes = [Registry::on(&database).started().await, Registry::on(&database).started().await];
    nodes[0].client().register("before", "one", "s", 60).await;
    let mut other = PgConnection::connect(&database).await.unwrap();
    // A revision is taken, and not committed for a long time.
    sqlx::raw_sql(
        "BEGIN; SELECT revision FROM head FOR UPDATE; INSERT INTO changes SELECT revision + 1, tag, at, kind, service, \
         instance, entry_id, reason, actor, body FROM changes WHERE revision = (SELECT revision FROM head); \
         UPDATE head SET revision = revision + 1",
    )
    .execute(&mut other)
    .await
    .unwrap();
    let begun = Instant::now();
    while begun.elapsed() < TICK * 10 {
        let refused = nodes[1].client().register_once("during", "one").await.unwrap();
        assert_eq!(refused.status, 503, "{refused:?}");
    }
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    for (n, node) in nodes.iter().enumerate() {
        node.client().register(&format!("after-{n}"), "one", "s", 60).await;
    }
    for node in &nodes {
        for n in 0..2 {
            wait_until(WITHOUT_HINTS + SOON, "everywhere", async || {
                node.client().lists(&format!("after-{n}"), "one").await
            })
            .await;
        }
        let text = node.client().look("/metrics").await.body.as_str().unwrap_or_default().to_owned();
        for reason in ["trimmed", "lost_history"] {
            assert!(text.contains(&format!("registry_resyncs_total{{reason=\"{reason}\"}} 0\n")), "{text}");
        }
    }
}
