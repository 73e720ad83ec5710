use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn at(nanos: u64) -> Moment {
    Moment::from_start(Duration::from_nanos(nanos))
}

#[test]
fn a_second_s_worth_at_once_and_not_one_more() {
    for limit in [1, 2, 3, 7, 1_000, 5_000] {
        let rates = Rates::new(limit);
        let taken = (0..limit).filter(|_| rates.take(at(5), &"a").is_ok()).count();
        assert_eq!(u32::try_from(taken).unwrap(), limit);
        let wait = rates.take(at(5), &"a").unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{limit}: {wait:?}");
        // Others are not held up by it.
        assert_eq!(rates.take(at(5), &"b"), Ok(()));
        // When it said.
        let then = at(5).plus(wait);
        assert!(rates.take(then.minus(Duration::from_nanos(1)), &"a").is_err());
        assert_eq!(rates.take(then, &"a"), Ok(()));
        assert!(rates.take(then, &"a").is_err());
    }
}

proptest! {
    /// In any span: no more than the rate gives in it and a second's worth; and nobody who stays below is refused.
    #[test]
    fn no_span_holds_more_than_the_rate(limit in 1_u32..50, steps in prop::collection::vec(0_u64..300_000_000, 1..300)) {
        let rates = Rates::new(limit);
        let mut now = 1;
        let mut taken: Vec<u64> = Vec::new();
        for step in steps {
            now += step;
            let fits = |from: &u64| {
                let since = u64::try_from(taken.iter().filter(|at| *at >= from).count()).unwrap();
                let given = (now - from) * u64::from(limit) / 1_000_000_000;
                since < u64::from(limit) + given
            };
            // A turn more than that, where fractions of one were rounded.
            let generous = taken.iter().all(|from| {
                let since = u64::try_from(taken.iter().filter(|at| *at >= from).count()).unwrap();
                since < u64::from(limit) + (now - from) * u64::from(limit) / 1_000_000_000 + 2
            });
            let strict = taken.iter().all(fits);
            if rates.take(at(now), &7).is_ok() {
                prop_assert!(generous);
                taken.push(now);
            } else {
                prop_assert!(!strict);
            }
        }
    }
}

/// Whoever floods from hundreds of addresses holds up nobody else but by a rare chance.
#[test]
fn a_flood_from_many_holds_up_few() {
    let rates = Rates::new(10);
    for flooder in 0..1_000 {
        while rates.take(at(1), &flooder).is_ok() {}
    }
    let held_up = (1_000_000..1_010_000).filter(|other| rates.take(at(1), other).is_err()).count();
    // (1000 × 2 ÷ 65536)² of 10,000 is 9.
    assert!(held_up < 60, "{held_up}");
}

#[test]
fn the_table_is_as_large_as_it_is() {
    let rates = Rates::new(1);
    let size = rates.cells.len();
    for caller in 0..200_000 {
        let _ = rates.take(at(caller), &caller);
    }
    assert_eq!((rates.cells.len(), size_of::<AtomicMoment>() * size), (size, 512 << 10));
    let different: HashSet<u64> = rates.hashers.iter().map(|hasher| hasher.hash_one("a")).collect();
    assert_eq!(different.len(), 2, "the two cells of a caller are independent");
}
