//! What `make bench` throws by the million, scaled down.

use std::collections::BTreeMap;

use bench::{
    lines::flood::{FURTHER, Flood, Scale, throw},
    population::Population,
};
use testkit::{Postgres, Stopwatch};

use crate::{P99, lab};

/// The memory of a node without entries, and of 2,000 with everything that is under way; a queue without a bound, or
/// entries without a cap, take more.
const RESIDENT: u64 = 128 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn registrations_beyond_the_cap_harm_nobody_who_is_there() {
    let scale = Scale {
        cap: 2_000,
        thrown: 10_000,
        connections: 16,
        kept: Population { services: 20, instances: 10 },
        beats: 200,
    };
    let (_alone, lab) = lab().await;
    let database = Postgres::shared().fresh_database().await;
    let watch = Stopwatch::start();
    let flood = throw(&lab, &database, scale).await.expect("an answer to everything");
    let Flood { registrations, beats, resident, instances, told, .. } = &flood;
    let kept = u64::try_from(scale.kept.len()).expect("few");
    assert_eq!(*instances, u64::from(scale.cap));
    assert_eq!(registrations.good, u64::from(scale.cap) - kept, "{:?}", registrations.bad);
    // Everything else, and nothing with 503, which nginx would carry to every node.
    let refused = u64::from(scale.thrown) - registrations.good;
    assert_eq!(registrations.bad, BTreeMap::from([(429, refused)]));
    assert_eq!(*told, FURTHER);
    assert_eq!(beats.errors(), 0, "{:?}", beats.bad);
    let p99 = beats.latency(990);
    assert!(p99 <= P99 + watch.longest_stall(), "{p99:?}");
    assert!(*resident < RESIDENT, "{} MiB", resident >> 20);
}
