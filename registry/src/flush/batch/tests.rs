use tokio::sync::oneshot;

use super::*;
use crate::{
    clock::Sight,
    config::Limits,
    entry::Record,
    flush::decide::tests::{register, stored},
    lease::{Bounds, Cap, Looks, Write},
};

fn submission(instance: &str) -> (Submission, oneshot::Receiver<Outcome>) {
    let (reply, outcome) = oneshot::channel();
    let key = Key { service: "a".parse().unwrap(), instance: instance.parse().unwrap() };
    (Submission { key, write: Write::Undrain { session: None }, actor: None, reply, place: None }, outcome)
}

fn instances(submissions: &[Submission]) -> Vec<&str> {
    submissions.iter().map(|submission| submission.key.instance.as_str()).collect()
}

#[test]
fn a_key_is_once_in_a_batch_and_its_later_changes_stay_in_order() {
    let (submissions, waiters): (Vec<_>, Vec<_>) =
        ["x", "y", "x", "z", "x"].map(submission).into_iter().unzip();
    let mut waiting: VecDeque<_> = submissions.into();
    assert_eq!(instances(&take_batch(&mut waiting)), ["x", "y", "z"]);
    assert_eq!(instances(&take_batch(&mut waiting)), ["x"]);
    assert_eq!(instances(&take_batch(&mut waiting)), ["x"]);
    assert!(waiting.is_empty());
    drop(waiters);
}

#[test]
fn what_nobody_waits_for_is_not_committed() {
    let (gone, receiver) = submission("x");
    drop(receiver);
    let (waited_for, _receiver) = submission("y");
    let mut waiting = VecDeque::from([gone, waited_for]);
    assert_eq!(instances(&take_batch(&mut waiting)), ["y"]);
    assert!(waiting.is_empty());
}

#[test]
fn a_batch_is_bounded() {
    let (submissions, waiters): (Vec<_>, Vec<_>) =
        (0..BATCH + 3).map(|number| submission(&format!("x{number}"))).unzip();
    let mut waiting: VecDeque<_> = submissions.into();
    assert_eq!(take_batch(&mut waiting).len(), BATCH);
    assert_eq!(waiting.len(), 3);
    drop(waiters);
}

#[test]
fn many_changes_of_one_key_keep_no_other_waiting() {
    let (submit, mut arrived) = mpsc::channel(4 * BATCH);
    let mut waiters = Vec::new();
    for name in std::iter::repeat_n("x", 3 * BATCH).chain(["y"]) {
        let (submission, waiter) = submission(name);
        submit.try_send(submission).unwrap();
        waiters.push(waiter);
    }
    let mut waiting = VecDeque::new();
    gather(&mut waiting, &mut arrived);
    assert_eq!(instances(&take_batch(&mut waiting)), ["x", "y"]);
}

#[test]
fn a_batch_of_large_entries_ends_early_and_the_rest_comes_first_in_the_next() {
    let (look, _looks) = Looks::new();
    let (submit, _submissions) = mpsc::channel(1);
    let sight = Sight::continuous(std::time::Duration::from_secs(1));
    let bounds = Bounds::none();
    let leases = Leases::new(sight, look, submit, registry_wire::Ttl::default(), bounds);
    let names: Vec<String> = (0..BATCH).map(|number| format!("x{number}")).collect();
    let (submissions, waiters): (Vec<_>, Vec<_>) = names
        .iter()
        .map(|name| {
            let (submission, outcome) = submission(name);
            (
                Submission {
                    write: Write::Drain { session: None, reason: registry_wire::Reason::default() },
                    ..submission
                },
                outcome,
            )
        })
        .unzip();
    let standing = |name: &String| {
        let mut stored = stored(None);
        stored.record.instance_id = name.parse().unwrap();
        for key in 0..32 {
            stored.record.metadata.insert(&format!("k{key}"), &"\u{1f980}".repeat(256)).unwrap();
        }
        Standing { entry: Some(stored), ..Standing::default() }
    };
    let mut waiting = VecDeque::from([submission("last").0]);
    let standings = names.iter().map(standing).collect();
    let taken = Batch::decide(submissions, standings, leases.room(), &mut waiting).into_submissions();
    assert!((BYTES / 40_000..=BYTES / 30_000).contains(&taken.len()), "{}", taken.len());
    let waiting: Vec<Submission> = waiting.into();
    let order: Vec<&str> = instances(&taken).into_iter().chain(instances(&waiting)).collect();
    let expected: Vec<&str> = names.iter().map(String::as_str).chain(["last"]).collect();
    assert_eq!(order, expected);
    drop(waiters);
}

/// Many registrations wait for one commit, and none of them is counted yet when the next is decided.
#[test]
fn a_batch_fills_a_cap_to_its_last_place_and_replaces_what_is_there() {
    let (look, _looks) = Looks::new();
    let (submit, _submissions) = tokio::sync::mpsc::channel(1);
    let sight = Sight::continuous(std::time::Duration::from_secs(1));
    let limits = Limits { instances: 3, ..Limits::NONE };
    let bounds = Bounds::new(limits, 1, std::sync::Arc::new(|_| (0, 0)));
    let leases = Leases::new(sight, look, submit, registry_wire::Ttl::default(), bounds);
    let names = ["a", "b", "there", "c", "d", "also-there", "e"];
    let (submissions, mut waiters): (Vec<_>, Vec<_>) = names
        .iter()
        .map(|name| {
            let (submission, outcome) = submission(name);
            (Submission { write: register(None), ..submission }, outcome)
        })
        .unzip();
    let standings = names.iter().map(|name| {
        let entry = name.ends_with("there").then(|| {
            let stored = stored(None);
            let record = Record { instance_id: name.parse().unwrap(), ..stored.record };
            crate::entry::Stored { record, ..stored }
        });
        Standing { entry, ..Standing::default() }
    });
    let mut waiting = VecDeque::new();
    let batch = Batch::decide(submissions, standings.collect(), leases.room(), &mut waiting);
    assert!(waiting.is_empty());
    let taken = batch.into_submissions();
    assert_eq!(instances(&taken), ["a", "b", "there", "c", "also-there"]);
    let mut refused = Vec::new();
    for (name, waiter) in names.iter().zip(&mut waiters) {
        if let Ok(outcome) = waiter.try_recv() {
            assert_eq!(outcome, Outcome::Full(Cap::Instances(3)));
            refused.push(*name);
        }
    }
    assert_eq!(refused, ["d", "e"]);
}
