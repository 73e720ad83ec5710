use super::*;
use crate::{
    clock,
    entry::{Change, Kind, Revision},
    fanout::apply::tests::{Node, change, node, record},
};

/// The table as these changes leave it.
fn stored(changes: &[Change]) -> Vec<Stored> {
    let stored = |change: &Change| Stored {
        id: change.id,
        revision: change.revision,
        record: change.body.record.clone(),
    };
    changes.iter().map(stored).collect()
}

fn whole(head: Revision, entries: Vec<Stored>) -> Slice {
    Slice { head, after: None, entries, last: true }
}

fn key(instance: &str) -> Key {
    record(instance, "http://h:1").key()
}

fn three() -> (Node, Vec<Change>) {
    let node = node();
    let changes: Vec<Change> =
        [(1, "a"), (2, "b"), (3, "c")].map(|(n, name)| change(n, n, Kind::Register, name)).into();
    node.read(&changes).unwrap();
    (node, changes)
}

fn mend(node: &Node, slice: Slice) -> Vec<(Key, Difference)> {
    let mut mended = node.applier.mend(slice, clock::now());
    mended.sort_by(|one, other| one.0.cmp(&other.0));
    mended
}

#[test]
fn what_agrees_is_left_alone() {
    let (node, changes) = three();
    let before = node.view.entry(&key("a")).unwrap();
    assert_eq!(mend(&node, whole(3, stored(&changes))), []);
    assert!(Arc::ptr_eq(&before, &node.view.entry(&key("a")).unwrap()));
}

#[test]
fn each_difference_is_mended_once() {
    let (node, changes) = three();
    let mut table = stored(&changes);
    // b was taken out of the table, c written over without a new revision, d put in: nobody wrote so into the log.
    table.remove(1);
    table[1].record.endpoint = "http://h:99".parse().unwrap();
    table.push(Stored { id: 9, revision: 2, record: record("d", "http://h:2") });
    let differences =
        [(key("b"), Difference::Extra), (key("c"), Difference::Changed), (key("d"), Difference::Missing)];
    assert_eq!(mend(&node, whole(3, table.clone())), differences);
    assert_eq!(node.endpoint("c").as_deref(), Some("http://h:99"));
    assert_eq!(node.endpoint("d").as_deref(), Some("http://h:2"));
    let orphan = node.view.entry(&key("b")).unwrap();
    assert!(orphan.orphaned().is_some() && node.leases.lease(&key("b")).is_none());
    assert_eq!(mend(&node, whole(3, table)), []);
    // It came back.
    assert_eq!(mend(&node, whole(3, stored(&changes)))[0], (key("b"), Difference::Missing));
}

#[test]
fn what_is_newer_than_the_slice_is_left_alone() {
    let (node, changes) = three();
    node.read(&[change(4, 4, Kind::Register, "d"), change(5, 1, Kind::Replace, "a")]).unwrap();
    // Committed by this node, ahead of the log.
    node.applier.committed(&[change(6, 2, Kind::Deregister, "b")], clock::now());
    assert_eq!(mend(&node, whole(3, stored(&changes))), []);
    assert_eq!(node.endpoint("b"), None);
    assert_eq!(node.endpoint("a").as_deref(), Some("http://h:5"));
}

#[test]
fn what_left_after_the_slice_stays_away() {
    let (node, changes) = three();
    // The slice was read first; then b left, and the log was read beyond it.
    node.read(&[change(4, 2, Kind::Deregister, "b")]).unwrap();
    assert_eq!(mend(&node, whole(3, stored(&changes))), []);
    assert_eq!(node.endpoint("b"), None);
}

#[test]
fn nothing_is_compared_before_the_log_was_read_that_far() {
    let (node, changes) = three();
    assert_eq!(mend(&node, whole(4, stored(&changes[..2]))), []);
    assert!(node.endpoint("c").is_some());
}

#[test]
fn slices_cover_every_key_once() {
    let (node, changes) = three();
    let other = {
        let mut record = record("a", "http://h:1");
        record.service_name = "zebra".parse().unwrap();
        Stored { id: 7, revision: 3, record }
    };
    let mut table = stored(&changes);
    table.push(other.clone());
    let mut rounds = Rounds::default();
    for _ in 1..ROUND_TICKS {
        assert_eq!(rounds.tick(), None);
    }
    let mut mended = Vec::new();
    // b is missing from the table; slices of one entry.
    table.remove(1);
    for (place, entry) in table.iter().enumerate() {
        let Place(after) = rounds.tick().expect("a slice is due");
        assert_eq!(after, place.checked_sub(1).map(|before| table[before].record.key()));
        let slice = Slice { head: 3, after, entries: vec![entry.clone()], last: place + 1 == table.len() };
        assert_eq!(rounds.done(&slice), slice.last);
        mended.push(mend(&node, slice));
    }
    assert_eq!(
        mended,
        [vec![], vec![(key("b"), Difference::Extra)], vec![(other.record.key(), Difference::Missing)],]
    );
    assert_eq!(rounds.tick(), None, "the next round begins in its time");
}
