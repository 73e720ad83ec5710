//! P14: a service dies with its sidecar, leaves, or stops being healthy, while others are at work.

use std::{collections::BTreeMap, time::Duration};

use testkit::{Signal, wait_until};
use tokio::time::{Instant, sleep};

use crate::support::{FAILURES, Plan, Service, Sidecar, Stage, health_interval, scenario};

/// After its TTL an instance that fell silent is gone by then.
const GONE: Duration = Duration::from_secs(7);

/// From SIGTERM until it is gone.
const LEFT: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p14_who_dies_leaves_or_is_ill_is_gone_in_time() {
    scenario(Plan::new("P14", Duration::from_secs(600)), async |stage| {
        let url = stage.cluster.nginx.url();
        let (died, left, ill) = (Service::start().await, Service::start().await, Service::start().await);
        let start = |name, service| Sidecar::start(&stage.scale, &url, name, "one", service);
        let killed = start("p14-killed", &died);
        let leaver = start("p14-left", &left);
        let patient = start("p14-ill", &ill);
        for name in ["p14-killed", "p14-left", "p14-ill"] {
            let all = SOON.max(stage.scale.interval);
            wait_until(all, "the service is listed", async || listed_by_any(&stage, name).await).await;
        }
        // So that it has beaten, and not only registered.
        sleep(stage.scale.interval * 2).await;

        killed.process.kill_9().await;
        drop(died);
        let silent = Instant::now();

        leaver.process.signal(Signal::TERM);
        let asked = Instant::now();
        let left_after = gone(&stage, "p14-left", asked, SOON).await;
        let end = leaver.process.wait(SOON).await;

        ill.set_healthy(false);
        let failing = Instant::now();
        let probes = health_interval(&stage.scale) * FAILURES;
        let ill_after = gone(&stage, "p14-ill", failing, probes + SOON).await;

        let ttl = stage.scale.ttl();
        let killed_after = gone(&stage, "p14-killed", silent, ttl + SOON).await;
        patient.process.kill_9().await;
        let patience = ttl + GONE + SOON;
        wait_until(patience, "no node lists it", async || !listed_by_any(&stage, "p14-ill").await).await;

        let earliest = ttl.saturating_sub(stage.scale.interval);
        let mut outcome = stage.end("a service with its sidecar killed, one left, one ill").await;
        outcome.at_most("gone after kill -9", killed_after.last, ttl + GONE);
        let first = killed_after.first;
        outcome.expect(first >= earliest, || format!("the killed one was gone after {first:?} already"));
        outcome.at_most("gone after SIGTERM", left_after.last, LEFT);
        outcome.expect(end.success(), || format!("the sidecar that left: {end}"));
        outcome.at_most("gone after /health fails", ill_after.last, probes + Duration::from_secs(3));
        outcome
    })
    .await;
}

/// For what takes no time but the machine's.
const SOON: Duration = Duration::from_secs(30);

/// When the first node and when the last one no longer gave out a service.
#[derive(Debug)]
struct Gone {
    first: Duration,
    last: Duration,
}

async fn gone(stage: &Stage, name: &str, since: Instant, patience: Duration) -> Gone {
    let mut missing = BTreeMap::new();
    wait_until(patience, &format!("{name} is gone from all nodes"), async || {
        for node in stage.nodes() {
            if !missing.contains_key(&node) && !lists(stage, node, name).await {
                missing.insert(node, since.elapsed());
            }
        }
        missing.len() == stage.cluster.nodes.len()
    })
    .await;
    let (first, last) = (missing.values().min().copied(), missing.values().max().copied());
    Gone { first: first.unwrap_or_default(), last: last.unwrap_or_default() }
}

async fn lists(stage: &Stage, node: u8, name: &str) -> bool {
    let reply = stage.direct(node).get(&format!("/services/{name}")).await;
    reply.is_some_and(|reply| reply.status == 200)
}

async fn listed_by_any(stage: &Stage, name: &str) -> bool {
    for node in stage.nodes() {
        if lists(stage, node, name).await {
            return true;
        }
    }
    false
}
