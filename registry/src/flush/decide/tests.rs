use registry_wire::{HealthPath, Metadata, Status, Ttl};
use tokio::sync::oneshot;

use super::*;
use crate::{clock::Moment, entry::Key};

fn session(text: &str) -> Session {
    text.parse().unwrap()
}

fn key() -> Key {
    Key { service: "orders".parse().unwrap(), instance: "a".parse().unwrap() }
}

fn registration(of: Option<&str>) -> Registration {
    Registration {
        endpoint: "http://new:1".parse().unwrap(),
        health_endpoint: HealthPath::default(),
        metadata: Metadata::default(),
        ttl: Ttl::default(),
        session: of.map(session),
        status: Status::Passing,
        output: None,
        at: 2000.0,
        observed_address: None,
        lease_ended: false,
    }
}

pub(in crate::flush) fn stored(of: Option<&str>) -> Stored {
    let record = Record {
        service_name: key().service,
        instance_id: key().instance,
        endpoint: "http://old:1".parse().unwrap(),
        health_endpoint: HealthPath::default(),
        metadata: Metadata::default(),
        ttl_seconds: Ttl::default(),
        session: of.map(session),
        status: Status::Passing,
        output: None,
        operator_drain: Some("maintenance".parse().unwrap()),
        session_drain: Some("leaving".parse().unwrap()),
        registered_at: 1000.0,
        observed_address: None,
    };
    Stored { id: 7, revision: 5, record }
}

fn standing(entry: Option<Stored>, ended: &[&str]) -> Standing {
    Standing { entry, ended_sessions: ended.iter().map(|text| session(text)).collect() }
}

fn decided(write: Write, standing: Standing) -> Result<Decision, Outcome> {
    let (reply, _) = oneshot::channel();
    decide(&Submission { key: key(), write, actor: Some("10.0.0.1".into()), reply, place: None }, standing)
}

pub(in crate::flush) fn register(of: Option<&str>) -> Write {
    Write::Register(Box::new(registration(of)))
}

#[test]
fn a_first_registration_is_new() {
    let Decision { mutation, new, .. } = decided(register(Some("s1")), standing(None, &[])).unwrap();
    assert!(new);
    assert_eq!((mutation.kind, mutation.expected), (Kind::Register, None));
    assert_eq!(mutation.named_session, Some(session("s1")));
    assert_eq!(mutation.actor.as_deref(), Some("10.0.0.1"));
}

#[test]
fn the_same_session_keeps_its_time_and_its_drains() {
    let decision = decided(register(Some("s1")), standing(Some(stored(Some("s1"))), &[])).unwrap();
    let body = decision.mutation.body;
    assert!(!decision.new);
    assert_eq!((decision.mutation.kind, decision.mutation.expected), (Kind::Replace, Some(5)));
    assert_eq!(body.ended_session, None);
    assert_eq!(body.record.registered_at.to_bits(), 1000.0_f64.to_bits());
    assert_eq!(body.record.endpoint.as_str(), "http://new:1");
    assert!(body.record.operator_drain.is_some() && body.record.session_drain.is_some());
}

#[test]
fn another_session_ends_the_old_one_with_its_drain_but_not_the_operators() {
    for new_session in [Some("s2"), None] {
        let body =
            decided(register(new_session), standing(Some(stored(Some("s1"))), &[])).unwrap().mutation.body;
        assert_eq!(body.ended_session, Some(session("s1")));
        assert_eq!(body.record.registered_at.to_bits(), 2000.0_f64.to_bits());
        assert!(body.record.operator_drain.is_some() && body.record.session_drain.is_none());
    }
}

#[test]
fn an_entry_whose_lease_had_ended_leaves_nothing_to_the_new_one() {
    let write = Write::Register(Box::new(Registration { lease_ended: true, ..registration(Some("s1")) }));
    let decision = decided(write, standing(Some(stored(Some("s1"))), &[])).unwrap();
    assert!(decision.new);
    let record = decision.mutation.body.record;
    assert_eq!(record.registered_at.to_bits(), 2000.0_f64.to_bits());
    assert!(!record.draining());
}

#[test]
fn an_ended_session_changes_nothing() {
    let after = || standing(Some(stored(Some("s2"))), &["s1"]);
    let named = Some(session("s1"));
    let writes = [
        register(Some("s1")),
        Write::Status { session: named.clone(), status: Status::Critical, output: None },
        Write::Drain { session: named.clone(), reason: "x".parse().unwrap() },
        Write::Undrain { session: named.clone() },
        Write::Deregister { session: named, last_seen: None },
    ];
    for write in writes {
        assert_eq!(decided(write, after()).unwrap_err(), Outcome::Superseded);
    }
    assert_eq!(decided(register(Some("s1")), standing(None, &["s1"])).unwrap_err(), Outcome::Superseded);
}

#[test]
fn a_session_that_is_neither_current_nor_ended_is_unknown() {
    let write = Write::Deregister { session: Some(session("other")), last_seen: None };
    assert_eq!(decided(write, standing(Some(stored(Some("s1"))), &[])).unwrap_err(), Outcome::Unknown);
}

#[test]
fn without_a_session_a_call_acts_on_what_is_there() {
    let write = Write::Deregister { session: None, last_seen: Some(3.0) };
    let mutation = decided(write, standing(Some(stored(Some("s1"))), &[])).unwrap().mutation;
    assert_eq!(mutation.kind, Kind::Deregister);
    assert_eq!((mutation.body.ended_session, mutation.body.last_seen), (Some(session("s1")), Some(3.0)));
    let write = Write::Deregister { session: None, last_seen: None };
    assert_eq!(decided(write, standing(None, &[])).unwrap_err(), Outcome::Unknown);
}

#[test]
fn an_undrain_with_a_session_leaves_the_operators_drain() {
    let undrain = |of: Option<&str>| Write::Undrain { session: of.map(session) };
    let record =
        decided(undrain(Some("s1")), standing(Some(stored(Some("s1"))), &[])).unwrap().mutation.body.record;
    assert!(record.session_drain.is_none() && record.operator_drain.is_some());
    let record =
        decided(undrain(None), standing(Some(stored(Some("s1"))), &[])).unwrap().mutation.body.record;
    assert!(!record.draining());
    let entry = Stored { record, ..stored(Some("s1")) };
    let outcome = decided(undrain(None), standing(Some(entry), &[])).unwrap_err();
    assert!(matches!(outcome, Outcome::Done { new: false, .. }), "nothing to commit, and no error");
}

#[test]
fn an_expiry_is_for_the_entry_that_ended_and_no_other() {
    let expire = |id| Write::Expire { id, noted_beat: 4, last_seen: 9.0, held_for: None };
    let mutation = decided(expire(7), standing(Some(stored(None)), &[])).unwrap().mutation;
    assert_eq!((mutation.noted_beat, mutation.expected), (Some(4), Some(5)));
    assert_eq!(mutation.reason.as_deref(), Some("no heartbeat for 90 s"));
    assert_eq!(decided(expire(8), standing(Some(stored(None)), &[])).unwrap_err(), Outcome::Unknown);
}

#[test]
fn an_expiry_after_a_hold_says_so() {
    let held_for = Some(std::time::Duration::from_millis(183_900));
    let expire = Write::Expire { id: 7, noted_beat: 4, last_seen: 9.0, held_for };
    let mutation = decided(expire, standing(Some(stored(None)), &[])).unwrap().mutation;
    let reason = "no heartbeat for 90 s, and let go after a hold of 183 s";
    assert_eq!(mutation.reason.as_deref(), Some(reason));
}

#[test]
fn what_the_brake_tells_leaves_the_entry_as_it_is() {
    for (hold, kind) in [(true, Kind::Hold), (false, Kind::Release)] {
        let write = || Write::Brake { hold, reason: "told".into() };
        let mutation = decided(write(), standing(Some(stored(Some("s1"))), &["s0"])).unwrap().mutation;
        assert_eq!((mutation.kind, mutation.expected), (kind, Some(5)));
        assert_eq!(mutation.body.record, stored(Some("s1")).record);
        assert_eq!((mutation.body.ended_session, mutation.reason.as_deref()), (None, Some("told")));
        assert_eq!(decided(write(), standing(None, &[])).unwrap_err(), Outcome::Unknown);
    }
}

#[test]
fn an_entry_is_revived_unless_its_place_was_taken_or_its_session_ended() {
    let removed = || Box::new(stored(Some("s1")).record);
    let revive = || Write::Revive { record: removed(), beaten: Moment::NEVER };
    let mutation = decided(revive(), standing(None, &[])).unwrap().mutation;
    assert_eq!((mutation.kind, mutation.expected), (Kind::Revive, None));
    assert_eq!(decided(revive(), standing(Some(stored(Some("s2"))), &[])).unwrap_err(), Outcome::Unknown);
    assert_eq!(decided(revive(), standing(None, &["s1"])).unwrap_err(), Outcome::Unknown);
}
