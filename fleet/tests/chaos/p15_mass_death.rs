//! P15: half of all sidecars fall silent. If they return in time nobody was ever missing; if they are dead they are held,
//! shown as stale, and let go by themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use testkit::wait_until;
use tokio::time::{Instant, sleep};

use crate::support::{Client, Load, Plan, Scale, scenario};

/// After what is due an instance is gone within this time.
const GONE: Duration = Duration::from_secs(7);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p15_half_of_all_that_fall_silent_are_held_and_then_let_go() {
    // 2,000 sidecars with the full load. Of each service half stay.
    let load = |scale: &Scale| Load {
        services: scale.pick(10, 200),
        instances: scale.pick(6, 10),
        reads_per_second: scale.pick(100.0, 200.0),
        lists_per_second: scale.pick(8.0, 1.0),
    };
    scenario(Plan::new("P15", Duration::from_secs(3000)).load(load), async |stage| {
        let half: Vec<u32> = (0..stage.fleet.len()).filter(|number| number % 2 == 0).collect();
        let names: BTreeSet<String> = half.iter().map(|number| stage.name(*number)).collect();
        let (ttl, interval) = (stage.scale.ttl(), stage.scale.interval);
        let mut wrong = Vec::new();

        // Who has never beaten does not count as silent.
        sleep(interval * 2).await;

        // Longer than a TTL, and back before the hold ends: nobody may be missing meanwhile.
        stage.fleet.pause(&half);
        let (begun, mut stale) = (Instant::now(), 0);
        while begun.elapsed() < ttl * 2 {
            for node in stage.nodes() {
                // A node that cannot see for a moment says so, and denies nobody.
                let Some(listed) = flags(&stage.direct(node)).await else { continue };
                let missing = names.iter().filter(|name| !listed.contains_key(*name)).count();
                if missing > 0 {
                    wrong.push(format!("{missing} missing at node {node} after {:?}", begun.elapsed()));
                }
                stale = stale.max(listed.values().filter(|stale| **stale).count());
            }
            sleep(stage.scale.tick).await;
        }
        stage.fleet.resume(&half);
        let returned = Instant::now();
        for node in stage.nodes() {
            let client = stage.direct(node);
            wait_until(ttl + GONE, "nobody is stale any more", async || {
                let listed = flags(&client).await;
                listed.is_some_and(|listed| {
                    listed.len() >= names.len() * 2 && listed.values().all(|stale| !stale)
                })
            })
            .await;
        }
        let fresh = returned.elapsed();
        sleep(ttl).await;

        // For good.
        stage.fleet.kill(&half);
        let killed = Instant::now();
        let (mut left, mut emptied) = (BTreeMap::new(), Duration::ZERO);
        // 15 % of the held and at least 10 in each TTL, after a TTL and a hold of two.
        let share = half.len().max(1) * 15 / 100;
        let turns = u32::try_from(half.len().div_ceil(share.max(10))).unwrap();
        let due = ttl * (3 + turns) + GONE;
        wait_until(due + ttl * 3, "all that are dead are let go", async || {
            let Some(listed) = flags(&stage.direct(0)).await else { return false };
            let since = killed.elapsed();
            for name in names.iter().filter(|name| !listed.contains_key(*name)) {
                left.entry(name.clone()).or_insert(since);
            }
            emptied = since;
            sleep(stage.scale.tick).await;
            left.len() == names.len()
        })
        .await;
        let first = left.values().min().copied().unwrap_or_default();
        for node in stage.nodes() {
            let client = stage.direct(node);
            wait_until(ttl + GONE, "all nodes list the same", async || {
                let listed = flags(&client).await;
                listed.is_some_and(|listed| {
                    listed.len() == names.len() && listed.keys().all(|name| !names.contains(name))
                })
            })
            .await;
        }
        stage.agree(stage.load.services).await;
        let fault =
            format!("{} of {} sidecars silent, back after two TTLs; then killed", half.len(), half.len() * 2);
        let mut outcome = stage.end_now(&fault).await;
        outcome.figure(format!("{} missing while silent", wrong.len()));
        outcome.expect(wrong.is_empty(), || format!("{wrong:#?}"));
        outcome.figure(format!("{stale} shown as stale"));
        outcome.expect(stale == half.len(), || format!("only {stale} were shown as stale"));
        outcome.figure(format!("all fresh {:.1} s after their return", fresh.as_secs_f64()));
        // The last beat lies up to an interval before the end of the process.
        let earliest = (ttl * 3).saturating_sub(interval);
        outcome.figure(format!("the first dead one let go after {:.1} s", first.as_secs_f64()));
        outcome.expect(first >= earliest, || format!("let go after {first:?}, held until {earliest:?}"));
        outcome.at_most("the last one let go after", emptied, due);
        outcome
    })
    .await;
}

/// Everything that a node lists, and whether it is stale; `None` where it does not say.
async fn flags(client: &Client) -> Option<BTreeMap<String, bool>> {
    Some(client.instances().await?.into_iter().collect())
}
