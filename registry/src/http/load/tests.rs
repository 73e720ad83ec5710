use proptest::prelude::*;

use super::*;

#[test]
fn big_lists_go_first_and_registrations_after_them() {
    let idle = (100, 0);
    let below = |limit: Duration| limit.saturating_sub(Duration::from_nanos(1));
    assert_eq!(shed(Duration::ZERO, idle), Shed::Nothing);
    assert_eq!(shed(below(LISTS), idle), Shed::Nothing);
    assert_eq!(shed(LISTS, idle), Shed::Lists);
    assert_eq!(shed(below(REGISTRATIONS), idle), Shed::Lists);
    assert_eq!(shed(REGISTRATIONS, idle), Shed::Registrations);
    assert_eq!(shed(Duration::ZERO, (100, 50)), Shed::Nothing);
    assert_eq!(shed(Duration::ZERO, (100, 51)), Shed::Lists);
    // A full queue refuses by itself.
    assert_eq!(shed(Duration::ZERO, (100, 100)), Shed::Lists);
    assert!(Shed::Nothing < Shed::Lists && Shed::Lists < Shed::Registrations);
}

proptest! {
    /// Whoever is further behind sheds no less.
    #[test]
    fn more_load_never_sheds_less(late in 0_u64..600, more in 0_u64..600, taken in 0_usize..100, further in 0_usize..100) {
        let of = |late, taken: usize| shed(Duration::from_millis(late), (100, taken.min(100)));
        prop_assert!(of(late, taken) <= of(late + more, taken + further));
    }

    /// What counts is how late all of the last timers were, not one of them.
    #[test]
    fn the_least_of_the_last_counts(late in prop::collection::vec(0_u64..1000, RECENT..100)) {
        let mut lateness = Lateness::default();
        let mut said = Duration::ZERO;
        for millis in &late {
            said = lateness.measured(Duration::from_millis(*millis));
        }
        let least = late[late.len() - RECENT..].iter().min().unwrap();
        prop_assert_eq!(said, Duration::from_millis(*least));
    }
}

#[test]
fn one_pause_sheds_nothing() {
    let mut lateness = Lateness::default();
    for _ in 0..RECENT - 1 {
        assert_eq!(lateness.measured(Duration::from_secs(60)), Duration::ZERO);
    }
    assert_eq!(lateness.measured(Duration::ZERO), Duration::ZERO);
}
