use super::*;

const TICK: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(90);

fn at(seconds: f64) -> Moment {
    Moment::from_start(Duration::from_secs_f64(1000.0 + seconds))
}

#[test]
fn a_node_that_has_not_loaded_is_blind() {
    for sight in [Sight::ticking(TICK), Sight::continuous(TICK)] {
        let sighting = sight.at(at(0.0));
        assert!(sighting.blind && !sighting.loaded);
    }
}

#[test]
fn blind_after_three_ticks_without_sight() {
    let sight = Sight::ticking(TICK);
    sight.advance(at(0.0), at(0.1));
    assert!(!sight.at(at(3.0)).blind);
    assert!(sight.at(at(3.001)).blind);
    assert!(sight.at(at(3.001)).loaded);
}

#[test]
fn a_lease_ends_by_sight_not_by_now() {
    let sight = Sight::ticking(TICK);
    sight.advance(at(0.0), at(0.0));
    sight.advance(at(1.0), at(1.0));
    let beat = at(0.5);
    assert!(!sight.at(at(500.0)).ended(beat, TTL), "a blind node ends nothing");
    assert!(sight.at(at(500.0)).stale(beat, TTL), "but says that it heard nothing");
    let mut now = 1.0;
    while now < 90.0 {
        now += 1.0;
        assert!(!sight.advance(at(now), at(now)));
    }
    assert!(!sight.at(at(90.9)).ended(beat, TTL));
    sight.advance(at(91.0), at(91.0));
    assert!(sight.at(at(91.0)).ended(beat, TTL));
}

#[test]
fn who_was_blind_gives_every_lease_a_full_ttl() {
    let sight = Sight::ticking(TICK);
    sight.advance(at(0.0), at(0.0));
    let beat = at(0.0);
    assert!(sight.advance(at(200.0), at(200.2)));
    assert!(!sight.at(at(200.3)).ended(beat, TTL));
    assert_eq!(sight.at(at(200.3)).deadline(beat, TTL), at(290.2));
}

#[test]
fn a_tick_that_took_long_counts_as_blindness_even_if_its_sight_is_young() {
    let sight = Sight::ticking(TICK);
    sight.advance(at(0.0), at(0.0));
    // Blind from 3.0 to 5.0, although the marks lie only 2.9 s apart.
    assert!(sight.advance(at(2.9), at(5.0)));
    assert_eq!(sight.at(at(5.0)).floor, at(5.0));
}

#[test]
fn continuous_sight_is_now_unless_paused() {
    let sight = Sight::continuous(TICK);
    sight.advance(at(0.0), at(0.0));
    assert_eq!(sight.at(at(2.5)).sight, at(2.5));
    let resumed = sight.at(at(120.0));
    assert!(resumed.blind);
    assert_eq!(resumed.sight, at(0.0));
    assert!(sight.advance(at(120.0), at(120.0)));
    assert!(!sight.at(at(120.0)).ended(at(0.0), TTL));
}

#[test]
fn remaining_is_rounded_up_and_zero_when_stale() {
    let sight = Sight::continuous(TICK);
    sight.advance(at(0.0), at(0.0));
    let left = |now: f64| sight.at(at(now)).remaining(at(0.0), TTL);
    assert_eq!((left(0.0), left(0.5), left(89.999), left(90.0), left(95.0)), (90, 90, 1, 0, 0));
}

#[test]
fn sight_never_moves_back() {
    let sight = Sight::ticking(TICK);
    sight.advance(at(10.0), at(10.0));
    sight.advance(at(9.0), at(10.5));
    assert_eq!(sight.at(at(11.0)).sight, at(10.0));
}

#[test]
fn a_loss_blinds_at_once_until_something_later_is_seen() {
    let sight = Sight::ticking(TICK);
    sight.advance(at(0.0), at(0.0));
    sight.advance(at(100.0), at(100.0));
    let beat = at(1.0);
    sight.lose(at(100.2));
    let lost = sight.at(at(100.2));
    assert!(lost.blind && lost.loaded);
    assert!(!lost.ended(beat, TTL), "every lease counts anew");
    // A row that was on its way proves nothing.
    assert!(!sight.advance(at(100.1), at(100.3)));
    assert!(sight.at(at(100.3)).blind);
    assert!(sight.advance(at(100.4), at(100.5)));
    let seen = sight.at(at(100.5));
    assert!(!seen.blind && !seen.ended(beat, TTL));
    assert_eq!(seen.deadline(beat, TTL), at(190.5));
}
