use std::time::Duration;

use rand::{SeedableRng, rngs::StdRng};
use registry_wire::{Metadata, Status, answer};

use super::*;
use crate::{
    clock::{Moment, Pulse, Sight},
    entry::Record,
};

fn at(seconds: u64) -> Moment {
    Moment::from_start(Duration::from_secs(1000 + seconds))
}

fn record(service: &str, instance: &str) -> Record {
    let mut metadata = Metadata::default();
    metadata.insert("quote", "\"<&>\u{e9}").unwrap();
    Record {
        metadata,
        registered_at: 1_000_000.0,
        observed_address: Some("10.0.0.1".into()),
        ..Record::new(
            Key { service: service.parse().unwrap(), instance: instance.parse().unwrap() },
            format!("http://{instance}:80").parse().unwrap(),
        )
    }
}

#[expect(clippy::needless_pass_by_value, reason = "made where it is put")]
fn put(revision: Revision, record: Record, seen: u64) -> Update {
    let pulse = Pulse::new(at(seen));
    // As the lease's core does it when it has seen as far.
    pulse.end(at(seen).plus(record.ttl_seconds.duration()));
    Update::Put(Arc::new(Entry::new(revision, revision, (&record).into(), Arc::new(pulse))))
}

fn seeing(now: u64) -> Sighting {
    let sight = Sight::continuous(Duration::from_secs(1));
    sight.advance(at(0), at(0));
    sight.advance(at(now), at(now));
    // The floor of a node that was blind from 0 to now would hide what is tested here.
    Sighting { floor: Moment::NEVER, ..sight.at(at(now)) }
}

fn gone(revision: Revision, at: f64) -> GoneInstance {
    GoneInstance { revision, state: "expired", at, last_seen: Some(at), reason: "silent".into() }
}

fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

#[test]
fn names_are_sorted_paged_and_without_those_whose_leases_ended() {
    let view = View::default();
    view.apply(vec![
        put(1, record("b", "x"), 0),
        put(2, record("a", "x"), 50),
        put(3, record("c", "x"), 50),
        put(4, Record { status: Status::Critical, ..record("d", "x") }, 50),
    ]);
    let names = |now, after: Option<&str>, limit| -> Vec<String> {
        let names = view.names(&seeing(now), after.map(name).as_ref(), limit);
        names.iter().map(ToString::to_string).collect()
    };
    assert_eq!(names(60, None, 10), ["a", "b", "c", "d"]);
    assert_eq!(names(90, None, 10), ["a", "c", "d"], "the lease of b has ended, although nobody removed it");
    assert_eq!(names(60, Some("a"), 2), ["b", "c"]);
    assert_eq!(view.active_services(&seeing(90)), 3);
}

#[test]
fn names_beyond_one_hold_of_the_lock_are_all_there() {
    let view = View::default();
    let many = u64::try_from(NAMES_PER_LOCK * 2 + 1).unwrap();
    view.apply((0..many).map(|number| put(1, record(&format!("s{number}"), "x"), 0)).collect());
    assert_eq!(view.active_services(&seeing(1)), NAMES_PER_LOCK * 2 + 1);
}

#[test]
fn an_update_replaces_and_a_removal_is_remembered() {
    let view = View::default();
    view.apply(vec![put(1, record("a", "y"), 0), put(2, record("a", "x"), 0)]);
    let moved = Record { endpoint: "http://moved:1".parse().unwrap(), ..record("a", "x") };
    view.apply(vec![put(3, moved, 0)]);
    let key = record("a", "x").key();
    assert_eq!(view.entry(&key).unwrap().record.record().endpoint.as_str(), "http://moved:1");
    assert_eq!(view.revision(&key), Some(3));
    view.apply(vec![Update::Remove(key.clone(), Box::new(gone(4, 5000.0)))]);
    assert!(view.entry(&key).is_none());
    assert_eq!(view.gone(&key, 5001.0).unwrap().reason, "silent");
    assert_eq!(view.last_gone(&name("a"), 5001.0).unwrap().0.as_str(), "x");
    let minutes = |minutes: f64| 5000.0 + minutes * 60.0;
    let almost = minutes(23.0 * 60.0 + 59.0);
    assert!(view.gone(&key, almost).is_some() && view.last_gone(&name("a"), almost).is_some());
    let day = minutes(24.0 * 60.0 + 0.1);
    assert!(view.gone(&key, day).is_none() && view.last_gone(&name("a"), day).is_none(), "for 24 hours");
    view.apply(vec![Update::Remove(record("a", "y").key(), Box::new(gone(5, 5002.0)))]);
    assert!(view.is_empty());
}

#[test]
fn no_more_than_ten_thousand_are_remembered() {
    let view = View::default();
    for number in 0..10_001 {
        let key = record("a", &format!("x{number}")).key();
        view.apply(vec![Update::Remove(key, Box::new(gone(number, 5000.0)))]);
    }
    assert!(view.gone(&record("a", "x0").key(), 5000.0).is_none());
    assert!(view.gone(&record("a", "x1").key(), 5000.0).is_some());
}

/// What is loaded at start has the same bounds, and of what is too old nothing is left when the next one goes.
#[test]
fn what_is_loaded_is_remembered_within_the_same_bounds() {
    let view = View::default();
    let key = |number: i64| record("a", &format!("x{number}")).key();
    view.remember_gone((0..10_001).map(|number| (key(number), gone(number, 5000.0))));
    assert!(view.gone(&key(0), 5000.0).is_none());
    assert!(view.gone(&key(1), 5000.0).is_some() && view.gone(&key(10_000), 5000.0).is_some());
    assert_eq!(view.last_gone(&name("a"), 5000.0).unwrap().0, key(10_000).instance);
    let almost = 5000.0 + 24.0 * 3600.0 - 60.0;
    view.remember_gone([(record("b", "y").key(), gone(10_001, almost))]);
    assert!(view.gone(&key(2), almost).is_some(), "one of them made room, the others are not too old");
    view.remember_gone([(record("b", "z").key(), gone(10_002, almost + 61.0))]);
    // Asked about the time at which it was remembered, so that what answers is the memory and not its age.
    assert!(view.gone(&key(10_000), 5000.0).is_none());
    assert!(view.gone(&record("b", "y").key(), almost).is_some());
}

/// A removal of this node's own is applied before an older one of another node is read.
#[test]
fn the_last_to_go_is_the_one_with_the_last_revision() {
    let view = View::default();
    for (instance, revision) in [("x", 7), ("y", 6), ("z", 5)] {
        view.apply(vec![Update::Remove(record("a", instance).key(), Box::new(gone(revision, 5000.0)))]);
        assert_eq!(view.last_gone(&name("a"), 5001.0).unwrap().0.as_str(), "x");
    }
    view.apply(vec![Update::Remove(record("a", "y").key(), Box::new(gone(8, 5000.0)))]);
    assert_eq!(view.last_gone(&name("a"), 5001.0).unwrap().0.as_str(), "y");
}

#[test]
fn picked_is_usable_and_not_stale_if_any_is() {
    let view = View::default();
    let draining = Record { operator_drain: Some("why".parse().unwrap()), ..record("a", "drain") };
    let critical = Record { status: Status::Critical, ..record("a", "critical") };
    let warning = Record { status: Status::Warning, ..record("a", "warning") };
    view.apply(vec![
        put(1, draining, 100),
        put(2, critical, 100),
        put(3, warning, 100),
        put(4, record("a", "silent"), 0),
    ]);
    // Blind since 50: nothing ends, but `silent` is stale.
    let sight = Sight::ticking(Duration::from_secs(1));
    sight.advance(at(50), at(50));
    let sighting = sight.at(at(120));
    let service = view.service(&name("a")).unwrap();
    let text = view.text(&service);
    let mut rng = StdRng::seed_from_u64(1);
    let mut pick = |sighting| service.entries()[text.pick(sighting, &mut rng).unwrap()].record.instance();
    for _ in 0..50 {
        assert_eq!(pick(&sighting), "warning");
    }
    let all_stale = sight.at(at(500));
    let picked: std::collections::BTreeSet<_> = (0..50).map(|_| pick(&all_stale)).collect();
    assert_eq!(picked.into_iter().collect::<Vec<_>>(), ["silent", "warning"], "one of them at random");
}

#[test]
fn what_is_written_reads_back_as_the_answer() {
    let view = View::default();
    let all = Record {
        output: Some("a\n\"b\"".parse().unwrap()),
        session_drain: Some("leaving".parse().unwrap()),
        ..record("a", "x")
    };
    view.apply(vec![put(1, all, 10), put(2, record("a", "y"), 10)]);
    let sighting = seeing(30);
    let service = view.service(&name("a")).unwrap();
    let read_at = ReadAt { sighting, unix: 2_000_030.0 };
    for entry in service.listed(&sighting) {
        let mut text = String::new();
        write_instance(&mut text, entry, &read_at);
        let read: answer::Instance = serde_json::from_str(&text).unwrap();
        assert_eq!(read, instance(entry.record.record(), entry.pulse.last_seen(), &sighting, 2_000_030.0));
        assert_eq!((read.ttl_remaining, read.last_heartbeat), (70, 2_000_010.0));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(
            value["last_heartbeat"].is_f64() && value["registered_at"].is_f64(),
            "times are floats: {text}"
        );
    }
    let text = view.text(&service);
    let alone = service.listed(&sighting).map(|entry| {
        let mut text = String::new();
        write_instance(&mut text, entry, &read_at);
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    });
    let alone: Vec<_> = alone.collect();
    let value: serde_json::Value = serde_json::from_str(&text.answer(Some(1), false, &read_at)).unwrap();
    assert_eq!(value["service_name"], "a");
    for of_the_picked in
        ["endpoint", "health_endpoint", "metadata", "registered_at", "last_heartbeat", "ttl_remaining"]
    {
        assert_eq!(value[of_the_picked], alone[1][of_the_picked], "{of_the_picked} of the picked one");
        assert!(!value[of_the_picked].is_null(), "{of_the_picked}");
    }
    assert_eq!(value["instances"], serde_json::json!([alone[1]]), "the draining one is left out");
    let value: serde_json::Value = serde_json::from_str(&text.answer(None, true, &read_at)).unwrap();
    assert!(value.get("endpoint").is_none());
    assert_eq!(value["instances"], serde_json::json!(alone));
}

#[test]
fn a_text_that_is_kept_shows_later_beats_and_ends() {
    let view = View::default();
    view.apply(vec![put(1, record("a", "x"), 10), put(2, record("a", "y"), 10)]);
    let service = view.service(&name("a")).unwrap();
    let text = view.text(&service);
    let listed = |now: u64| {
        let at = ReadAt { sighting: seeing(now), unix: 2_000_000.0 };
        let mut value: serde_json::Value = serde_json::from_str(&text.answer(None, true, &at)).unwrap();
        let instances: Vec<answer::Instance> = serde_json::from_value(value["instances"].take()).unwrap();
        instances.iter().map(|one| (one.instance_id.as_str().to_owned(), one.ttl_remaining)).collect()
    };
    let all: Vec<(String, u32)> = listed(30);
    assert_eq!(all, [("x".to_owned(), 70), ("y".to_owned(), 70)]);
    service.entry(&"y".parse().unwrap()).unwrap().pulse.beat(at(90));
    let all: Vec<(String, u32)> = listed(110);
    assert_eq!(all, [("y".to_owned(), 70)], "x was silent for a TTL");
}
