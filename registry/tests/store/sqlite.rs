//! What only the file does: one process at a time, and nothing lost when it is killed.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use registry::store::{Store, StoreError};

use crate::support::{Place, commit_one, entry, head, migrated, register};

async fn refused(url: &str) -> String {
    match Store::open(url).await {
        Err(StoreError::Unusable(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

#[tokio::test]
async fn a_second_store_on_the_file_is_refused_until_the_first_is_closed() {
    let dir = testkit::memory_dir();
    let url = url(&dir.path().join("r.db"));
    let first = Store::open(&url).await.unwrap();
    let text = refused(&url).await;
    assert!(text.ends_with("r.db is in use by another process"), "{text}");
    first.migrate().await.unwrap();
    commit_one(&first, register("a/1")).await;
    assert!(refused(&url).await.contains("in use"));
    commit_one(&first, register("a/2")).await;
    first.close(Duration::from_secs(5)).await;
    assert_eq!(head(&migrated(&url).await).await, 2);
}

/// Another process that holds the file, with one entry in it.
fn holder(file: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sqlite::process_that_holds_the_file", "--ignored", "--nocapture"])
        .env("STORE_TEST_URL", url(file))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "committed"), "the other process did not commit");
    child
}

#[tokio::test]
#[ignore = "run as a process of their own by the tests of this file"]
async fn process_that_holds_the_file() {
    let store = migrated(&std::env::var("STORE_TEST_URL").unwrap()).await;
    commit_one(&store, register("a/1")).await;
    println!("\ncommitted");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_second_process_is_refused_and_a_killed_one_leaves_everything() {
    let dir = testkit::memory_dir();
    let file = dir.path().join("r.db");
    let mut child = holder(&file);
    assert!(refused(&url(&file)).await.contains("in use by another process"));
    child.kill().unwrap();
    child.wait().unwrap();
    let store = migrated(&url(&file)).await;
    assert_eq!(entry(&store, "a/1").await.revision, 1);
    assert_eq!(commit_one(&store, register("a/2")).await.revision, 2);
}

#[tokio::test]
async fn a_file_that_cannot_be_one_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let missing = refused(&url(&dir.path().join("missing/r.db"))).await;
    assert!(missing.contains("missing/r.db cannot be opened"), "{missing}");
    assert!(refused(&url(dir.path())).await.contains("cannot be opened"));

    let text = dir.path().join("notes.txt");
    std::fs::write(&text, "not a database, but long enough to look at: ".repeat(40)).unwrap();
    assert!(refused(&url(&text)).await.ends_with("notes.txt is not a SQLite database"));

    // The directory of processes takes no file, not even root's.
    assert!(refused("sqlite:///proc/r.db").await.contains("/proc/r.db cannot be"), "/proc");
}

#[tokio::test]
async fn the_file_has_a_write_ahead_log() {
    let place = Place::sqlite().await;
    commit_one(&place.store, register("a/1")).await;
    place.store.close(Duration::from_secs(5)).await;
    let mut plain = <sqlx::SqliteConnection as sqlx::Connection>::connect(&place.url).await.unwrap();
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut plain).await.unwrap();
    assert_eq!(mode, "wal");
}
