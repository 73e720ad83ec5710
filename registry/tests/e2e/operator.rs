//! What an operator does to an instance whose sidecar lives.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::wait_until;

use crate::support::{Registry, SOON, Sample, Sidecar};

/// A lease, in seconds, that no pause of a busy machine ends.
const LONG: &str = "30";

/// To keep it out it has to be drained.
#[tokio::test]
async fn a_deletion_of_a_living_instance_is_undone_by_its_next_beat() {
    let node = Registry::on_sqlite().started().await;
    let client = node.client();
    let service = Sample::start();
    let sidecar = Sidecar::of("deleted", service.port(), &node.url()).with("SERVICE_TTL", LONG).started();
    let before = sidecar.listed(client).await;
    let reply = client.call(Method::DELETE, &sidecar.path(), &Value::Null).await.unwrap();
    assert_eq!(reply.status, StatusCode::NO_CONTENT, "{reply:?}");
    let after = sidecar.listed(client).await;
    assert!(after["registered_at"].as_f64() > before["registered_at"].as_f64(), "{after} after {before}");
    assert_eq!(after["endpoint"], before["endpoint"]);
    // It stays, by its beats.
    wait_until(SOON, "a beat of the new session", async || {
        let entry = client.entry("deleted", sidecar.instance()).await;
        entry["last_heartbeat"].as_f64() > after["last_heartbeat"].as_f64()
    })
    .await;
    assert!(sidecar.healthy().await);
}

#[tokio::test]
async fn what_an_operator_drained_stays_drained_through_beats_and_registrations() {
    let node = Registry::on_sqlite().started().await;
    let client = node.client();
    let service = Sample::start();
    let mut sidecar = Sidecar::of("drained", service.port(), &node.url()).with("SERVICE_TTL", LONG).started();
    let mut last = sidecar.listed(client).await;
    let drain = format!("{}/drain", sidecar.path());
    let reply = client.put(&drain, json!({"reason": "disk swap"})).await;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    // Beats of this process, then the registration and the beats of the next one.
    for field in ["last_heartbeat", "last_heartbeat", "registered_at", "last_heartbeat"] {
        if field == "registered_at" {
            sidecar.kill_9().await;
            sidecar.start();
        }
        wait_until(SOON, field, async || {
            let entry = client.entry("drained", sidecar.instance()).await;
            assert_eq!(entry["draining"], true, "{entry}");
            assert_eq!(entry["drain_reason"], "disk swap", "{entry}");
            assert!(!client.usable("drained", sidecar.instance()).await, "nobody is sent there");
            let newer = entry[field].as_f64() > last[field].as_f64();
            if newer {
                last = entry;
            }
            newer
        })
        .await;
    }
    assert!(sidecar.healthy().await, "it is registered and beats");
    assert_eq!(client.delete(&drain).await.status, StatusCode::NO_CONTENT);
    assert_eq!(sidecar.listed(client).await["draining"], false);
}
