//! How long after its acknowledgement by one node a registration is in the answers of the others: real processes, three
//! nodes on one Postgres, idle, under load, and with the LISTEN connections killed again and again.
//!
//! `cargo bench -p registry --bench fanout`, or with the number of registrations: `-- 200`.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::Client;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use testkit::{Postgres, Process, free_port, wait_until};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Instances that the load beats and reads.
const LOADED: usize = 1_000;

/// Requests a second of the load, half of them beats, half of them reads.
const LOAD: u32 = 2_000;

struct Node {
    url: String,
    _process: Process,
    _dir: tempfile::TempDir,
}

async fn node(client: &Client, database: &str) -> Node {
    let dir = tempfile::tempdir().expect("a directory");
    let port = free_port();
    let mut command = Command::new(env!("CARGO_BIN_EXE_registry"));
    command
        .env("REGISTRY_LISTEN", format!("127.0.0.1:{port}"))
        .env("DATABASE_URL", database)
        .env("REGISTRY_LOG", "warn");
    let process = Process::start("registry", dir.path(), &mut command);
    let url = format!("http://127.0.0.1:{port}");
    wait_until(PATIENCE, "the node is ready", async || {
        client.get(format!("{url}/readyz")).send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    Node { url, _process: process, _dir: dir }
}

async fn register(client: &Client, node: &Node, path: &str) {
    let body = json!({"endpoint": "http://127.0.0.1:9", "ttl_seconds": 3600});
    // On a busy machine a node may be blind for a moment: as sidecars do, try again.
    wait_until(PATIENCE, "registered", async || {
        let answer = client.put(format!("{}{path}", node.url)).json(&body).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    })
    .await;
}

/// Registers one after another on the first node; for each, the time until all others have it.
async fn measure(client: &Client, nodes: &[Node], round: &str, count: usize) -> Vec<Duration> {
    let mut took = Vec::with_capacity(count);
    for number in 0..count {
        let path = format!("/services/{round}/instances/i{number}");
        register(client, &nodes[0], &path).await;
        let acknowledged = Instant::now();
        for other in &nodes[1..] {
            let url = format!("{}{path}", other.url);
            while !client.get(&url).send().await.is_ok_and(|answer| answer.status() == 200) {
                assert!(acknowledged.elapsed() < PATIENCE, "{url} never appeared");
            }
        }
        took.push(acknowledged.elapsed());
        // Not in step with anything that the nodes do at regular times.
        sleep(Duration::from_micros(500 + 37 * (number as u64 % 97))).await;
    }
    took.sort_unstable();
    took
}

fn report(what: &str, took: &[Duration]) {
    let at = |per_mille: usize| took[(took.len() - 1) * per_mille / 1000];
    println!(
        "  {what:<42} p50 {:>9.1?}  p99 {:>9.1?}  max {:>9.1?}  of {}",
        at(500),
        at(990),
        at(1000),
        took.len()
    );
}

/// Beats and reads at all nodes, so many a second, until told to stop.
async fn load(client: Client, urls: Vec<String>, stop: Arc<AtomicBool>, sent: Arc<AtomicUsize>) {
    let mut tick = interval(Duration::from_secs(1) / (LOAD / 2));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        number += 1;
        let base = &urls[number % urls.len()];
        let at = format!("{base}/services/load-{}", number % LOADED);
        for request in [client.put(format!("{at}/instances/a/heartbeat")), client.get(at)] {
            let sent = Arc::clone(&sent);
            tokio::spawn(async move {
                if request.send().await.is_ok() {
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }
}

/// Ends every LISTEN connection as soon as it is there, until told to stop.
async fn kill_listeners(database: String, stop: Arc<AtomicBool>) {
    let mut connection = PgConnection::connect(&database).await.expect("connected");
    while !stop.load(Ordering::Relaxed) {
        sqlx::raw_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND query LIKE 'LISTEN%'",
        )
        .execute(&mut connection)
        .await
        .expect("ended");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::main]
async fn main() {
    let count = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1_000);
    let server = Postgres::start_with(&[("fsync", "on")]);
    let database = server.fresh_database().await;
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().expect("a client");
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(node(&client, &database).await);
    }
    println!("from the acknowledgement by one node to the answers of both others");
    report("idle", &measure(&client, &nodes, "idle", count).await);

    for number in 0..LOADED {
        register(&client, &nodes[number % 3], &format!("/services/load-{number}/instances/a")).await;
    }
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let urls = nodes.iter().map(|node| node.url.clone()).collect();
    let begun = Instant::now();
    let loading = tokio::spawn(load(client.clone(), urls, Arc::clone(&stop), Arc::clone(&sent)));
    let took = measure(&client, &nodes, "loaded", count).await;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = sent.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    loading.await.expect("the load ended");
    report(&format!("under {rate:.0} beats and reads a second"), &took);

    let stop = Arc::new(AtomicBool::new(false));
    let killing = tokio::spawn(kill_listeners(database, Arc::clone(&stop)));
    // Each takes up to a tick of 1 s.
    report("LISTEN connections killed", &measure(&client, &nodes, "deaf", count.min(50)).await);
    stop.store(true, Ordering::Relaxed);
    killing.await.expect("the killer ended");
}
