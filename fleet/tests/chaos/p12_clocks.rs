//! P12: the clock of a node, and that of Postgres, jumps by an hour in both directions. Nobody notices.

use std::{sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::json;
use testkit::{Sql, WallClock};
use tokio::time::sleep;

use crate::support::{Plan, Stage, is_error, scenario, through_nginx};

/// How long after its TTL a dead instance is looked for: it is hidden 1.5 s after, as far as nodes see.
const GONE: Duration = Duration::from_secs(3);

/// The jumps, in seconds.
const JUMPS: [i64; 2] = [3600, -3600];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p12_clocks_that_jump_by_an_hour_end_no_lease_and_keep_none() {
    let clock_of_postgres = Arc::new(WallClock::new());
    let plan = Plan::new("P12", Duration::from_secs(1200)).clock_of_postgres(Arc::clone(&clock_of_postgres));
    scenario(plan, async |mut stage| {
        clock_of_postgres.set(0);
        let clock = WallClock::new();
        let history = stage.fleet.history();
        // It begins anew with a clock that can be moved.
        let fault = history.fault(fleet::FaultKind::Node(0));
        stage.node(0).kill_9().await;
        history.held(fault);
        history.lifting(fault);
        stage.node(0).start_with(&clock.environment());
        stage.node(0).ready().await;
        history.over(fault);
        let (mut off, mut kept) = (Vec::new(), Vec::new());
        for (which, clock) in [("node", &clock), ("Postgres", &clock_of_postgres)] {
            for jump in JUMPS {
                // A few die before each jump: their leases must end in time, whatever the clocks say.
                let few = stage.fleet.pick(3);
                stage.fleet.kill(&few);
                clock.set(jump);
                sleep(stage.scale.ttl() + GONE).await;
                for node in stage.nodes() {
                    let listed = stage.direct(node).listed().await.unwrap_or_default();
                    let names = few.iter().map(|number| stage.name(*number));
                    kept.extend(
                        names.filter(|name| listed.contains(name)).map(|name| (node, which, jump, name)),
                    );
                }
                let found = if which == "node" { of_node(&stage).await } else { of_postgres(&stage).await };
                off.push((which, jump, found));
                stage.fleet.restart(&few, Duration::from_secs(1));
                stage.whole().await;
            }
        }
        let mut outcome = stage.end("the clock of a node, then of Postgres: + 1 h, then - 1 h").await;
        outcome.expect(off.iter().all(|(_, set, found)| (set - found).abs() < 120), || {
            format!("the clocks were not moved as they should be (set, found): {off:?}")
        });
        outcome.figure(format!("{} dead ones listed after TTL + {} s", kept.len(), GONE.as_secs()));
        outcome.expect(kept.is_empty(), || format!("dead and listed: {kept:?}"));
        outcome.none("client errors", |call| through_nginx(call) && is_error(call));
        outcome
    })
    .await;
}

/// By how much the wall clock of node 0 is off, by an entry that it made.
async fn of_node(stage: &Stage) -> i64 {
    let client = stage.direct(0);
    let name = format!("at{}", stage.fleet.history().len());
    let body = json!({ "endpoint": "http://chaos.invalid:80", "ttl_seconds": 3 });
    let path = format!("/services/p12-clock/instances/{name}");
    let reply = client.patient(Method::PUT, &path, Some(&body)).await;
    let clock = reply.body["registered_at"].as_f64().expect("when it was registered");
    #[expect(clippy::cast_possible_truncation, reason = "whole seconds of this century")]
    let clock = clock as i64;
    clock - now()
}

async fn of_postgres(stage: &Stage) -> i64 {
    let mut sql = Sql::open(&stage.cluster.database).await;
    sql.number("SELECT extract(epoch FROM clock_timestamp())::bigint").await - now()
}

/// Seconds since 1970 by the real clock.
fn now() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "the clock that a node's is compared with")]
    let now = std::time::SystemTime::now();
    i64::try_from(now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap()
}
