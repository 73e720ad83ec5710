//! What only the shared store does: the beat log, notifications, many nodes at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use registry::{
    entry::Kind,
    store::{BeatRow, BeatsWritten, Committed, Keep, Mutation, Store},
};
use sqlx::{Connection, PgConnection, postgres::PgListener};
use testkit::{Postgres, Stopwatch, wait_until};

use crate::support::{
    Place, SOON, beats, commit, commit_one, entry, expire, head, log, migrated, mutation, record, register,
    stood_still, sure,
};

pub(crate) async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

pub(crate) async fn execute(url: &str, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&mut connect(url).await).await.unwrap();
}

pub(crate) async fn count(url: &str, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&mut connect(url).await).await.unwrap()
}

/// Waits until so many sessions of the database wait for a lock.
pub(crate) async fn waiting_for_locks(url: &str, sessions: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    wait_until(SOON, "sessions to wait for locks", async || count(url, waiting).await >= sessions).await;
}

fn row(writer: i64, seq: i64, ids: &[i64]) -> BeatRow {
    BeatRow { writer, seq, ids: ids.to_vec(), waited: Duration::ZERO, later: 0 }
}

#[tokio::test]
async fn a_repeated_row_is_noticed_and_changes_nothing() {
    let Place { store, .. } = Place::postgres().await;
    let ids: Vec<i64> =
        commit(&store, &[register("a/1"), register("a/2")]).await.iter().map(|change| change.id).collect();
    store.write_beats(7, 1, &[ids[0]], Duration::ZERO).await.unwrap();
    let repeated = store.write_beats(7, 1, &[ids[1], 999], Duration::ZERO).await.unwrap();
    assert_eq!(repeated, BeatsWritten { repeated: true, missing: vec![] });
    assert_eq!((beats(&store, ids[0]).await, beats(&store, ids[1]).await), (2, 1));
    assert_eq!(store.beats_after(&BTreeMap::new(), 0).await.unwrap(), [row(7, 1, &[ids[0]])]);
    // The number is the writer's own.
    assert!(!store.write_beats(8, 1, &[], Duration::ZERO).await.unwrap().repeated);
}

#[tokio::test]
async fn the_beat_log_is_read_after_cursors() {
    let Place { store, .. } = Place::postgres().await;
    assert_eq!(store.beats_after(&BTreeMap::new(), 0).await.unwrap(), []);
    store.write_beats(9, 1, &[], Duration::ZERO).await.unwrap();
    store.write_beats(-4, 1, &[3, 1, 2], Duration::ZERO).await.unwrap();
    let waited = Duration::from_millis(300_007);
    store.write_beats(9, 2, &[5], waited).await.unwrap();
    store.write_beats(-4, 2, &[], Duration::ZERO).await.unwrap();
    let all = [
        BeatRow { later: 1, ..row(-4, 1, &[1, 2, 3]) },
        row(-4, 2, &[]),
        BeatRow { later: 1, ..row(9, 1, &[]) },
        BeatRow { waited, ..row(9, 2, &[5]) },
    ];
    assert_eq!(store.beats_after(&BTreeMap::new(), 0).await.unwrap(), all);
    // An unknown writer from its oldest row, one without news not at all.
    assert_eq!(
        store.beats_after(&BTreeMap::from([(9, 1), (77, 5)]), 0).await.unwrap(),
        [&all[..2], &all[3..]].concat()
    );
    assert_eq!(store.beats_after(&BTreeMap::from([(9, 2), (-4, 2)]), 0).await.unwrap(), []);
    // The reader's own come without their beats.
    let own = [BeatRow { later: 1, ..row(-4, 1, &[]) }, row(-4, 2, &[])];
    assert_eq!(store.beats_after(&BTreeMap::new(), -4).await.unwrap(), [&own[..], &all[2..]].concat());
}

#[tokio::test]
async fn a_long_beat_log_comes_page_by_page() {
    let Place { store, .. } = Place::postgres().await;
    for writer in [1, 2] {
        for seq in 1..=200 {
            store.write_beats(writer, seq, &[], Duration::ZERO).await.unwrap();
        }
    }
    let mut cursors = BTreeMap::new();
    let mut pages = Vec::new();
    loop {
        let page = store.beats_after(&cursors, 0).await.unwrap();
        for row in &page {
            assert_eq!(row.later, 200 - row.seq.unsigned_abs(), "of the whole log, not of the page");
            // Contiguous for each writer.
            assert_eq!(cursors.insert(row.writer, row.seq).unwrap_or(0) + 1, row.seq);
        }
        pages.push(page.len());
        if page.len() < Store::BEATS_PAGE {
            break;
        }
    }
    assert_eq!(pages, [256, 144]);
}

#[tokio::test]
async fn beats_are_trimmed_by_number_and_their_cursor_is_kept() {
    let Place { store, url, .. } = Place::postgres().await;
    for writer in [1, 2, 3] {
        for seq in 1..=10 {
            store.write_beats(writer, seq, &[], Duration::ZERO).await.unwrap();
        }
    }
    let keep = Keep { beats: 3, ..Keep::default() };
    assert_eq!(store.trim(1, keep).await.unwrap(), 7);
    let left = store.beats_after(&BTreeMap::from([(2, 10), (3, 10)]), 0).await.unwrap();
    assert_eq!(left.iter().map(|row| row.seq).collect::<Vec<i64>>(), [8, 9, 10]);
    assert_eq!(store.load().await.unwrap().cursors, BTreeMap::from([(1, 10), (2, 10), (3, 10)]));
    // So many rows as hold so many beats at the most.
    let ids: Vec<i64> = (1..=1000).collect();
    for seq in 1..=10 {
        store.write_beats(4, seq, &ids, Duration::ZERO).await.unwrap();
    }
    assert_eq!(store.trim(4, Keep { beats_in_all: 3_500, ..Keep::default() }).await.unwrap(), 7);
    assert_eq!(store.trim(4, Keep { beats_in_all: 3_500, ..Keep::default() }).await.unwrap(), 0);
    // A writer that has been silent for an hour is forgotten, rows and all.
    execute(&url, "UPDATE writers SET at = now() - interval '61 minutes' WHERE writer = 2").await;
    assert_eq!(store.trim(1, keep).await.unwrap(), 11);
    assert_eq!(store.load().await.unwrap().cursors, BTreeMap::from([(1, 10), (3, 10), (4, 10)]));
    assert_eq!(store.trim(1, keep).await.unwrap(), 0);
    assert_eq!(count(&url, "SELECT count(*) FROM beats WHERE writer = 3").await, 10);
}

#[tokio::test]
async fn commits_and_beats_are_notified() {
    let Place { store, url, .. } = Place::postgres().await;
    let mut listener = PgListener::connect(&url).await.unwrap();
    listener.listen_all(["registry_changes", "registry_beats"]).await.unwrap();
    commit(&store, &[register("a/1"), register("a/2")]).await;
    store.write_beats(-5, 3, &[], Duration::ZERO).await.unwrap();
    let stored = entry(&store, "a/1").await;
    // Neither is news: an expiry passed over, a row that was there.
    assert_eq!(store.commit(&[expire(&stored, 77)]).await.unwrap(), Committed::Done(vec![None]));
    assert!(store.write_beats(-5, 3, &[], Duration::ZERO).await.unwrap().repeated);
    commit_one(&store, expire(&stored, 1)).await;
    let mut heard = Vec::new();
    for _ in 0..3 {
        let notification = tokio::time::timeout(SOON, listener.recv()).await.unwrap().unwrap();
        heard.push(format!("{} {}", notification.channel(), notification.payload()));
    }
    assert_eq!(heard, ["registry_changes 2", "registry_beats -5 3", "registry_changes 3"]);
}

#[tokio::test]
async fn a_tag_tells_batches_apart() {
    let Place { store, url, .. } = Place::postgres().await;
    commit(&store, &[register("a/1"), register("a/2")]).await;
    commit(&store, &[register("a/3")]).await;
    let tags: Vec<i64> = sqlx::query_scalar("SELECT tag FROM changes ORDER BY revision")
        .fetch_all(&mut connect(&url).await)
        .await
        .unwrap();
    assert_eq!(tags[0], tags[1]);
    assert_ne!(tags[1], tags[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_sees_a_batch_of_beats_that_was_not_committed_when_it_began() {
    let Place { store, url, .. } = Place::postgres().await;
    let store = Arc::new(store);
    commit(&store, &[register("a/1"), register("a/2")]).await;
    let (alive, dead) = (entry(&store, "a/1").await, entry(&store, "a/2").await);
    let mut node = connect(&url).await;
    sqlx::raw_sql("BEGIN").execute(&mut node).await.unwrap();
    sqlx::query("SELECT write_beats(1, 1, $1, 0)").bind(vec![alive.id]).execute(&mut node).await.unwrap();
    let expiry = {
        let (store, batch) = (Arc::clone(&store), [expire(&alive, 1), expire(&dead, 1)]);
        tokio::spawn(async move { store.commit(&batch).await })
    };
    waiting_for_locks(&url, 1).await;
    sqlx::raw_sql("COMMIT").execute(&mut node).await.unwrap();
    let Committed::Done(changes) = expiry.await.unwrap().unwrap() else { panic!("a conflict") };
    assert_eq!(changes[0], None);
    assert_eq!(changes[1].as_ref().map(|change| change.id), Some(dead.id));
    assert_eq!(entry(&store, "a/1").await, alive);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beat_learns_of_an_expiry_that_was_not_committed_when_it_began() {
    let Place { store, url, .. } = Place::postgres().await;
    let store = Arc::new(store);
    commit(&store, &[register("a/1"), register("a/2")]).await;
    let (dead, alive) = (entry(&store, "a/1").await, entry(&store, "a/2").await);
    let mut node = connect(&url).await;
    sqlx::raw_sql("BEGIN").execute(&mut node).await.unwrap();
    sqlx::query("DELETE FROM leases WHERE id = $1 AND beat = 1")
        .bind(dead.id)
        .execute(&mut node)
        .await
        .unwrap();
    let beat = {
        let (store, ids) = (Arc::clone(&store), [dead.id, alive.id]);
        tokio::spawn(async move { store.write_beats(1, 1, &ids, Duration::ZERO).await })
    };
    waiting_for_locks(&url, 1).await;
    sqlx::raw_sql("COMMIT").execute(&mut node).await.unwrap();
    assert_eq!(beat.await.unwrap().unwrap(), BeatsWritten { repeated: false, missing: vec![dead.id] });
    assert_eq!(beats(&store, alive.id).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_sees_what_was_committed_while_it_waited_for_its_turn() {
    let Place { store, url, .. } = Place::postgres().await;
    let store = Arc::new(store);
    let mut node = connect(&url).await;
    sqlx::raw_sql("BEGIN; SELECT revision FROM head FOR UPDATE").execute(&mut node).await.unwrap();
    let commits: Vec<_> = (0..3)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.commit(&[register("a/1")]).await.unwrap() })
        })
        .collect();
    waiting_for_locks(&url, 3).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut node).await.unwrap();
    let mut written = 0;
    for commit in commits {
        match commit.await.unwrap() {
            Committed::Done(changes) => written += changes.iter().flatten().count(),
            Committed::Conflict(places) => assert_eq!(places, [0]),
        }
    }
    assert_eq!((written, head(&store).await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_start_at_once() {
    let url = Postgres::shared().fresh_database().await;
    let nodes: Vec<_> = (0..5)
        .map(|n| {
            let url = url.clone();
            tokio::spawn(async move {
                commit_one(&migrated(&url).await, register(&format!("a/{n}"))).await.revision
            })
        })
        .collect();
    let mut revisions = BTreeSet::new();
    for node in nodes {
        revisions.insert(node.await.unwrap());
    }
    assert_eq!(revisions, (1..=5).collect());
}

#[tokio::test]
async fn beats_are_hot_updates() {
    // A server of its own: an open transaction in any database of a server keeps dead rows of all from being pruned
    // for a while, and tests beside this one hold some open. A tick apart that costs nothing; here twenty ticks pass
    // in a moment. An ANALYZE would do the same.
    let server = Postgres::start();
    let url = server.fresh_database().await;
    let store = migrated(&url).await;
    let quiet = "ALTER TABLE leases SET (autovacuum_enabled = false)";
    sqlx::query(quiet).execute(&mut connect(&url).await).await.unwrap();
    let mut ids = Vec::new();
    for batch in 0..4 {
        let batch: Vec<Mutation> = (0..500).map(|n| register(&format!("s{batch}/{n}"))).collect();
        ids.extend(commit(&store, &batch).await.iter().map(|change| change.id));
    }
    for seq in 1..=20 {
        assert_eq!(store.write_beats(1, seq, &ids, Duration::ZERO).await.unwrap(), BeatsWritten::default());
    }
    // A session tells its counts at its end at the latest.
    store.close(SOON).await;
    let updates = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'leases'";
    wait_until(SOON, "statistics", async || count(&url, updates).await >= 40_000).await;
    let (all, hot): (i64, i64) =
        sqlx::query_as("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'leases'")
            .fetch_one(&mut connect(&url).await)
            .await
            .unwrap();
    assert!(hot * 100 >= all * 99, "{hot} of {all} updates were HOT");
}

/// Nodes beat, replace, drain, expire and remove the same entries, each in an order of its own. The server looks for a
/// dead-lock long before anybody's patience ends.
#[tokio::test(flavor = "multi_thread")]
async fn beats_and_changes_never_dead_lock() {
    const ENTRIES: usize = 40;
    let server = Postgres::start_with(&[("deadlock_timeout", "10ms")]);
    let url = server.fresh_database().await;
    let store = Arc::new(migrated(&url).await);
    let name = |n: usize| format!("s/{n}");
    let batch: Vec<Mutation> = (0..ENTRIES).map(|n| register(&name(n))).collect();
    let ids: Arc<Vec<i64>> = Arc::new(commit(&store, &batch).await.iter().map(|change| change.id).collect());
    let mut tasks = Vec::new();
    for writer in 0..3 {
        let (store, ids) = (Arc::clone(&store), Arc::clone(&ids));
        tasks.push(tokio::spawn(async move {
            for seq in 1..=60 {
                let mut ids = ids.to_vec();
                ids.rotate_left(usize::try_from(seq).unwrap() * 7 % ENTRIES);
                // A row that is there already is not written again.
                sure(|| store.write_beats(writer, seq, &ids, Duration::ZERO)).await;
            }
        }));
    }
    for node in 0..3_usize {
        let store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            let mut written = 0;
            for round in 0..60 {
                let names: Vec<String> =
                    (0..12).map(|n| name((n * 11 + round * (node + 3)) % ENTRIES)).collect();
                let keys: Vec<_> = names.iter().map(|name| crate::support::key(name)).collect();
                let read = sure(|| store.read(&keys)).await;
                let batch: Vec<Mutation> = read
                    .iter()
                    .zip(&names)
                    .enumerate()
                    .map(|(place, (standing, name))| match (&standing.entry, place % 4) {
                        (None, _) => register(name),
                        (Some(stored), 0) => expire(stored, 1),
                        (Some(stored), 1) => mutation(Kind::Deregister, record(name), Some(stored.revision)),
                        (Some(stored), 2) => mutation(Kind::Drain, record(name), Some(stored.revision)),
                        (Some(stored), _) => mutation(Kind::Replace, record(name), Some(stored.revision)),
                    })
                    .collect();
                let watch = Stopwatch::start();
                match store.commit(&batch).await {
                    Ok(Committed::Done(_)) => written += 1,
                    Ok(Committed::Conflict(_)) => {}
                    Err(error) => assert!(stood_still(&watch), "{error}"),
                }
            }
            assert!(written > 0, "node {node} wrote nothing");
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let log = log(&store, 0, 100_000).await;
    let expected: Vec<i64> = (1..=i64::try_from(log.len()).unwrap()).collect();
    assert_eq!(log.iter().map(|change| change.revision).collect::<Vec<i64>>(), expected);
    assert!(!server.log().contains("deadlock detected"), "{}", server.log());
    // Entries and leases still belong together.
    let apart = "SELECT count(*) FROM instances i FULL JOIN leases l USING (id) \
                 WHERE l.id IS NULL OR i.service IS NULL";
    assert_eq!(count(&url, apart).await, 0);
}
