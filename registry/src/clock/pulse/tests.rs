use super::*;
use crate::clock::Sight;

fn at(seconds: u64) -> Moment {
    Moment::from_start(Duration::from_secs(1000 + seconds))
}

const TTL: Duration = Duration::from_secs(90);

/// A node that has seen up to here, and was never blind.
fn seeing(seconds: u64) -> Sighting {
    let sight = Sight::ticking(Duration::from_secs(1));
    sight.advance(at(seconds), at(seconds));
    Sighting { floor: Moment::NEVER, ..sight.at(at(seconds)) }
}

#[test]
fn a_beat_or_a_time_of_blindness_outdates_the_end() {
    let pulse = Pulse::new(at(0));
    assert!(!pulse.ended(&seeing(500), TTL), "nobody judged it");
    pulse.end(at(90));
    assert!(!pulse.ended(&seeing(89), TTL), "an answer that began before agrees with itself");
    assert!(pulse.ended(&seeing(90), TTL));
    assert!(!pulse.ended(&Sighting { floor: at(95), ..seeing(96) }, TTL), "blind until then");
    pulse.beat(at(90));
    assert!(!pulse.ended(&seeing(91), TTL));
    pulse.beat(at(50));
    assert_eq!(pulse.last_seen(), at(90));
    pulse.end(at(180));
    assert!(pulse.ended(&seeing(181), TTL), "and it can end again");
}

#[test]
fn word_of_a_beat_that_waited_outdates_an_end_that_came_too_early() {
    let pulse = Pulse::new(at(0));
    pulse.hold(at(90));
    pulse.end(at(95));
    pulse.beat(at(5));
    assert!(pulse.ended(&seeing(96), TTL), "it would have ended by then all the same");
    pulse.beat(at(6));
    assert!(!pulse.ended(&seeing(97), TTL));
    assert_eq!(pulse.held_for(&seeing(97), TTL), None);
}

#[test]
fn it_tells_how_long_it_was_held_since_its_last_beat() {
    let pulse = Pulse::new(at(0));
    assert_eq!(pulse.held_for(&seeing(100), TTL), None);
    pulse.hold(at(90));
    assert_eq!(pulse.held_for(&seeing(100), TTL), Some(Duration::from_secs(10)));
    pulse.end(at(275));
    assert_eq!(pulse.held_for(&seeing(300), TTL), Some(Duration::from_secs(185)));
    pulse.beat(at(301));
    assert_eq!(pulse.held_for(&seeing(400), TTL), None);
    pulse.end(at(391));
    assert_eq!(pulse.held_for(&seeing(400), TTL), None, "an end without a hold");
}
