use super::*;

fn at(milliseconds: u64) -> Moment {
    Moment::from_start(Duration::from_millis(1_000_000 + milliseconds))
}

fn opened() -> Core {
    let mut core = Core::new(at(0));
    for _ in 0..FAILURES {
        assert!(core.admit(at(0), Pass::Ordinary));
        core.ended(at(0), Verdict::Fails);
    }
    assert_eq!(core.shown(), Shown::Open);
    core
}

#[test]
fn it_opens_after_failures_in_a_row_alone() {
    let mut core = Core::new(at(0));
    for _ in 0..10 {
        for _ in 1..FAILURES {
            core.ended(at(0), Verdict::Fails);
        }
        assert_eq!(core.shown(), Shown::Closed);
        core.ended(at(0), Verdict::Works);
    }
    opened();
}

#[test]
fn while_open_one_call_a_second_is_let_through() {
    let mut core = opened();
    assert!(!core.admit(at(1), Pass::Ordinary));
    assert!(!core.admit(at(999), Pass::Ordinary));
    assert!(core.admit(at(1000), Pass::Ordinary));
    assert_eq!(core.shown(), Shown::HalfOpen);
    assert!(!core.admit(at(1001), Pass::Ordinary), "one");
    core.ended(at(1600), Verdict::Fails);
    assert_eq!(core.shown(), Shown::Open);
    assert!(!core.admit(at(1999), Pass::Ordinary));
    assert!(core.admit(at(2000), Pass::Ordinary));
}

#[test]
fn the_tick_is_always_let_through() {
    let mut core = opened();
    for millisecond in 0..50 {
        assert!(core.admit(at(millisecond), Pass::Probe));
        if millisecond % 2 == 0 {
            core.ended(at(millisecond), Verdict::Fails);
        }
    }
}

/// The breaker of the registry before this one never closed.
#[test]
fn it_closes_with_the_first_call_that_succeeds() {
    let mut core = opened();
    assert!(core.admit(at(10), Pass::Probe));
    core.ended(at(11), Verdict::Works);
    assert_eq!(core.shown(), Shown::Closed);
    assert!(core.admit(at(11), Pass::Ordinary));
    // And counts from the beginning.
    core.ended(at(12), Verdict::Fails);
    assert_eq!(core.shown(), Shown::Closed);
}

#[test]
fn a_probe_that_nobody_waits_for_any_more_keeps_it_from_nothing() {
    let mut core = opened();
    assert!(core.admit(at(1000), Pass::Ordinary));
    // Its caller has gone: it never ends.
    assert!(!core.admit(at(1999), Pass::Ordinary));
    assert!(core.admit(at(2000), Pass::Ordinary));
    core.ended(at(2001), Verdict::Works);
    assert_eq!(core.shown(), Shown::Closed);
}

#[test]
fn calls_that_were_under_way_when_it_opened_count_too() {
    let mut core = opened();
    core.ended(at(5), Verdict::Fails);
    assert_eq!(core.shown(), Shown::Open);
    core.ended(at(6), Verdict::Works);
    assert_eq!(core.shown(), Shown::Closed);
}
