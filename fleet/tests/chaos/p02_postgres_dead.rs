//! P2: Postgres is dead for a long time. Reads go on, beats and registrations are refused as they should be, and nobody
//! expires.

use std::time::Duration;

use fleet::history::{Act, What};
use tokio::time::{Instant, sleep};

use crate::support::{Load, Plan, crash, is_error, is_read, scenario, start_again, through_nginx};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p02_a_dead_postgres_fails_no_read_and_expires_nobody() {
    let bound = Duration::from_secs(1200);
    // The table says 5,000 beats/s: 150,000 instances with a beat each 30 s.
    let load = |scale: &crate::support::Scale| Load {
        services: scale.pick(20, 3000),
        instances: scale.pick(5, 50),
        reads_per_second: scale.pick(150.0, 1000.0),
        lists_per_second: scale.pick(4.0, 0.1),
    };
    scenario(Plan::new("P2", bound).load(load), async |stage| {
        let nginx = stage.nginx();
        let time = stage.scale.seconds(10.0, 300.0);
        let mut refusals = Vec::new();
        let back = stage
            .harm_store(
                async || crash(&stage.postgres, true),
                async || {
                    let begun = Instant::now();
                    let mut number = 0;
                    while begun.elapsed() < time {
                        number += 1;
                        refusals.push(nginx.register("refused", &format!("i{number}"), 60).await);
                        sleep(Duration::from_millis(200)).await;
                    }
                },
                async || start_again(&stage.postgres),
            )
            .await;
        let mut outcome = stage.end(&format!("Postgres dead for {} s", time.as_secs())).await;
        outcome.none("failed reads", |call| through_nginx(call) && is_read(call) && is_error(call));
        outcome.none("beats with another answer than 2xx or 503", |call| {
            through_nginx(call)
                && matches!(call.what, What::Write(write) if write.act == Act::Beat)
                && !matches!(call.status, 200..=299 | 503)
        });
        let proper = refusals.iter().flatten().filter(|reply| {
            reply.status == 503
                && reply.retry_after.as_ref().is_some_and(|value| value.parse::<u32>().is_ok())
        });
        let (proper, asked) = (proper.count(), refusals.len());
        outcome.figure(format!("{proper} of {asked} registrations 503 + Retry-After"));
        outcome.expect(proper == asked && asked > 0, || {
            format!("registrations while it was dead: {refusals:?}")
        });
        outcome.figure(format!("all nodes ready {:.1} s after", back.as_secs_f64()));
        outcome
    })
    .await;
}
