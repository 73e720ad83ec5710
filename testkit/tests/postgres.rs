//! A private server starts, restarts with its data, and never outlives the process that started it.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use sqlx::{Connection, PgConnection};
use testkit::{Postgres, StopMode, wait_until};

async fn number(url: &str, sql: &'static str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
}

#[tokio::test]
async fn data_outlives_each_way_to_stop() {
    let postgres = Postgres::start();
    let url = postgres.fresh_database().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("CREATE TABLE kept (n bigint); INSERT INTO kept VALUES (1)")
        .execute(&mut connection)
        .await
        .unwrap();
    drop(connection);
    for mode in [Some(StopMode::Smart), Some(StopMode::Fast), Some(StopMode::Immediate), None] {
        match mode {
            Some(mode) => postgres.stop(mode),
            None => postgres.kill_9(),
        }
        assert_eq!(postgres.pid(), None);
        assert!(PgConnection::connect(&url).await.is_err(), "{mode:?}");
        postgres.start_again();
        assert_eq!(number(&url, "SELECT count(*) FROM kept").await, 1, "{mode:?}");
    }
}

#[tokio::test]
async fn databases_are_apart() {
    let postgres = Postgres::shared();
    let (one, other) = (postgres.fresh_database().await, postgres.fresh_database().await);
    let mut connection = PgConnection::connect(&one).await.unwrap();
    sqlx::raw_sql("CREATE TABLE mine (n bigint)").execute(&mut connection).await.unwrap();
    let count = "SELECT count(*) FROM pg_tables WHERE tablename = 'mine'";
    assert_eq!((number(&one, count).await, number(&other, count).await), (1, 0));
}

#[tokio::test]
async fn nothing_is_left_of_a_dropped_server() {
    let postgres = Postgres::start();
    let pid = postgres.pid().unwrap();
    assert!(runs(pid));
    drop(postgres);
    assert!(!runs(pid));
}

#[tokio::test]
async fn nothing_is_left_of_a_killed_test_process() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "server_of_a_process_to_be_killed", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let pid: u32 = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("server ")?.parse().ok())
        .expect("a pid");
    assert!(runs(pid));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until(Duration::from_secs(10), "the server of a killed process to end", async || !runs(pid)).await;
}

#[test]
#[ignore = "run by nothing_is_left_of_a_killed_test_process"]
fn server_of_a_process_to_be_killed() {
    let postgres = Postgres::start();
    println!("\nserver {}", postgres.pid().unwrap());
    loop {
        std::thread::park();
    }
}

fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.contains("testkit-postgres-"))
}

#[tokio::test]
async fn a_standby_follows_and_is_promoted() {
    let primary = Postgres::start();
    let url = primary.fresh_database().await;
    let standby = primary.standby();
    let other = url.replace(&primary.port().to_string(), &standby.port().to_string());
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("CREATE TABLE kept (n bigint); INSERT INTO kept VALUES (1)")
        .execute(&mut connection)
        .await
        .unwrap();
    wait_until(Duration::from_secs(10), "the standby has it", async || {
        let mut connection = PgConnection::connect(&other).await.unwrap();
        let count =
            sqlx::query_scalar::<_, i64>("SELECT count(*) FROM kept").fetch_one(&mut connection).await;
        count.is_ok_and(|count| count == 1)
    })
    .await;
    let mut reader = PgConnection::connect(&other).await.unwrap();
    assert!(sqlx::raw_sql("INSERT INTO kept VALUES (2)").execute(&mut reader).await.is_err());
    primary.kill_9();
    standby.promote().await;
    sqlx::raw_sql("INSERT INTO kept VALUES (2)").execute(&mut reader).await.unwrap();
    assert_eq!(number(&other, "SELECT count(*) FROM kept").await, 2);
}
