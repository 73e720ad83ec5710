//! The service itself fails while its sidecar lives.

use std::time::Duration;

use testkit::{Stopwatch, wait_until};

use crate::support::{Answer, Client, Registry, SOON, Sample, Sidecar, Switch};

/// Two failed probes, 1 s apart, and 3 s.
const NOTICED: Duration = Duration::from_secs(2 + 3);

/// A probe's time-out, which a hanging service adds.
const PROBE: Duration = Duration::from_secs(2);

/// One probe away, and what a busy machine adds.
const BACK: Duration = Duration::from_secs(1 + 2);

/// Waits until the instance is critical, out of the answers and still there for who asks for all; returns its output.
async fn critical(client: &Client, sidecar: &Sidecar, within: Duration) -> String {
    let (service, instance) = (sidecar.service(), sidecar.instance());
    let begun = Stopwatch::start();
    wait_until(SOON, "critical", async || !client.usable(service, instance).await).await;
    assert!(begun.elapsed() < within, "critical after {:?}", begun.elapsed());
    let all = client.look(&format!("/services/{service}?all=true")).await;
    assert!(all.lists(instance), "{all:?}");
    let entry = client.entry(service, instance).await;
    assert_eq!(entry["status"], "critical", "{entry}");
    entry["output"].as_str().unwrap_or_else(|| panic!("no output: {entry}")).to_owned()
}

/// Waits until the instance is handed out again.
async fn passing(client: &Client, sidecar: &Sidecar, within: Duration) {
    let back = Stopwatch::start();
    wait_until(SOON, "passing again", async || client.lists(sidecar.service(), sidecar.instance()).await)
        .await;
    assert!(back.elapsed() < within, "passing {:?} after the service was back", back.elapsed());
}

#[tokio::test]
async fn a_killed_service_is_critical_in_time_and_passing_at_once_when_it_is_back() {
    let node = Registry::on_sqlite().started().await;
    let mut service = Sample::start();
    let sidecar = Sidecar::of("killed", service.port(), &node.url()).started();
    let before = sidecar.listed(node.client()).await;
    for _ in 0..2 {
        service.kill_9().await;
        let output = critical(node.client(), &sidecar, NOTICED).await;
        assert!(output.to_lowercase().contains("refused"), "{output}");
        assert!(sidecar.healthy().await, "the sidecar itself does what it should");

        service.start_again();
        passing(node.client(), &sidecar, BACK).await;
    }
    let after = sidecar.listed(node.client()).await;
    assert_eq!(after["registered_at"], before["registered_at"]);
    assert!(after["output"].is_null(), "{after}");
}

#[tokio::test]
async fn a_service_that_answers_500_is_critical() {
    let node = Registry::on_sqlite().started().await;
    let service = Switch::start(Answer::Healthy).await;
    let sidecar = Sidecar::of("failing", service.port(), &node.url()).started();
    sidecar.listed(node.client()).await;
    service.set(Answer::Failing);
    let output = critical(node.client(), &sidecar, NOTICED).await;
    assert!(output.contains("500"), "{output}");
    service.set(Answer::Healthy);
    passing(node.client(), &sidecar, BACK).await;
}

#[tokio::test]
async fn a_service_that_hangs_is_critical() {
    let node = Registry::on_sqlite().started().await;
    let service = Switch::start(Answer::Healthy).await;
    let sidecar = Sidecar::of("hanging", service.port(), &node.url()).started();
    sidecar.listed(node.client()).await;
    service.set(Answer::Silent);
    let output = critical(node.client(), &sidecar, NOTICED + PROBE * 2).await;
    assert!(output.contains("2 s"), "{output}");
    service.set(Answer::Healthy);
    passing(node.client(), &sidecar, BACK + PROBE).await;
}
