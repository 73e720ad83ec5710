//! Whoever starts first waits for the others.

use testkit::wait_until;

use crate::support::{Answer, Registry, SOON, Sample, Sidecar, Switch};

#[tokio::test]
async fn a_sidecar_that_starts_first_waits_for_the_registry() {
    let service = Sample::start();
    let mut node = Registry::on_sqlite();
    let sidecar = Sidecar::of("first", service.port(), &node.url()).started();
    wait_until(SOON, "the sidecar found no registry", async || {
        sidecar.process().stderr().contains("no good answer from the registry")
    })
    .await;
    node.start();
    let instance = sidecar.listed(node.client()).await;
    assert_eq!(instance["endpoint"], format!("http://127.0.0.1:{}", service.port()));
    assert_eq!(instance["health_endpoint"], "/health");
    assert_eq!(instance["ttl_seconds"], 3);
    assert_eq!(instance["status"], "passing");
}

#[tokio::test]
async fn both_start_at_once() {
    let service = Sample::start();
    let mut node = Registry::on_sqlite();
    let mut sidecar = Sidecar::of("both", service.port(), &node.url());
    node.start();
    sidecar.start();
    sidecar.listed(node.client()).await;
    assert!(sidecar.healthy().await);
}

#[tokio::test]
async fn a_service_that_is_not_healthy_is_shown_as_critical_until_it_is() {
    let node = Registry::on_sqlite().started().await;
    let service = Switch::start(Answer::Failing).await;
    let sidecar =
        Sidecar::of("late", service.port(), &node.url()).with("INITIAL_WAIT_TIMEOUT", "5").started();
    wait_until(SOON, "probed", async || service.probes() > 0).await;
    assert!(node.client().instance("late", sidecar.instance()).await.is_none(), "registered too early");
    wait_until(SOON, "registered as critical", async || {
        node.client().instance("late", sidecar.instance()).await.is_some_and(|it| it["status"] == "critical")
    })
    .await;
    assert!(!node.client().usable("late", sidecar.instance()).await, "handed out while critical");
    service.set(Answer::Healthy);
    let instance = sidecar.listed(node.client()).await;
    assert_eq!(instance["metadata"]["version"], "3");
    assert!(instance["output"].is_null(), "{instance}");
}
