//! The registry cannot be reached for a while.

use std::time::Duration;

use testkit::{Stopwatch, wait_until};
use tokio::time::sleep;

use crate::support::{Proxy, Registry, SOON, Sample, Sidecar};

/// A pause runs from an answer to the next attempt, and both ends are noted a little late here.
const FLOOR: Duration = Duration::from_millis(900);

/// Longest pause of a registration, and what a busy machine adds.
const CEILING: Duration = Duration::from_secs(62);

#[tokio::test]
async fn registration_is_tried_at_bounded_pauses_and_made_by_the_next_attempt() {
    let node = Registry::on_sqlite().started().await;
    let service = Sample::start();
    let proxy = Proxy::start(node.port()).await;
    let sidecar = Sidecar::of("unreached", service.port(), &proxy.url()).started();
    wait_until(CEILING, "some attempts", async || proxy.count() >= 4).await;
    let gaps = proxy.gaps(0);
    assert!(gaps.iter().all(|gap| *gap >= FLOOR && *gap <= CEILING), "{gaps:?}");
    assert!(!sidecar.healthy().await, "not registered, and the health check says so");

    let attempts = proxy.connect();
    wait_until(CEILING, "another attempt", async || proxy.count() > attempts).await;
    sidecar.listed(node.client()).await;
    assert_eq!(proxy.count(), attempts + 1, "the first attempt after its return registers");
    assert!(sidecar.healthy().await);
}

#[tokio::test]
async fn a_registered_sidecar_never_waits_longer_than_its_interval() {
    let node = Registry::on_sqlite().started().await;
    let service = Sample::start();
    let proxy = Proxy::start(node.port()).await;
    proxy.connect();
    let sidecar = Sidecar::of("cut-off", service.port(), &proxy.url()).started();
    sidecar.listed(node.client()).await;
    let cut = proxy.cut();
    // Longer than the lease: the node is right to let it end, and the next call finds that out.
    wait_until(SOON, "some attempts", async || proxy.count() >= cut + 5).await;
    let gaps = proxy.gaps(cut);
    // An interval of a second, and what a busy machine adds.
    assert!(gaps.iter().all(|gap| *gap >= FLOOR && *gap <= Duration::from_secs(4)), "{gaps:?}");
    wait_until(SOON, "the lease ended", async || !node.client().lists("cut-off", sidecar.instance()).await)
        .await;
    wait_until(SOON, "the health check fails", async || !sidecar.healthy().await).await;

    let connected = Stopwatch::start();
    proxy.connect();
    wait_until(SOON, "listed", async || node.client().lists("cut-off", sidecar.instance()).await).await;
    assert!(connected.elapsed() < Duration::from_secs(4), "within one interval: {:?}", connected.elapsed());
    // One connection, kept, serves from here on.
    let connections = proxy.count();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(proxy.count(), connections, "beats share a connection");
    assert!(sidecar.healthy().await);
}
