//! A sidecar is killed and comes back, or has a double.

use std::time::Duration;

use reqwest::StatusCode;
use testkit::{Stopwatch, free_port, wait_until};
use tokio::time::{Instant, sleep};

use crate::support::{Client, Registry, SOON, Sample, Sidecar, TTL};

/// The session of a sidecar, from its status page.
async fn session(port: u16) -> String {
    let status = Client::new(port).get("/").await.unwrap();
    status.body["session"].as_str().unwrap_or_else(|| panic!("no session: {status:?}")).to_owned()
}

#[tokio::test]
async fn a_killed_sidecar_comes_back_as_another_session() {
    let node = Registry::on_sqlite().started().await;
    let client = node.client();
    let service = Sample::start();
    let status_port = free_port();
    let mut sidecar = Sidecar::of("again", service.port(), &node.url())
        .with("SIDECAR_LISTEN", &format!("127.0.0.1:{status_port}"))
        .started();
    let before = sidecar.listed(client).await;
    let old = session(status_port).await;

    sidecar.kill_9().await;
    sidecar.start();
    wait_until(SOON, "registered anew", async || {
        let now = client.instance("again", sidecar.instance()).await;
        now.is_some_and(|now| now["registered_at"].as_f64() > before["registered_at"].as_f64())
    })
    .await;
    let new = session(status_port).await;
    assert_ne!(old, new);

    // What the dead process might still have on its way.
    let late = client.delete(&format!("{}?session={old}", sidecar.path())).await;
    assert_eq!(late.status, StatusCode::CONFLICT, "{late:?}");
    let late = client.beat("again", sidecar.instance(), &old).await;
    assert_eq!(late.status, StatusCode::CONFLICT, "{late:?}");
    assert!(client.usable("again", sidecar.instance()).await);
    assert!(sidecar.healthy().await);
}

#[tokio::test]
async fn a_sidecar_that_died_for_good_is_gone_after_its_lease() {
    let node = Registry::on_sqlite().started().await;
    let service = Sample::start();
    let sidecar = Sidecar::of("dead", service.port(), &node.url()).started();
    sidecar.listed(node.client()).await;
    let (killed, watch) = (Instant::now(), Stopwatch::start());
    sidecar.kill_9().await;
    service.kill_9().await;
    sidecar.gone(node.client()).await;
    // Its last beat lies at most 0.97 intervals before its end.
    assert!(killed.elapsed() + Duration::from_millis(1100) > TTL, "{:?}", killed.elapsed());
    assert!(watch.elapsed() < TTL + Duration::from_secs(7), "{:?}", watch.elapsed());
    let reply = node.client().look("/services/dead").await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert_eq!(reply.body["state"], "expired", "{reply:?}");
}

#[tokio::test]
async fn of_two_sidecars_with_one_id_the_newest_wins() {
    let node = Registry::on_sqlite().started().await;
    let client = node.client();
    let service = Sample::start();
    let of = |who: &str| {
        Sidecar::of("double", service.port(), &node.url()).with("SERVICE_METADATA", &format!("who={who}"))
    };
    let older = of("older").started();
    older.listed(client).await;
    assert!(older.healthy().await);
    let newer = of("newer").started();
    wait_until(SOON, "the newer one is there", async || {
        client.instance("double", newer.instance()).await.is_some_and(|it| it["metadata"]["who"] == "newer")
    })
    .await;
    let taken = client.entry("double", newer.instance()).await;
    wait_until(SOON, "the older one says that it has a double", async || {
        older.process().stderr().contains("another process has registered this instance id")
    })
    .await;
    // It holds the socket of both, so it is the one that answers.
    assert!(!older.healthy().await);

    // It stays away: for two leases the entry is the newer one's, and beats.
    sleep(TTL * 2).await;
    let now = client.entry("double", newer.instance()).await;
    assert_eq!(now["metadata"]["who"], "newer");
    assert_eq!(now["registered_at"], taken["registered_at"]);
    assert!(now["last_heartbeat"].as_f64() > taken["last_heartbeat"].as_f64());

    // Its end takes nothing from the newer one, which then answers the health check.
    assert!(older.stop(Duration::from_secs(5)).await.success());
    assert!(client.usable("double", newer.instance()).await);
    wait_until(SOON, "the newer one answers", async || newer.healthy().await).await;
}
