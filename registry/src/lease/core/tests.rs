use super::*;
use crate::{
    clock::Sight,
    entry::Record,
    lease::{Ended, sessions::ENDED_SESSIONS_MAX},
};

const TICK: Duration = Duration::from_secs(1);

fn at(seconds: f64) -> Moment {
    Moment::from_start(Duration::from_secs_f64(1000.0 + seconds))
}

fn record(instance: &str, session: Option<&str>) -> Record {
    Record {
        session: session.map(|session| session.parse().unwrap()),
        ..Record::new(
            Key { service: "orders".parse().unwrap(), instance: instance.parse().unwrap() },
            "http://h:1".parse().unwrap(),
        )
    }
}

fn taken(core: &mut Core) -> Vec<EntryId> {
    let (beaten, mut beats) = (core.beaten(), Beats::default());
    core.take_beats(&beaten, &mut beats);
    beats.ids
}

fn session(text: &str) -> Session {
    text.parse().unwrap()
}

/// A core with one lease, id 1, registered at 0, and a sight that follows the clock.
fn one() -> (Core, Key, Sight) {
    let mut core = Core::default();
    let record = record("a", Some("s1"));
    core.put(1, 1, (&record).into(), None, at(0.0), true);
    let sight = Sight::ticking(TICK);
    sight.advance(at(0.0), at(0.0));
    (core, record.key(), sight)
}

/// Ticks until `seconds`; the last sighting.
fn until(sight: &Sight, from: f64, seconds: f64) -> Sighting {
    let mut now = from;
    while now < seconds {
        now = (now + 1.0).min(seconds);
        sight.advance(at(now), at(now));
    }
    sight.at(at(seconds))
}

#[test]
fn a_beat_of_a_known_instance_is_acknowledged_and_handed_out_once() {
    let (mut core, key, _) = one();
    for now in [1.0, 2.0] {
        let heard = core.heartbeat(at(now), &key, Some(&session("s1")), Some(Status::Passing));
        assert_eq!(heard, Heard::Acknowledged(Ttl::default()));
    }
    assert_eq!(core.lease(&key).unwrap().1, at(2.0));
    assert!(core.has_unwritten_beat(1));
    assert_eq!(taken(&mut core), vec![1]);
    assert_eq!(taken(&mut core), Vec::<EntryId>::new());
    assert!(core.has_unwritten_beat(1), "handed out is not yet written");
    core.beats_written(&[1]);
    assert!(!core.has_unwritten_beat(1));
}

#[test]
fn a_beat_while_an_earlier_one_is_on_its_way_is_unwritten_too() {
    let (mut core, key, _) = one();
    core.heartbeat(at(1.0), &key, None, None);
    assert_eq!(taken(&mut core), vec![1]);
    core.heartbeat(at(2.0), &key, None, None);
    core.beats_written(&[1]);
    assert!(core.has_unwritten_beat(1));
    assert_eq!(taken(&mut core), vec![1]);
}

#[test]
fn sessions_decide_between_unknown_and_superseded() {
    let (mut core, key, _) = one();
    let mut beat = |text: &str| core.heartbeat(at(1.0), &key, Some(&session(text)), None);
    assert_eq!(beat("other"), Heard::Unknown);
    core.put(1, 1, (&record("a", Some("s2"))).into(), Some(&session("s1")), at(2.0), true);
    let mut beat = |text: &str| core.heartbeat(at(3.0), &key, Some(&session(text)), None);
    assert_eq!(beat("s1"), Heard::Superseded);
    assert_eq!(beat("s2"), Heard::Acknowledged(Ttl::default()));
    let nobody = record("b", None).key();
    assert_eq!(core.heartbeat(at(3.0), &nobody, None, None), Heard::Unknown);
}

#[test]
fn ended_sessions_are_remembered_up_to_a_bound() {
    let (mut core, key, _) = one();
    for number in 0..=ENDED_SESSIONS_MAX {
        core.remember_ended_sessions(&key, &[session(&format!("old{number}"))], at(0.0));
    }
    let mut beat = |text: &str| core.heartbeat(at(1.0), &key, Some(&session(text)), None);
    assert_eq!(beat("old0"), Heard::Unknown);
    assert_eq!(beat("old1"), Heard::Superseded);
}

#[test]
fn ended_sessions_are_remembered_for_an_hour() {
    let (mut core, key, _) = one();
    core.remember_ended_sessions(&key, &[session("old")], at(0.0));
    let mut beat = |now: f64| core.heartbeat(at(now), &key, Some(&session("old")), None);
    assert_eq!(beat(3599.0), Heard::Superseded);
    assert_eq!(beat(3600.0), Heard::Unknown);
}

#[test]
fn a_session_that_ends_again_is_remembered_from_then_on() {
    let (mut core, key, _) = one();
    // By a replacement, twice, and by a removal; each time after the last end was forgotten.
    core.put(1, 1, (&record("a", Some("s2"))).into(), Some(&session("s1")), at(0.0), true);
    core.put(1, 1, (&record("a", Some("s1"))).into(), Some(&session("s2")), at(3600.0), true);
    core.put(1, 1, (&record("a", Some("s3"))).into(), Some(&session("s1")), at(3601.0), true);
    let beat = |core: &mut Core, now: f64| core.heartbeat(at(now), &key, Some(&session("s1")), None);
    assert_eq!(beat(&mut core, 3601.0), Heard::Superseded);
    assert_eq!(beat(&mut core, 7200.0), Heard::Superseded);
    assert_eq!(beat(&mut core, 7201.0), Heard::Unknown);
    core.session_ended(&key, &session("s1"), at(7300.0));
    core.remove(1);
    // Of a key without a lease as well, and a little before the last end would have been forgotten.
    core.session_ended(&key, &session("s1"), at(10_899.0));
    core.put(2, 1, (&record("a", Some("s4"))).into(), None, at(10_900.0), true);
    assert_eq!(beat(&mut core, 14_498.0), Heard::Superseded);
    assert_eq!(beat(&mut core, 14_499.0), Heard::Unknown);
}

#[test]
fn what_the_store_says_of_ended_sessions_does_not_prolong_their_memory() {
    let (mut core, key, _) = one();
    core.session_ended(&key, &session("old"), at(0.0));
    core.remember_ended_sessions(&key, &[session("old")], at(3599.0));
    let beat = |core: &mut Core, now: f64| core.heartbeat(at(now), &key, Some(&session("old")), None);
    assert_eq!(beat(&mut core, 3600.0), Heard::Unknown);
    // It has ended again somewhere, or the store's clock is a little behind.
    core.remember_ended_sessions(&key, &[session("old")], at(3601.0));
    assert_eq!(beat(&mut core, 3602.0), Heard::Superseded);
}

#[test]
fn ended_sessions_outlive_their_lease() {
    let (mut core, key, _) = one();
    core.put(1, 1, (&record("a", Some("s2"))).into(), Some(&session("s1")), at(1.0), true);
    core.remove(1);
    core.remember_ended_sessions(&key, &[session("s2")], at(2.0));
    core.put(2, 1, (&record("a", Some("s3"))).into(), None, at(3.0), true);
    let mut beat = |text: &str| core.heartbeat(at(4.0), &key, Some(&session(text)), None);
    assert_eq!(beat("s1"), Heard::Superseded);
    assert_eq!(beat("s2"), Heard::Superseded);
    assert_eq!(beat("s3"), Heard::Acknowledged(Ttl::default()));
}

#[test]
fn another_status_is_a_change_and_no_acknowledgement() {
    let (mut core, key, _) = one();
    let heard = core.heartbeat(at(5.0), &key, None, Some(Status::Critical));
    assert_eq!(heard, Heard::StatusChange(Ttl::default()));
    assert_eq!(core.lease(&key).unwrap().1, at(0.0), "it counts with its commit, not before");
    assert_eq!(taken(&mut core), Vec::<EntryId>::new());
}

#[test]
fn a_lease_ends_once_and_is_due_after_its_beats_were_noted() {
    let (mut core, _, sight) = one();
    assert_eq!(core.newly_ended(&until(&sight, 0.0, 89.0)), Vec::<EntryId>::new());
    let sighting = until(&sight, 89.0, 90.0);
    assert_eq!(core.newly_ended(&sighting), vec![1]);
    assert_eq!(core.newly_ended(&sighting), Vec::<EntryId>::new());
    core.noted(1, Some((7, at(93.5))), &sighting);
    assert_eq!(core.due(&until(&sight, 90.0, 93.0)), Vec::<Ended>::new());
    let due = core.due(&until(&sight, 93.0, 94.0));
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].id, due[0].noted_beat, due[0].last_seen), (1, 7, at(0.0)));
    assert_eq!(core.due(&until(&sight, 94.0, 95.0)), Vec::<Ended>::new(), "handed out once");
}

#[test]
fn a_beat_takes_a_hidden_lease_back() {
    let (mut core, key, sight) = one();
    let sighting = until(&sight, 0.0, 90.0);
    assert_eq!(core.newly_ended(&sighting), vec![1]);
    core.noted(1, Some((7, at(93.0))), &sighting);
    assert_eq!(core.heartbeat(at(92.0), &key, None, None), Heard::Acknowledged(Ttl::default()));
    assert_eq!(core.due(&until(&sight, 90.0, 94.0)), Vec::<Ended>::new());
    assert_eq!(core.newly_ended(&until(&sight, 94.0, 181.0)), Vec::<EntryId>::new());
    assert_eq!(core.newly_ended(&until(&sight, 181.0, 183.0)), vec![1], "and it can end again");
}

#[test]
fn nothing_ends_on_a_blind_node_and_all_count_anew_when_it_sees_again() {
    let (mut core, _, sight) = one();
    let blind = sight.at(at(200.0));
    assert!(blind.blind);
    assert_eq!(core.newly_ended(&blind), Vec::<EntryId>::new());
    assert!(sight.advance(at(200.0), at(200.0)));
    assert_eq!(core.newly_ended(&sight.at(at(200.0))), Vec::<EntryId>::new());
    assert_eq!(core.newly_ended(&until(&sight, 200.0, 289.0)), Vec::<EntryId>::new());
    assert_eq!(core.newly_ended(&until(&sight, 289.0, 290.0)), vec![1]);
}

#[test]
fn a_removal_that_was_due_waits_while_the_node_is_blind() {
    let (mut core, _, sight) = one();
    let sighting = until(&sight, 0.0, 90.0);
    core.newly_ended(&sighting);
    core.noted(1, Some((7, at(93.0))), &sighting);
    assert_eq!(core.due(&sight.at(at(300.0))), Vec::<Ended>::new());
    assert!(sight.advance(at(300.0), at(300.0)));
    assert_eq!(core.due(&sight.at(at(300.0))), Vec::<Ended>::new(), "it counts anew");
}

#[test]
fn what_could_not_be_noted_or_removed_is_looked_at_again() {
    let (mut core, _, sight) = one();
    let sighting = until(&sight, 0.0, 90.0);
    core.newly_ended(&sighting);
    core.noted(1, None, &sighting);
    let later = until(&sight, 90.0, 92.0);
    assert_eq!(core.newly_ended(&later), vec![1]);
    core.noted(1, Some((7, at(92.0))), &later);
    assert_eq!(core.due(&later).len(), 1);
    core.not_removed(1, &later);
    assert_eq!(core.newly_ended(&until(&sight, 92.0, 94.0)), vec![1]);
}

#[test]
fn a_shorter_ttl_ends_earlier_and_the_queue_does_not_grow() {
    let (mut core, _, sight) = one();
    let short = Record { ttl_seconds: Ttl::try_from(3).unwrap(), ..record("a", Some("s1")) };
    for _ in 0..100 {
        core.put(1, 1, (&short).into(), None, at(1.0), true);
    }
    assert!(core.deadlines.len() <= 2);
    assert_eq!(core.newly_ended(&until(&sight, 0.0, 4.0)), vec![1]);
    assert!(core.deadlines.len() <= 1);
}

#[test]
fn leases_that_come_together_are_not_looked_at_together() {
    const LEASES: u32 = 3000;
    for beaten in [true, false] {
        let mut core = Core::default();
        let sight = Sight::ticking(TICK);
        sight.advance(at(0.0), at(0.0));
        let keys: Vec<Key> = (0..LEASES)
            .map(|id| {
                let record = record(&format!("i{id}"), None);
                core.put(id.into(), 1, (&record).into(), None, at(0.0), beaten);
                record.key()
            })
            .collect();
        while core.sift(&sight.at(at(0.0)), usize::MAX) {}
        for now in 1..=300_u16 {
            for key in keys.iter().skip(usize::from(now % 30)).step_by(30) {
                core.heartbeat(at(now.into()), key, None, None);
            }
            let sighting = until(&sight, f64::from(now) - 1.0, now.into());
            let more = core.sift(&sighting, LEASES as usize / 5);
            assert!(!more, "at most a fifth of them in one second, beaten before: {beaten}, after {now} s");
        }
    }
}

#[test]
fn an_entry_that_took_the_place_of_another_has_a_lease_of_its_own() {
    let (mut core, key, sight) = one();
    core.heartbeat(at(1.0), &key, None, None);
    core.put(2, 1, (&record("a", Some("s1"))).into(), None, at(50.0), true);
    assert_eq!(taken(&mut core), Vec::<EntryId>::new(), "the old number has no row any more");
    core.remove(1);
    assert_eq!(core.lease(&key).unwrap().0, 2, "removing the old entry leaves the new one alone");
    assert_eq!(core.newly_ended(&until(&sight, 0.0, 139.0)), Vec::<EntryId>::new());
    assert_eq!(core.newly_ended(&until(&sight, 139.0, 140.0)), vec![2]);
    core.remove(2);
    assert!(core.is_empty());
}

#[test]
fn beats_heard_elsewhere_count_but_are_not_written_again() {
    let (mut core, key, _) = one();
    core.heard_elsewhere(&[1, 99], at(10.0));
    assert_eq!(core.lease(&key).unwrap().1, at(10.0));
    assert_eq!(taken(&mut core), Vec::<EntryId>::new());
}

#[test]
fn a_drain_does_not_count_as_a_beat() {
    let (mut core, key, _) = one();
    core.put(1, 1, (&record("a", Some("s1"))).into(), None, at(30.0), false);
    assert_eq!(core.lease(&key).unwrap().1, at(0.0));
}
