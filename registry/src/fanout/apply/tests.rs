use std::time::Duration;

use registry_wire::{
    ServiceName, Ttl,
    request::{Heartbeat, Register},
};
use tokio::sync::mpsc;

use super::*;
use crate::{
    clock::{self, Sight},
    entry::{Body, Record},
    lease::{Bounds, Caller, Looks},
    store::LoadedEntry,
};

const OWN: Writer = 1;
const OTHER: Writer = 2;

pub(in crate::fanout) struct Node {
    pub(in crate::fanout) applier: Applier,
    pub(in crate::fanout) leases: Arc<Leases>,
    pub(in crate::fanout) view: Arc<View>,
}

pub(in crate::fanout) fn node() -> Node {
    let (look, _) = Looks::new();
    let (submit, _) = mpsc::channel(1);
    let sight = Sight::continuous(Duration::from_secs(1));
    let leases = Leases::new(sight, look, submit, Ttl::default(), Bounds::none());
    leases.advance_sight(clock::now(), clock::now());
    let view = Arc::new(View::default());
    Node { applier: Applier::new(Arc::clone(&leases), Arc::clone(&view)), leases, view }
}

pub(in crate::fanout) fn record(instance: &str, endpoint: &str) -> Record {
    let register = Register::parse(format!("{{\"endpoint\":\"{endpoint}\"}}").as_bytes()).unwrap();
    Record {
        registered_at: 1.0,
        ..Record::new(
            Key { service: "orders".parse().unwrap(), instance: instance.parse().unwrap() },
            register.endpoint,
        )
    }
}

pub(in crate::fanout) fn change(revision: Revision, id: i64, kind: Kind, instance: &str) -> Change {
    let record = record(instance, &format!("http://h:{revision}"));
    let body = Body::new(record);
    Change {
        revision,
        tag: revision,
        id,
        at: clock::unix_now(clock::now()),
        kind,
        reason: None,
        actor: None,
        body,
    }
}

/// The last row of a writer, with beats that came just before it was sent.
fn beat_row(writer: Writer, seq: i64, ids: &[i64]) -> BeatRow {
    BeatRow { writer, seq, ids: ids.to_vec(), waited: Duration::ZERO, later: 0 }
}

fn whole(change: &Change) -> LogRow {
    LogRow::Change(Box::new(change.clone()))
}

fn known(change: &Change) -> LogRow {
    LogRow::Known { revision: change.revision, tag: change.tag }
}

impl Node {
    /// Reads these rows after the cursor, as of a log that holds no others beyond it.
    pub(in crate::fanout) fn read(&self, changes: &[Change]) -> Result<(), Broken> {
        self.read_at(changes, clock::now())
    }

    fn read_at(&self, changes: &[Change], now: Moment) -> Result<(), Broken> {
        self.read_rows_at(changes.iter().map(whole).collect(), now)
    }

    fn read_rows(&self, rows: Vec<LogRow>) -> Result<(), Broken> {
        self.read_rows_at(rows, clock::now())
    }

    fn read_rows_at(&self, rows: Vec<LogRow>, now: Moment) -> Result<(), Broken> {
        let cursor = self.applier.cursor();
        let page = LogPage {
            head: rows.last().map(LogRow::revision),
            first: Some(1),
            cursor_tag: (cursor > 0).then_some(cursor),
            rows,
            seen: 0,
        };
        self.applier.log_page(&page, now)
    }

    pub(in crate::fanout) fn endpoint(&self, instance: &str) -> Option<String> {
        let key = record(instance, "http://h:1").key();
        assert_eq!(
            self.view.entry(&key).is_some(),
            self.leases.lease(&key).is_some(),
            "view and lease agree"
        );
        self.view.entry(&key).map(|entry| entry.record.record().endpoint.to_string())
    }
}

#[test]
fn an_own_change_is_applied_ahead_and_read_again_without_effect() {
    let node = node();
    node.applier.committed(&[change(2, 2, Kind::Register, "b")], clock::now());
    assert_eq!(node.endpoint("b").as_deref(), Some("http://h:2"));
    assert_eq!(node.applier.cursor(), 0, "only what was read moves the cursor");
    let rows = [change(1, 1, Kind::Register, "a"), change(2, 2, Kind::Register, "b")];
    node.read(&rows).unwrap();
    assert_eq!(node.applier.cursor(), 2);
    assert!(node.endpoint("a").is_some() && node.endpoint("b").is_some());
}

#[test]
fn an_own_change_need_not_be_read_again_and_a_foreign_one_must() {
    let node = node();
    let (own, foreign) = (change(1, 1, Kind::Register, "a"), change(2, 2, Kind::Register, "b"));
    node.applier.committed(std::slice::from_ref(&own), clock::now());
    assert_eq!(node.applier.known(10), [own.tag]);
    let lost = node.read_rows(vec![known(&own), known(&foreign)]);
    assert!(matches!(lost, Err(Broken::Lost(_))), "{lost:?}");
    assert_eq!((node.applier.cursor(), node.endpoint("b")), (0, None));
    node.read_rows(vec![known(&own), whole(&foreign)]).unwrap();
    assert_eq!((node.applier.cursor(), node.applier.known(10)), (2, vec![]));
    assert!(node.endpoint("a").is_some() && node.endpoint("b").is_some());
}

#[test]
fn an_own_batch_that_was_half_read_before_its_answer_came_is_known_from_there_on() {
    let node = node();
    // With the tag that a row at the cursor has here.
    let batch: Vec<Change> = ["a", "b", "c", "d"]
        .into_iter()
        .zip(1..)
        .map(|(name, revision)| Change { tag: 2, ..change(revision, revision, Kind::Register, name) })
        .collect();
    node.read_rows(batch[..2].iter().map(whole).collect()).unwrap();
    node.applier.committed(&batch, clock::now());
    assert_eq!(node.applier.known(10), [2], "once, however many changes");
    node.read_rows(batch[2..].iter().map(known).collect()).unwrap();
    assert_eq!(node.applier.cursor(), 4);
    assert!(["a", "b", "c", "d"].into_iter().all(|name| node.endpoint(name).is_some()));
}

#[test]
fn no_more_is_named_as_known_than_a_page_can_hold() {
    let node = node();
    for revision in 1..=4 {
        node.applier.committed(&[change(revision, revision, Kind::Register, "a")], clock::now());
    }
    assert_eq!((node.applier.known(3).len(), node.applier.known(usize::MAX).len()), (3, 4));
}

#[tokio::test]
async fn an_own_expiry_that_was_passed_over_is_applied_when_it_is_read_again() {
    let node = node();
    let own = [change(1, 1, Kind::Register, "a"), change(2, 2, Kind::Register, "b")];
    node.applier.committed(&own, clock::now());
    let key = record("a", "http://h:1").key();
    node.leases.heartbeat(&key, &Heartbeat::default(), &Caller::default()).await.unwrap();
    let expiry = change(3, 1, Kind::Expire, "a");
    node.applier.committed(std::slice::from_ref(&expiry), clock::now());
    node.leases.beats_written(&node.leases.take_beats().ids);
    assert!(node.endpoint("a").is_some());
    node.read_rows(vec![known(&own[0]), known(&own[1]), whole(&expiry)]).unwrap();
    assert_eq!(node.endpoint("a"), None);
    assert!(node.endpoint("b").is_some());
}

#[test]
fn an_older_row_that_is_read_later_does_not_undo_a_newer_change() {
    let node = node();
    node.applier.committed(&[change(3, 1, Kind::Replace, "a")], clock::now());
    node.applier.committed(&[change(4, 2, Kind::Deregister, "b")], clock::now());
    let rows = [change(1, 1, Kind::Register, "a"), change(2, 2, Kind::Register, "b")];
    node.read(&rows).unwrap();
    assert_eq!(node.endpoint("a").as_deref(), Some("http://h:3"));
    assert_eq!(node.endpoint("b"), None, "removed beyond the cursor");
    let rows = [change(3, 1, Kind::Replace, "a"), change(4, 2, Kind::Deregister, "b")];
    node.read(&rows).unwrap();
    node.read(&[change(5, 3, Kind::Register, "b")]).unwrap();
    assert_eq!(node.endpoint("b").as_deref(), Some("http://h:5"), "and it may come again");
}

#[test]
fn an_own_change_that_was_read_before_its_answer_came_undoes_nothing() {
    let node = node();
    let own = change(1, 1, Kind::Register, "a");
    node.read(&[own.clone(), change(2, 1, Kind::Deregister, "a")]).unwrap();
    node.applier.committed(&[own], clock::now());
    assert_eq!(node.endpoint("a"), None);
}

#[test]
fn several_changes_of_a_key_in_one_call_end_with_the_last() {
    let node = node();
    let rows = [
        change(1, 1, Kind::Register, "a"),
        change(2, 1, Kind::Deregister, "a"),
        change(3, 2, Kind::Register, "a"),
    ];
    node.read(&rows).unwrap();
    assert_eq!(node.endpoint("a").as_deref(), Some("http://h:3"));
}

#[test]
fn a_gap_is_told_and_nothing_is_applied() {
    let node = node();
    assert!(node.read(&[change(2, 1, Kind::Register, "a")]).is_err());
    assert_eq!((node.endpoint("a"), node.applier.cursor()), (None, 0));
}

#[tokio::test]
async fn an_entry_with_an_unwritten_beat_outlives_its_expiry_and_takes_its_revival() {
    let node = node();
    node.applier.committed(&[change(1, 1, Kind::Register, "a")], clock::now());
    let key = record("a", "http://h:1").key();
    node.leases.heartbeat(&key, &Heartbeat::default(), &Caller::default()).await.unwrap();
    node.applier.committed(&[change(2, 1, Kind::Expire, "a")], clock::now());
    assert!(node.endpoint("a").is_some(), "the acknowledged beat wins");
    node.applier.committed(&[change(3, 9, Kind::Revive, "a")], clock::now());
    assert_eq!(node.leases.lease(&key).unwrap().0, 9);
    node.applier.committed(&[change(4, 9, Kind::Deregister, "a")], clock::now());
    assert_eq!(node.endpoint("a"), None, "a deregistration wins over a beat");
}

fn revival(revision: Revision, id: i64, waited: Duration) -> Change {
    let change = change(revision, id, Kind::Revive, "a");
    let waited_ms = u64::try_from(waited.as_millis()).unwrap();
    Change { body: Body { waited_ms, ..change.body }, ..change }
}

#[test]
fn a_revival_is_as_old_as_the_beat_that_it_is_owed_to() {
    let node = node();
    let key = record("a", "http://h:1").key();
    let ttl = Ttl::default().duration();
    // Long enough without a moment of blindness: nothing counts but beats.
    let mut now = clock::now();
    for _ in 0..ttl.as_secs() {
        now = now.plus(Duration::from_secs(1));
        node.leases.advance_sight(now, now);
    }
    let listed = || {
        let sighting = node.leases.sighting(now);
        node.view.service(&key.service).is_some_and(|service| service.listed(&sighting).next().is_some())
    };
    let young = ttl.saturating_sub(Duration::from_secs(10));
    node.applier.committed(&[revival(1, 1, young)], now);
    assert_eq!(node.leases.lease(&key).unwrap().1, now.minus(young));
    assert!(listed());
    node.applier.committed(&[change(2, 1, Kind::Expire, "a"), revival(3, 2, ttl)], now);
    assert!(node.leases.lease(&key).is_some());
    assert!(!listed(), "it has ended before any reader sees it");
}

#[test]
fn what_has_beaten_since_it_was_put_back_keeps_its_beat() {
    let (node, now) = (node(), clock::now());
    let key = record("a", "http://h:1").key();
    let beat = |now| node.leases.beat_once(now, &key, &Heartbeat::default()).unwrap();
    node.applier.committed(&[change(1, 1, Kind::Register, "a")], now);
    let after = |millis| now.plus(Duration::from_millis(millis));
    let (first, second) = (after(100), after(2000));
    beat(first);
    assert_eq!(node.leases.take_beats().ids, [1]);
    node.applier.committed(&[change(2, 1, Kind::Expire, "a")], first);
    beat(second);
    // Sent when the second had not come yet.
    let waited = Duration::from_millis(1000);
    node.applier.committed(&[revival(3, 9, waited)], first.plus(waited));
    assert_eq!(node.leases.unwritten_beat(9), Some(second));
    assert_eq!(node.leases.take_beats(), crate::lease::Beats { ids: vec![9], youngest: second });
    node.leases.beats_written(&[9]);
    // Nothing has come since the beat that this one is owed to.
    beat(second);
    node.applier.committed(&[change(4, 9, Kind::Expire, "a")], second);
    node.applier.committed(&[revival(5, 10, Duration::ZERO)], second);
    assert_eq!(node.leases.unwritten_beat(10), None);
}

#[test]
fn an_expiry_without_an_unwritten_beat_removes() {
    let node = node();
    node.applier
        .committed(&[change(1, 1, Kind::Register, "a"), change(2, 1, Kind::Expire, "a")], clock::now());
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
    node.applier.committed(&[change(1, 1, Kind::Register, "a")], clock::now());
    let key = record("a", "http://h:1").key();
    let before = node.leases.lease(&key).unwrap().1;
    let row = |writer, seq| beat_row(writer, seq, &[1, 77]);
    node.applier.beat_rows(&[row(OTHER, 40), row(OTHER, 41)], OWN, clock::now()).unwrap();
    assert!(node.leases.lease(&key).unwrap().1 > before);
    assert!(!node.leases.has_unwritten_beat(1));
    assert_eq!(
        node.applier.beat_cursors().get(&OTHER),
        Some(&41),
        "an unknown writer begins at its oldest row"
    );
    node.applier.beat_rows(&[row(OTHER, 41)], OWN, clock::now()).unwrap();
    assert!(node.applier.beat_rows(&[row(OTHER, 43)], OWN, clock::now()).is_err());
    assert_eq!(node.applier.beat_cursors().get(&OTHER), Some(&41));
}

#[test]
fn beats_that_are_read_late_count_from_when_they_were_written_at_the_latest() {
    let node = node();
    let start = clock::now();
    node.applier
        .committed(&[change(1, 1, Kind::Register, "early"), change(2, 2, Kind::Register, "late")], start);
    // 120 ticks of 1 s were missed; one instance beat in the first of them, the other in the last.
    let ids = |seq: i64| match seq {
        1 => vec![1],
        120 => vec![2],
        _ => vec![],
    };
    let rows: Vec<BeatRow> = (1..=120)
        .map(|seq: i64| BeatRow {
            ids: ids(seq),
            later: 120 - seq.unsigned_abs(),
            ..beat_row(OTHER, seq, &[])
        })
        .collect();
    let read = start.plus(Duration::from_secs(120));
    // In pages of which none holds the writer's last row but the last.
    for page in rows.chunks(50) {
        node.applier.beat_rows(page, OWN, read).unwrap();
    }
    let seen = |name: &str| node.leases.lease(&record(name, "http://h:1").key()).unwrap().1;
    assert_eq!(seen("late"), read);
    // 119 rows later, of which those of the last three ticks may be new.
    assert_eq!(seen("early"), read.minus(Duration::from_secs(116)));
}

#[test]
fn beats_that_waited_for_the_store_are_as_old_as_they_are() {
    let node = node();
    let start = clock::now();
    node.applier.committed(&[change(1, 1, Kind::Register, "a")], start);
    let read = start.plus(Duration::from_secs(300));
    let row = BeatRow { waited: Duration::from_secs(298), ..beat_row(OTHER, 1, &[1]) };
    node.applier.beat_rows(&[row], OWN, read).unwrap();
    let seen = node.leases.lease(&record("a", "http://h:1").key()).unwrap().1;
    assert_eq!(seen, start.plus(Duration::from_secs(2)));
}

fn loaded(head: Revision, entries: Vec<(Revision, i64, &str)>) -> Loaded {
    let entries = entries.into_iter().map(|(revision, id, instance)| LoadedEntry {
        id,
        revision,
        record: (&record(instance, &format!("http://h:{revision}"))).into(),
        since_beat: Duration::from_secs(30),
        renewed: true,
        ended_sessions: Vec::new(),
    });
    Loaded {
        head,
        head_tag: Some(head),
        entries: entries.collect(),
        gone: Vec::new(),
        past_sessions: Vec::new(),
        cursors: BTreeMap::from([(OTHER, 5)]),
    }
}

#[test]
fn loading_takes_up_what_is_stored_with_its_age_and_its_cursors() {
    let node = node();
    node.applier.load(loaded(9, vec![(4, 1, "a")]), clock::now());
    assert_eq!(node.applier.cursor(), 9);
    assert_eq!(node.applier.beat_cursors().get(&OTHER), Some(&5));
    let (_, last_seen, _) = node.leases.lease(&record("a", "http://h:1").key()).unwrap();
    let age = clock::now().since(last_seen);
    assert!((30..60).contains(&age.as_secs()), "{age:?}");
}

#[tokio::test]
async fn loading_again_takes_nothing_from_readers_without_a_reason() {
    let node = node();
    let rows = [
        change(1, 1, Kind::Register, "left"),
        change(2, 2, Kind::Register, "beaten"),
        change(3, 3, Kind::Register, "kept"),
        change(4, 4, Kind::Register, "lost"),
        change(5, 5, Kind::Register, "again"),
    ];
    node.read(&rows).unwrap();
    node.applier.committed(&[change(12, 9, Kind::Register, "newer")], clock::now());
    let beaten = record("beaten", "http://h:1").key();
    node.leases.heartbeat(&beaten, &Heartbeat::default(), &Caller::default()).await.unwrap();
    let gone = vec![
        // Before it registered again: no reason for the entry that was there last.
        change(1, 5, Kind::Deregister, "again"),
        change(8, 1, Kind::Deregister, "left"),
        change(9, 2, Kind::Expire, "beaten"),
    ];
    node.applier.load(Loaded { gone, ..loaded(10, vec![(7, 3, "kept")]) }, clock::now());
    assert_eq!(node.endpoint("left"), None, "the log says why");
    assert!(node.endpoint("newer").is_some());
    assert!(node.endpoint("beaten").is_some(), "the acknowledged beat wins");
    assert_eq!(node.endpoint("kept").as_deref(), Some("http://h:7"));
    for lost in ["lost", "again"] {
        let key = record(lost, "http://h:1").key();
        let entry = node.view.entry(&key).unwrap();
        assert!(node.leases.lease(&key).is_none(), "its next beat is answered 404");
        let sighting = node.leases.sighting(clock::now());
        assert!(entry.life().stale(&sighting) && !entry.ended(&sighting));
        assert_eq!(entry.life().remaining(&sighting), 0);
    }
}

#[test]
fn what_the_store_lost_stays_for_one_ttl_from_when_that_was_known() {
    let node = node();
    let start = clock::now();
    node.applier.committed(&[change(1, 1, Kind::Register, "a"), change(2, 2, Kind::Register, "b")], start);
    let ttl = Ttl::default().duration();
    let lost = start.plus(ttl * 10);
    node.applier.load(loaded(20, vec![]), lost);
    let at =
        |moment: Moment| Sighting { now: moment, sight: moment, floor: start, loaded: true, blind: false };
    let listed = |name: &str| node.view.entry(&record(name, "http://h:1").key()).is_some();
    // A second load changes nothing of when it was known.
    node.applier.load(loaded(30, vec![]), lost.plus(ttl / 2));
    node.applier.committed(&[change(31, 7, Kind::Register, "b")], lost.plus(ttl / 2));
    let nearly = lost.plus(ttl).minus(Duration::from_millis(1));
    node.applier.end_orphans(&at(nearly));
    assert!(listed("a"));
    node.applier.end_orphans(&Sighting { blind: true, ..at(lost.plus(ttl)) });
    assert!(listed("a"), "a blind node ends nothing");
    node.applier.end_orphans(&at(lost.plus(ttl)));
    assert!(!listed("a"));
    assert!(listed("b"), "it came back");
}

#[test]
fn an_older_revision_is_the_truth_after_the_store_went_back() {
    let node = node();
    node.applier.committed(&[change(8, 1, Kind::Replace, "a")], clock::now());
    node.applier.committed(&[change(9, 2, Kind::Deregister, "b")], clock::now());
    // An epoch stands at 10: nothing that was seen before is newer.
    node.applier.load(loaded(10, vec![(3, 1, "a"), (4, 2, "b")]), clock::now());
    assert_eq!(node.endpoint("a").as_deref(), Some("http://h:3"));
    assert_eq!(node.endpoint("b").as_deref(), Some("http://h:4"));
}

#[test]
fn a_writer_whose_beats_went_back_is_a_loss() {
    let node = node();
    let row = |seq| beat_row(OTHER, seq, &[]);
    node.applier.beat_rows(&[row(4), row(5)], OWN, clock::now()).unwrap();
    assert_eq!(node.applier.beat_rows(&[row(5)], OWN, clock::now()), Ok(()));
    let lost = node.applier.beat_rows(&[row(3)], OWN, clock::now());
    assert!(matches!(lost, Err(Broken::Lost(_))), "{lost:?}");
}

/// A node on which three of three were held for a while, and the moment of that.
fn holding() -> (Node, Moment) {
    let node = node();
    let rows: Vec<Change> =
        ["a", "b", "c"].into_iter().zip(1..).map(|(name, id)| change(id, id, Kind::Register, name)).collect();
    node.read(&rows).unwrap();
    let begun = clock::now();
    let beats = beat_row(OTHER, 1, &[1, 2, 3]);
    node.applier.beat_rows(&[beats], OWN, begun).unwrap();
    (node, begun)
}

impl Node {
    /// Looks once a second, from one second after `begun` to another.
    fn look(&self, begun: Moment, seconds: std::ops::RangeInclusive<u64>) {
        for second in seconds {
            let now = begun.plus(Duration::from_secs(second));
            self.leases.advance_sight(now, now);
        }
    }

    fn held(&self) -> usize {
        self.leases.census().0.held
    }
}

#[test]
fn what_another_node_removes_of_the_held_postpones_the_next() {
    for foreign in [false, true] {
        let (node, begun) = holding();
        node.look(begun, 1..=269);
        assert_eq!(node.held(), 3);
        if foreign {
            let expire = Change { id: 2, ..change(4, 2, Kind::Expire, "b") };
            node.read_at(&[expire], begun.plus(Duration::from_secs(269))).unwrap();
            assert_eq!((node.held(), node.endpoint("b")), (2, None));
        }
        // 10 in a TTL of 90 s: one every 9 s.
        node.look(begun, 270..=277);
        assert_eq!(node.held(), 2, "removed elsewhere: {foreign}");
        node.look(begun, 278..=279);
        assert_eq!(node.held(), 1, "removed elsewhere: {foreign}");
    }
}

#[test]
fn a_hold_that_another_node_tells_puts_the_brake_on() {
    let node = node();
    node.read(&[change(1, 1, Kind::Register, "a")]).unwrap();
    assert!(!node.leases.census().1);
    node.read(&[change(2, 1, Kind::Hold, "a")]).unwrap();
    assert!(node.leases.census().1);
    assert_eq!(node.endpoint("a").as_deref(), Some("http://h:2"));
}

#[test]
fn loading_tells_who_was_renewed() {
    for renewed in [false, true] {
        let node = node();
        let mut loaded = loaded(3, vec![(1, 1, "a"), (2, 2, "b"), (3, 3, "c")]);
        loaded.entries.iter_mut().for_each(|entry| entry.renewed = renewed);
        node.applier.load(loaded, clock::now());
        assert_eq!(node.leases.census().0.all, if renewed { 3 } else { 0 });
    }
}
