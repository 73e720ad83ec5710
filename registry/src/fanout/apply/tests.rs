use std::time::Duration;

use registry_wire::{
    HealthPath, Metadata, ServiceName, Status, Ttl,
    request::{Heartbeat, Register},
};
use tokio::sync::mpsc;

use super::*;
use crate::{
    clock::Sight,
    entry::{Body, Record, Stored},
    lease::{Caller, Looks},
    store::LoadedEntry,
};

const OWN: Writer = 1;
const OTHER: Writer = 2;

struct Node {
    applier: Applier,
    leases: Arc<Leases>,
    view: Arc<View>,
}

fn node() -> Node {
    let (look, _) = Looks::new();
    let (submit, _) = mpsc::channel(1);
    let sight = Sight::continuous(Duration::from_secs(1));
    let leases = Leases::new(sight, look, submit, Ttl::default());
    leases.advance_sight(clock::now(), clock::now());
    let view = Arc::new(View::default());
    Node { applier: Applier::new(Arc::clone(&leases), Arc::clone(&view)), leases, view }
}

fn record(instance: &str, endpoint: &str) -> Record {
    let register = Register::parse(format!("{{\"endpoint\":\"{endpoint}\"}}").as_bytes()).unwrap();
    Record {
        service_name: "orders".parse().unwrap(),
        instance_id: instance.parse().unwrap(),
        endpoint: register.endpoint,
        health_endpoint: HealthPath::default(),
        metadata: Metadata::default(),
        ttl_seconds: Ttl::default(),
        session: None,
        status: Status::Passing,
        output: None,
        operator_drain: None,
        session_drain: None,
        registered_at: 1.0,
        observed_address: None,
    }
}

fn change(revision: Revision, id: i64, kind: Kind, instance: &str) -> Change {
    let record = record(instance, &format!("http://h:{revision}"));
    let body = Body { record, ended_session: None, last_seen: None };
    Change { revision, id, at: clock::unix_now(clock::now()), kind, reason: None, actor: None, body }
}

impl Node {
    fn endpoint(&self, instance: &str) -> Option<String> {
        let key = record(instance, "http://h:1").key();
        assert_eq!(
            self.view.entry(&key).is_some(),
            self.leases.lease(&key).is_some(),
            "view and lease agree"
        );
        self.view.entry(&key).map(|entry| entry.record.endpoint.to_string())
    }
}

#[test]
fn an_own_change_is_applied_ahead_and_read_again_without_effect() {
    let node = node();
    node.applier.committed(&[change(2, 2, Kind::Register, "b")]);
    assert_eq!(node.endpoint("b").as_deref(), Some("http://h:2"));
    assert_eq!(node.applier.cursor(), 0, "only what was read moves the cursor");
    let rows = [change(1, 1, Kind::Register, "a"), change(2, 2, Kind::Register, "b")];
    node.applier.log_rows(&rows).unwrap();
    assert_eq!(node.applier.cursor(), 2);
    assert!(node.endpoint("a").is_some() && node.endpoint("b").is_some());
}

#[test]
fn an_older_row_that_is_read_later_does_not_undo_a_newer_change() {
    let node = node();
    node.applier.committed(&[change(3, 1, Kind::Replace, "a")]);
    node.applier.committed(&[change(4, 2, Kind::Deregister, "b")]);
    let rows = [change(1, 1, Kind::Register, "a"), change(2, 2, Kind::Register, "b")];
    node.applier.log_rows(&rows).unwrap();
    assert_eq!(node.endpoint("a").as_deref(), Some("http://h:3"));
    assert_eq!(node.endpoint("b"), None, "removed beyond the cursor");
    let rows = [change(3, 1, Kind::Replace, "a"), change(4, 2, Kind::Deregister, "b")];
    node.applier.log_rows(&rows).unwrap();
    node.applier.log_rows(&[change(5, 3, Kind::Register, "b")]).unwrap();
    assert_eq!(node.endpoint("b").as_deref(), Some("http://h:5"), "and it may come again");
}

#[test]
fn several_changes_of_a_key_in_one_call_end_with_the_last() {
    let node = node();
    let rows = [
        change(1, 1, Kind::Register, "a"),
        change(2, 1, Kind::Deregister, "a"),
        change(3, 2, Kind::Register, "a"),
    ];
    node.applier.log_rows(&rows).unwrap();
    assert_eq!(node.endpoint("a").as_deref(), Some("http://h:3"));
}

#[test]
fn a_gap_is_told_and_nothing_is_applied() {
    let node = node();
    assert!(node.applier.log_rows(&[change(2, 1, Kind::Register, "a")]).is_err());
    assert_eq!((node.endpoint("a"), node.applier.cursor()), (None, 0));
}

#[tokio::test]
async fn an_entry_with_an_unwritten_beat_outlives_its_expiry_and_takes_its_revival() {
    let node = node();
    node.applier.committed(&[change(1, 1, Kind::Register, "a")]);
    let key = record("a", "http://h:1").key();
    node.leases.heartbeat(&key, &Heartbeat::default(), &Caller::default()).await.unwrap();
    node.applier.committed(&[change(2, 1, Kind::Expire, "a")]);
    assert!(node.endpoint("a").is_some(), "the acknowledged beat wins");
    node.applier.committed(&[change(3, 9, Kind::Revive, "a")]);
    assert_eq!(node.leases.lease(&key).unwrap().0, 9);
    node.applier.committed(&[change(4, 9, Kind::Deregister, "a")]);
    assert_eq!(node.endpoint("a"), None, "a deregistration wins over a beat");
}

#[test]
fn an_expiry_without_an_unwritten_beat_removes() {
    let node = node();
    node.applier.committed(&[change(1, 1, Kind::Register, "a"), change(2, 1, Kind::Expire, "a")]);
    assert_eq!(node.endpoint("a"), None);
    let gone = node
        .view
        .last_gone(&"orders".parse::<ServiceName>().unwrap(), clock::unix_now(clock::now()))
        .unwrap();
    assert_eq!((gone.0.as_str(), gone.1.state), ("a", "expired"));
}

#[test]
fn beats_of_other_writers_count_and_gaps_are_told() {
    let node = node();
    node.applier.committed(&[change(1, 1, Kind::Register, "a")]);
    let key = record("a", "http://h:1").key();
    let before = node.leases.lease(&key).unwrap().1;
    let row = |writer, seq| BeatRow { writer, seq, ids: vec![1, 77] };
    node.applier.beat_rows(&[row(OTHER, 40), row(OTHER, 41)], OWN).unwrap();
    assert!(node.leases.lease(&key).unwrap().1 > before);
    assert!(!node.leases.has_unwritten_beat(1));
    assert_eq!(
        node.applier.beat_cursors().get(&OTHER),
        Some(&41),
        "an unknown writer begins at its oldest row"
    );
    node.applier.beat_rows(&[row(OTHER, 41)], OWN).unwrap();
    assert!(node.applier.beat_rows(&[row(OTHER, 43)], OWN).is_err());
    assert_eq!(node.applier.beat_cursors().get(&OTHER), Some(&41));
}

fn loaded(head: Revision, entries: Vec<(Revision, i64, &str)>) -> Loaded {
    let entries = entries.into_iter().map(|(revision, id, instance)| LoadedEntry {
        stored: Stored { id, revision, record: record(instance, &format!("http://h:{revision}")) },
        since_beat: Duration::from_secs(30),
        ended_sessions: Vec::new(),
    });
    Loaded { head, entries: entries.collect(), gone: Vec::new(), cursors: BTreeMap::from([(OTHER, 5)]) }
}

#[test]
fn loading_takes_up_what_is_stored_with_its_age_and_its_cursors() {
    let node = node();
    node.applier.load(loaded(9, vec![(4, 1, "a")]));
    assert_eq!(node.applier.cursor(), 9);
    assert_eq!(node.applier.beat_cursors().get(&OTHER), Some(&5));
    let (_, last_seen, _) = node.leases.lease(&record("a", "http://h:1").key()).unwrap();
    let age = clock::now().since(last_seen);
    assert!((30..60).contains(&age.as_secs()), "{age:?}");
}

#[tokio::test]
async fn loading_again_removes_what_is_gone_but_not_what_is_newer_or_has_beaten() {
    let node = node();
    let rows = [
        change(1, 1, Kind::Register, "gone"),
        change(2, 2, Kind::Register, "beaten"),
        change(3, 3, Kind::Register, "kept"),
    ];
    node.applier.log_rows(&rows).unwrap();
    node.applier.committed(&[change(12, 4, Kind::Register, "newer")]);
    let beaten = record("beaten", "http://h:1").key();
    node.leases.heartbeat(&beaten, &Heartbeat::default(), &Caller::default()).await.unwrap();
    node.applier.load(loaded(10, vec![(7, 3, "kept")]));
    assert_eq!(node.endpoint("gone"), None);
    assert!(node.endpoint("beaten").is_some() && node.endpoint("newer").is_some());
    assert_eq!(node.endpoint("kept").as_deref(), Some("http://h:7"));
}
