//! A node that is asked to stop, or is paused.

use std::{process::Command, time::Duration};

use reqwest::StatusCode;
use testkit::{Postgres, Signal, Stopwatch, wait_until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::support::{Poller, REGISTRY, Registry, SOON, TTL};

/// From its last beat on, a dead entry is gone within its TTL and this.
const GRACE: Duration = Duration::from_secs(7);

#[tokio::test]
async fn sigterm_writes_the_last_beats_and_ends_with_0() {
    let mut node = Registry::on_sqlite();
    // With this tick only the stop itself can write a beat.
    node.start_as(Command::new(REGISTRY).env("REGISTRY_TICK_MS", "60000"));
    node.ready().await;
    let client = node.client().clone();
    client.register("kept", "one", "s", 600).await;
    let registered = client.entry("kept", "one").await["registered_at"].as_f64().unwrap();

    let mut silent = TcpStream::connect(("127.0.0.1", node.port())).await.unwrap();
    let mut idle = TcpStream::connect(("127.0.0.1", node.port())).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(idle.read(&mut [0; 1024]).await.unwrap() > 0);
    let mut half = TcpStream::connect(("127.0.0.1", node.port())).await.unwrap();
    half.write_all(b"GET /livez HTTP/1.1\r\nHo").await.unwrap();

    // So that the beat differs from the registration.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(client.beat("kept", "one", "s").await.status, StatusCode::OK);
    let begun = Stopwatch::start();
    node.process().signal(Signal::TERM);
    // It serves for 1.5 s more: a machine that stood still meanwhile may have missed that.
    let missed = || begun.longest_stall() > Duration::from_millis(500);
    wait_until(SOON, "not ready while it stops", async || match client.get("/readyz").await {
        Ok(reply) => reply.status == StatusCode::SERVICE_UNAVAILABLE,
        Err(error) => {
            assert!(missed(), "{error}");
            true
        }
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(1), "not ready after {:?}", begun.elapsed());
    // It serves on for a moment: what it acknowledges then is kept too.
    let mut last = registered;
    while let Ok(beat) = client.beat_once("kept", "one", "s").await {
        if beat.status != StatusCode::OK {
            break;
        }
        if let Some(instance) = client.instance("kept", "one").await {
            last = instance["last_heartbeat"].as_f64().unwrap();
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert!(last > registered + 1.0 || missed(), "no beat was acknowledged while it stopped");
    let status = node.process().wait(SOON).await;
    assert_eq!(status.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap_or(0), 0, "the silent connection was closed");

    node.start();
    node.ready().await;
    let kept = node.client().entry("kept", "one").await["last_heartbeat"].as_f64().unwrap();
    assert!(
        kept > registered + 0.9 && kept > last - 0.1,
        "the last beat was at {last}, the store has {kept}"
    );
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let node = Registry::on_sqlite().started().await;
    // An open request, without which it would soon end by itself.
    let mut open = TcpStream::connect(("127.0.0.1", node.port())).await.unwrap();
    open.write_all(b"POST /register HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n").await.unwrap();
    node.process().signal(Signal::TERM);
    wait_until(SOON, "stopping", async || !node.client().ready().await).await;
    let asked = Stopwatch::start();
    node.process().signal(Signal::TERM);
    assert_eq!(node.process().wait(SOON).await.code(), Some(1));
    assert!(asked.elapsed() < Duration::from_secs(1), "it ended after {:?}", asked.elapsed());
}

#[tokio::test]
async fn sigterm_reaches_process_1_of_a_container() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: a process namespace needs root");
        return;
    }
    let mut node = Registry::on_sqlite();
    let mut command = Command::new("unshare");
    command.args(["--fork", "--pid", "--mount-proc", "--kill-child", "--", REGISTRY]);
    node.start_as(&mut command);
    node.ready().await;
    let asked = Stopwatch::start();
    crate::support::signal_child(node.process(), Signal::TERM);
    // unshare ends as its child did.
    assert_eq!(node.process().wait(SOON).await.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(10), "it ended after {:?}", asked.elapsed());
}

async fn a_pause_longer_than_a_lease_ends_none(node: Registry) {
    let client = node.client().clone();
    client.register("paused", "beats", "s", TTL.as_secs()).await;
    client.register("paused", "silent", "t", TTL.as_secs()).await;
    client.register("paused", "late", "u", TTL.as_secs()).await;
    let _beating = client.beating("paused", "beats", "s");
    let counted_before = node.process().stderr().matches("every lease counts anew").count();

    node.process().signal(Signal::STOP);
    sleep(TTL + Duration::from_secs(1)).await;
    // These wait in the node's sockets for its first instructions.
    let (first, second) = (client.clone(), client.clone());
    let reads = tokio::spawn(async move { first.get("/services/paused?all=true").await });
    let beat = tokio::spawn(async move { second.beat_once("paused", "late", "u").await });
    sleep(Duration::from_millis(200)).await;
    let poller = Poller::start(client.clone(), "paused", "beats");
    let (resumed, watch) = (Instant::now(), Stopwatch::start());
    node.process().signal(Signal::CONT);
    let (read, beat) = (reads.await.unwrap().unwrap(), beat.await.unwrap().unwrap());
    assert!(
        read.status == StatusCode::SERVICE_UNAVAILABLE || read.lists("beats") && read.lists("silent"),
        "{read:?}"
    );
    assert_ne!(beat.status, StatusCode::NOT_FOUND, "{beat:?}");
    // It was blind, whichever of its tasks came first.
    wait_until(SOON, "the node found that it had been blind", async || {
        node.process().stderr().matches("every lease counts anew").count() > counted_before
    })
    .await;
    node.ready().await;
    assert!(client.usable("paused", "silent").await, "its lease counts anew");

    wait_until(SOON, "the silent one ends", async || !client.usable("paused", "silent").await).await;
    let took = resumed.elapsed();
    assert!(took + Duration::from_millis(100) > TTL, "ended {took:?} after the pause");
    assert!(watch.elapsed() < TTL + GRACE, "ended {took:?} after the pause");
    poller.finish();
}

#[tokio::test]
async fn a_pause_longer_than_a_lease_ends_none_on_sqlite() {
    a_pause_longer_than_a_lease_ends_none(Registry::on_sqlite().started().await).await;
}

#[tokio::test]
async fn a_pause_longer_than_a_lease_ends_none_on_postgres() {
    let database = Postgres::shared().fresh_database().await;
    a_pause_longer_than_a_lease_ends_none(Registry::on(&database).started().await).await;
}
