use super::*;

#[test]
fn a_moment_has_one_reading_of_the_wall_clock() {
    let moment = now();
    let first = unix_at(moment, moment, unix_now(moment));
    for _ in 0..1000 {
        let later = now();
        assert_eq!(unix_at(moment, later, unix_now(later)).to_bits(), first.to_bits());
    }
}

#[test]
fn moments_are_counted_without_going_round() {
    assert_eq!(Moment::NEVER.minus(Duration::from_secs(1)), Moment::NEVER);
    let start = Moment::from_start(Duration::ZERO);
    assert_eq!(start.since(start.plus(Duration::from_secs(1))), Duration::ZERO);
    assert_eq!(start.plus(Duration::MAX).since(start), Duration::from_nanos(i64::MAX.unsigned_abs()));
    assert_eq!(start.plus(Duration::from_secs(5)).minus(Duration::from_secs(5)), start);
}

#[test]
fn an_atomic_moment_moves_forward_only() {
    let at = |seconds| Moment::from_start(Duration::from_secs(seconds));
    let moment = AtomicMoment::new(at(5));
    moment.advance(at(3));
    assert_eq!(moment.get(), at(5));
    moment.advance(at(7));
    assert_eq!(moment.get(), at(7));
}
