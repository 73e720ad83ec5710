use tokio::sync::oneshot;

use super::*;
use crate::lease::Write;

fn submission(instance: &str) -> (Submission, oneshot::Receiver<Outcome>) {
    let (reply, outcome) = oneshot::channel();
    let key = Key { service: "a".parse().unwrap(), instance: instance.parse().unwrap() };
    (Submission { key, write: Write::Undrain { session: None }, actor: None, reply }, outcome)
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
