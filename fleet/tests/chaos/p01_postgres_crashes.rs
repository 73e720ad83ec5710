//! P1: Postgres crashes again and again while instances register; what was acknowledged is there.

use std::time::Duration;

use rand::Rng;
use tokio::time::{Instant, sleep};

use crate::support::{Load, Plan, Registrar, SERVICES, crash, scenario, start_again};

/// By when a change is in the answers of all nodes at the latest.
const SIGHT: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p01_no_acknowledged_registration_is_lost_when_postgres_crashes() {
    let bound = Duration::from_secs(900);
    let load = |scale: &crate::support::Scale| Load {
        instances: 5,
        services: scale.pick(10, 100),
        reads_per_second: scale.pick(30.0, 100.0),
        lists_per_second: scale.pick(2.0, 0.2),
    };
    scenario(Plan::new("P1", bound).load(load), async |mut stage| {
        let per_second = stage.scale.pick(100.0, 500.0);
        let registrar = Registrar::start(vec![stage.nginx()], "p1", per_second);
        let rounds = stage.scale.pick(5, 20);
        for _ in 0..rounds {
            sleep(stage.scale.seconds(1.0, 4.0).mul_f64(stage.rng.random_range(0.0..1.0))).await;
            let kill = stage.rng.random_bool(0.5);
            let down = stage.scale.seconds(0.5, 2.0).mul_f64(stage.rng.random_range(0.0..1.0));
            stage
                .harm_store(
                    async || crash(&stage.postgres, kill),
                    async || sleep(down).await,
                    async || start_again(&stage.postgres),
                )
                .await;
        }
        let done = registrar.stop().await;
        let mut lost = Vec::new();
        for node in stage.nodes() {
            let client = stage.direct(node);
            let begun = Instant::now();
            // The other nodes may learn of the last ones a moment later.
            let missing = loop {
                let listed = client.listed().await.unwrap_or_default();
                let missing: Vec<_> = done.acknowledged.difference(&listed).cloned().collect();
                if missing.is_empty() || begun.elapsed() > SIGHT {
                    break missing;
                }
                sleep(stage.scale.tick).await;
            };
            lost.extend(missing.into_iter().map(|name| format!("{name} at node {node}")));
        }
        stage.others = SERVICES;
        let mut outcome = stage.end(&format!("{rounds} × Postgres kill -9 or immediate stop")).await;
        outcome.figure(format!(
            "{} of {} registrations acknowledged, {} refused, {} of these lost",
            done.acknowledged.len(),
            done.asked,
            done.refused.len(),
            lost.len()
        ));
        outcome.expect(lost.is_empty(), || format!("lost: {lost:?}"));
        outcome.expect(!done.acknowledged.is_empty(), || "nothing was registered".to_owned());
        outcome.expect(done.wrong.is_empty(), || format!("other answers: {:?}", done.wrong));
        outcome
    })
    .await;
}
