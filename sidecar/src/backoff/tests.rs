use std::time::Duration;

use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

use super::Backoff;

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

proptest! {
    #[test]
    fn every_pause_keeps_floor_and_cap(seed: u64, floor in 1_u64..20, first in 0_u64..100, cap in 0_u64..100) {
        let backoff = Backoff::new(seconds(floor), seconds(first), seconds(cap));
        for pause in backoff.pauses(StdRng::seed_from_u64(seed)).take(500) {
            prop_assert!(pause >= seconds(floor), "{pause:?}");
            prop_assert!(pause <= seconds(cap.max(floor)), "{pause:?}");
        }
    }
}

#[test]
fn the_first_pause_of_a_beat_is_short_and_later_ones_reach_the_interval() {
    let interval = seconds(30);
    let mut longest = Duration::ZERO;
    for seed in 0..200 {
        let pauses: Vec<_> = Backoff::beat(interval).pauses(StdRng::seed_from_u64(seed)).take(20).collect();
        assert!(pauses[0] >= seconds(1) && pauses[0] <= seconds(5), "{pauses:?}");
        longest = pauses.into_iter().fold(longest, Duration::max);
    }
    assert!(longest <= interval && longest > seconds(25), "{longest:?}");
}

#[test]
fn an_interval_of_a_second_leaves_exactly_the_floor() {
    let pauses = Backoff::beat(seconds(1)).pauses(StdRng::seed_from_u64(1));
    assert!(pauses.take(50).all(|pause| pause == seconds(1)));
}

#[test]
fn registration_starts_within_three_seconds_and_grows_towards_sixty() {
    let mut firsts = Vec::new();
    let mut longest = Duration::ZERO;
    for seed in 0..200 {
        let mut pauses = Backoff::registration().pauses(StdRng::seed_from_u64(seed));
        firsts.push(pauses.next().unwrap());
        longest = pauses.take(30).fold(longest, Duration::max);
    }
    assert!(firsts.iter().all(|first| *first <= seconds(3)));
    // Not all the same: the point of the jitter.
    assert!(firsts.iter().any(|first| *first < seconds(2)) && firsts.iter().any(|first| *first > seconds(2)));
    assert!(longest > seconds(50) && longest <= seconds(60), "{longest:?}");
}
