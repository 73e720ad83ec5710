//! A sidecar that is asked to leave.

use std::{process::Command, time::Duration};

use reqwest::StatusCode;
use testkit::{Signal, Stopwatch, free_port, wait_until};
use tokio::time::Instant;

use crate::support::{Registry, SOON, Sample, Sidecar, sidecar_program, signal_child};

/// From SIGTERM until no reader sees it any more.
const GONE: Duration = Duration::from_secs(2);

/// From SIGTERM until its exit, whatever the registry does.
const EXIT: Duration = Duration::from_secs(5);

/// Longer than a lease.
const DRAIN: Duration = Duration::from_secs(6);

#[tokio::test]
async fn sigterm_takes_the_entry_away_at_once() {
    let node = Registry::on_sqlite().started().await;
    let service = Sample::start();
    let sidecar = Sidecar::of("leaving", service.port(), &node.url()).started();
    sidecar.listed(node.client()).await;
    let asked = Stopwatch::start();
    sidecar.process().signal(Signal::TERM);
    sidecar.gone(node.client()).await;
    assert!(asked.elapsed() < GONE, "{:?}", asked.elapsed());
    assert_eq!(sidecar.process().wait(SOON).await.code(), Some(0));
    assert!(asked.elapsed() < EXIT, "{:?}", asked.elapsed());
    let reply = node.client().look("/services/leaving").await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert_eq!(reply.body["state"], "deregistered", "{reply:?}");
}

#[tokio::test]
async fn it_drains_first_for_as_long_as_it_was_told() {
    let node = Registry::on_sqlite().started().await;
    let client = node.client();
    let service = Sample::start();
    let sidecar = Sidecar::of("draining", service.port(), &node.url())
        .with("DRAIN_SECONDS", &DRAIN.as_secs().to_string())
        .started();
    sidecar.listed(client).await;
    let (begun, asked) = (Instant::now(), Stopwatch::start());
    sidecar.process().signal(Signal::INT);
    wait_until(SOON, "out of the answers", async || {
        client.get("/services/draining").await.unwrap().status == StatusCode::NOT_FOUND
    })
    .await;
    assert!(asked.elapsed() < GONE, "{:?}", asked.elapsed());
    let entry = client.entry("draining", sidecar.instance()).await;
    assert_eq!(entry["draining"], true, "{entry}");
    // It beats on while it drains: the lease is shorter than the drain.
    sidecar.gone(client).await;
    assert!(begun.elapsed() > DRAIN, "gone after {:?}", begun.elapsed());
    let last = client.look(&sidecar.path()).await;
    assert_eq!(last.body["state"], "deregistered", "{last:?}");
    assert_eq!(sidecar.process().wait(SOON).await.code(), Some(0));
    assert!(asked.elapsed() < DRAIN + EXIT, "{:?}", asked.elapsed());
}

#[tokio::test]
async fn it_leaves_in_time_when_the_registry_is_away() {
    let node = Registry::on_sqlite().started().await;
    let service = Sample::start();
    let sidecar = Sidecar::of("left", service.port(), &node.url()).started();
    sidecar.listed(node.client()).await;
    node.kill_9().await;
    assert_eq!(sidecar.stop(EXIT).await.code(), Some(0));

    // One that never reached it.
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let sidecar = Sidecar::of("never", service.port(), &nowhere).started();
    wait_until(SOON, "it tried", async || sidecar.process().stderr().contains("no good answer")).await;
    assert_eq!(sidecar.stop(EXIT).await.code(), Some(0));
}

#[tokio::test]
async fn it_leaves_in_time_when_the_registry_hangs() {
    let node = Registry::on_sqlite().started().await;
    let service = Sample::start();
    let sidecar = Sidecar::of("hung", service.port(), &node.url()).started();
    sidecar.listed(node.client()).await;
    node.process().signal(Signal::STOP);
    assert_eq!(sidecar.stop(EXIT).await.code(), Some(0));
}

#[tokio::test]
async fn sigterm_reaches_process_1_of_a_container() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: a process namespace needs root");
        return;
    }
    let node = Registry::on_sqlite().started().await;
    let service = Sample::start();
    let mut sidecar = Sidecar::of("process-1", service.port(), &node.url());
    let mut command = Command::new("unshare");
    command.args(["--fork", "--pid", "--mount-proc", "--kill-child", "--"]).arg(sidecar_program());
    sidecar.start_as(&mut command);
    sidecar.listed(node.client()).await;
    let asked = Stopwatch::start();
    signal_child(sidecar.process(), Signal::TERM);
    sidecar.gone(node.client()).await;
    assert!(asked.elapsed() < GONE, "{:?}", asked.elapsed());
    // unshare ends as its child did.
    assert_eq!(sidecar.process().wait(SOON).await.code(), Some(0));
    assert!(asked.elapsed() < EXIT, "{:?}", asked.elapsed());
}
