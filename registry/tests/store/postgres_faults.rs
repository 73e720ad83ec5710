//! The shared store when it is away, sick or silent.

use std::{net::TcpListener, sync::Arc, time::Duration};

use registry::store::{CALL_DEADLINE, Committed, Store, StoreError};
use testkit::{Postgres, StopMode, Stopwatch, wait_until};

use crate::{
    postgres::{connect, count, execute, waiting_for_locks},
    support::{Place, SOON, commit_one, entry, head, is_unavailable, key, migrated, register, sure},
};

/// The deadline of a call, and what a busy machine may add to it.
const IN_TIME: Duration = CALL_DEADLINE.saturating_add(Duration::from_millis(400));

async fn fails_in_time<T: std::fmt::Debug>(call: impl Future<Output = Result<T, StoreError>>) -> String {
    let start = Stopwatch::start();
    let result = call.await;
    assert!(start.elapsed() < IN_TIME, "{:?}", start.elapsed());
    match result {
        Err(StoreError::Unavailable(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_costs_a_call_and_no_connection() {
    let Place { store, url, .. } = Place::postgres().await;
    commit_one(&store, register("a/1")).await;
    let mut other = connect(&url).await;
    sqlx::raw_sql("BEGIN; LOCK TABLE instances, leases, beats IN ACCESS EXCLUSIVE MODE")
        .execute(&mut other)
        .await
        .unwrap();
    // More calls at once than there are connections.
    let store = Arc::new(store);
    let calls: Vec<_> = (0..12)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                match n % 3 {
                    0 => fails_in_time(store.read(&[key("a/1")])).await,
                    1 => fails_in_time(store.commit(&[register("a/2")])).await,
                    _ => fails_in_time(store.write_beats(1, n, &[1], Duration::ZERO)).await,
                }
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    // What ran out of time here ends there as well, by its own limit.
    wait_until(SOON, "the pool to be whole again", async || {
        store.read(&[key("a/1")]).await.is_ok() && store.commit(&[]).await.is_ok()
    })
    .await;
    assert_eq!(entry(&store, "a/1").await.revision, 1);
    assert_eq!(commit_one(&store, register("b/1")).await.revision, head(&store).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_waits_for_any_more_costs_no_connection() {
    let Place { store, url, .. } = Place::postgres().await;
    let store = Arc::new(store);
    commit_one(&store, register("a/1")).await;
    for _ in 0..4 {
        let mut other = connect(&url).await;
        sqlx::raw_sql("BEGIN; LOCK TABLE instances IN ACCESS EXCLUSIVE MODE")
            .execute(&mut other)
            .await
            .unwrap();
        let calls: Vec<_> = (0..6)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.read(&[key("a/1")]).await })
            })
            .collect();
        waiting_for_locks(&url, 6).await;
        for call in calls {
            call.abort();
        }
        sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
        let keys = [key("a/1")];
        sure(|| store.read(&keys)).await;
    }
    let ours = "SELECT count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND application_name = 'registry'";
    wait_until(SOON, "dropped connections to end", async || count(&url, ours).await <= 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_stops_and_starts_under_it() {
    let server = Postgres::start();
    let url = server.fresh_database().await;
    let store = migrated(&url).await;
    for round in 0..3 {
        commit_one(&store, register(&format!("a/{round}"))).await;
        match round {
            0 => server.stop(StopMode::Fast),
            1 => server.stop(StopMode::Immediate),
            // Its sessions work on until they notice.
            _ => server.kill_9(),
        }
        wait_until(SOON, "the store to be away", async || store.read(&[key("a/0")]).await.is_err()).await;
        fails_in_time(store.commit(&[register("b/1")])).await;
        let refused = fails_in_time(store.read(&[key("a/0")])).await;
        assert!(refused.contains("refused"), "{refused}");
        fails_in_time(store.load()).await;
        server.start_again();
        wait_until(SOON, "the store to be back", async || store.read(&[key("a/0")]).await.is_ok()).await;
        // What was acknowledged is there, and nothing else.
        assert_eq!(head(&store).await, round + 1);
        assert_eq!(entry(&store, &format!("a/{round}")).await.revision, round + 1);
    }
}

#[tokio::test]
async fn a_store_that_was_never_reached_comes_up_later() {
    let server = Postgres::start();
    let url = server.fresh_database().await;
    server.stop(StopMode::Fast);
    let store = Store::open(&url).await.unwrap();
    assert!(is_unavailable(&store.migrate().await));
    server.start_again();
    sure(|| store.migrate()).await;
    assert_eq!(commit_one(&store, register("a/1")).await.revision, 1);
}

#[tokio::test]
async fn a_silent_server_costs_the_deadline_and_no_more() {
    // The system accepts, nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://u@127.0.0.1:{}/d", silent.local_addr().unwrap().port());
    let store = Store::open(&url).await.unwrap();
    fails_in_time(store.read(&[key("a/1")])).await;
    fails_in_time(store.load()).await;
    let start = Stopwatch::start();
    store.close(Duration::from_millis(200)).await;
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_read_only_store_refuses_changes_and_answers_reads() {
    let Place { store, url, .. } = Place::postgres().await;
    commit_one(&store, register("a/1")).await;
    execute(
        &url,
        "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET default_transaction_read_only = on'; \
         END $$",
    )
    .await;
    let store = Store::open(&url).await.unwrap();
    let text = fails_in_time(store.commit(&[register("a/2")])).await;
    assert!(text.contains("25006"), "{text}");
    fails_in_time(store.write_beats(1, 1, &[], Duration::ZERO)).await;
    assert_eq!(entry(&store, "a/1").await.revision, 1);
}

#[tokio::test]
async fn missing_tables_are_no_reason_to_give_up() {
    let url = Postgres::shared().fresh_database().await;
    let store = Store::open(&url).await.unwrap();
    let text = fails_in_time(store.commit(&[register("a/1")])).await;
    assert!(text.contains("commit_changes"), "{text}");
    assert!(is_unavailable(&store.load().await));
    let absent = url.replace("test_", "absent_");
    let text = fails_in_time(Store::open(&absent).await.unwrap().read(&[key("a/1")])).await;
    assert!(text.contains("does not exist"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_holder_of_the_revision_keeps_nobody_for_long() {
    let Place { store, url, .. } = Place::postgres().await;
    let mut paused = connect(&url).await;
    sqlx::raw_sql(
        "SET idle_in_transaction_session_timeout = '1s'; BEGIN; SELECT revision FROM head FOR UPDATE",
    )
    .execute(&mut paused)
    .await
    .unwrap();
    let text = fails_in_time(store.commit(&[register("a/1")])).await;
    assert!(text.contains("55P03") || text.contains("no answer"), "{text}");
    wait_until(SOON, "the server to end the paused session", async || {
        matches!(store.commit(&[register("a/1")]).await, Ok(Committed::Done(_) | Committed::Conflict(_)))
    })
    .await;
    assert_eq!(head(&store).await, 1);
}
