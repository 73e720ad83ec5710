//! Postgres goes away and comes back under a node.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;
use testkit::{Postgres, StopMode, wait_until};
use tokio::time::sleep;

use crate::support::{Poller, Registry, SOON, TTL};

#[tokio::test]
async fn an_outage_of_postgres_stops_no_read_and_ends_no_lease() {
    let postgres = Postgres::start();
    let node = Registry::on(&postgres.fresh_database().await).started().await;
    let client = node.client();
    client.register("away", "one", "s", TTL.as_secs()).await;
    let before = client.entry("away", "one").await;
    let _beating = client.beating("away", "one", "s");
    let poller = Poller::start(client.clone(), "away", "one");

    postgres.stop(StopMode::Immediate);
    wait_until(SOON, "not ready without a store", async || {
        client.get("/readyz").await.unwrap().status == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    // Longer than the lease, so that a node that counted on would let it end.
    sleep(TTL + Duration::from_secs(1)).await;

    let list = client.get("/services/away").await.unwrap();
    assert!(list.lists("one"), "{list:?}");
    assert!(list.age.is_some_and(|age| age >= 3), "{list:?}");
    let refused = [
        client.beat_once("away", "one", "s").await.unwrap(),
        client.beat_once("away", "never-heard-of", "s").await.unwrap(),
        client.register_once("away", "two").await.unwrap(),
        client.call(Method::DELETE, "/services/away/instances/one", &Value::Null).await.unwrap(),
        client.get("/services/never-heard-of").await.unwrap(),
        client.get("/readyz").await.unwrap(),
    ];
    for reply in refused {
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{reply:?}");
        let seconds: u64 = reply.retry_after.as_deref().unwrap_or_default().parse().unwrap();
        assert!(seconds >= 1, "{reply:?}");
    }
    for path in ["/livez", "/health", "/readyz?stale=ok"] {
        assert_eq!(client.get(path).await.unwrap().status, StatusCode::OK, "{path}");
    }
    assert!(poller.listed() > 100, "only {} reads were answered", poller.listed());

    postgres.start_again();
    node.ready().await;
    assert_eq!(client.beat("away", "one", "s").await.status, StatusCode::OK);
    // Nothing ends falsely for a lease after the outage either.
    sleep(TTL + Duration::from_secs(1)).await;
    poller.finish();
    let after = client.entry("away", "one").await;
    assert_eq!(after["registered_at"], before["registered_at"]);
    client.register("away", "two", "t", 30).await;
}

#[tokio::test]
async fn a_node_that_starts_without_postgres_waits_for_it() {
    let postgres = Postgres::start();
    let database = postgres.fresh_database().await;
    postgres.stop(StopMode::Fast);
    let mut node = Registry::on(&database);
    node.start();
    let client = node.client();
    wait_until(SOON, "alive", async || {
        client.get("/livez").await.is_ok_and(|reply| reply.status == StatusCode::OK)
    })
    .await;
    for path in ["/readyz", "/readyz?stale=ok", "/health", "/services", "/services/x", "/instances"] {
        let reply = client.get(path).await.unwrap();
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(reply.retry_after.is_some(), "{path}");
    }
    assert_eq!(client.register_once("early", "one").await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(client.beat_once("early", "one", "s").await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);

    postgres.start_again();
    node.ready().await;
    client.register("early", "one", "s", 30).await;
    assert!(client.usable("early", "one").await);
    assert!(node.stop().await.success());
}

#[tokio::test]
async fn a_node_stops_in_time_while_postgres_is_away() {
    let postgres = Postgres::start();
    let node = Registry::on(&postgres.fresh_database().await).started().await;
    node.client().register("x", "one", "s", 30).await;
    postgres.stop(StopMode::Immediate);
    assert!(node.client().beat_once("x", "one", "s").await.is_ok());
    assert!(node.stop().await.success());
}
