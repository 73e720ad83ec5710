//! What becomes of a batch of changes between the calls of the store: without I/O or a clock.

use std::collections::{HashSet, VecDeque};

use tokio::sync::mpsc;

use super::decide::{Decision, decide};
use crate::{
    clock::Moment,
    entry::{Change, Key, Kind},
    lease::{Leases, Outcome, Room, Submission, Write},
    store::{Mutation, Standing},
};

/// Changes committed in one transaction at the most: the revision lock is held for as long as their rows take.
const BATCH: usize = 512;

/// Changes that are looked through for a batch at the most: many of one key wait for one another, and are not to keep
/// the others waiting with them.
const WAITING: usize = 16 * BATCH;

/// Bytes of text, about, that end a batch: it writes all of an entry, whatever it changes of it, and 512 entries as large
/// as they may be are not written within the deadline of a call.
const BYTES: usize = 1 << 20;

/// How often a change is decided anew because another node changed its entry in between.
pub(crate) const ATTEMPTS: usize = 5;

/// Changes that are decided and on their way to the store, and those that are to be decided anew.
#[derive(Debug)]
pub(crate) struct Batch {
    decided: Vec<(Submission, Decision)>,
    conflicts: Vec<Submission>,
}

impl Batch {
    /// Decides each submission on what the store holds of its key, and answers those that leave nothing to commit.
    /// What would add an entry takes a place of `room`; what replaces one needs none. What is too much for one batch
    /// goes back to the front of what is `waiting`.
    pub(crate) fn decide(
        submissions: Vec<Submission>,
        standings: Vec<Standing>,
        mut room: Room<'_>,
        waiting: &mut VecDeque<Submission>,
    ) -> Self {
        let mut decided: Vec<(Submission, Decision)> = Vec::with_capacity(submissions.len());
        let (mut bytes, mut later) = (0, Vec::new());
        for (submission, standing) in submissions.into_iter().zip(standings) {
            if bytes >= BYTES {
                later.push(submission);
                continue;
            }
            let decision = decide(&submission, standing).and_then(|decision| {
                if decision.mutation.kind == Kind::Register {
                    room.take(&submission.key.service).map_err(Outcome::Full)?;
                }
                Ok(decision)
            });
            match decision {
                Ok(decision) => {
                    bytes += decision.mutation.body.record.bytes();
                    decided.push((submission, decision));
                }
                Err(outcome) => answer(submission, outcome),
            }
        }
        later.into_iter().rev().for_each(|submission| waiting.push_front(submission));
        Self { decided, conflicts: Vec::new() }
    }

    /// What is to be committed, as it is to be sent at `now`.
    pub(crate) fn mutations(&self, now: Moment) -> Vec<Mutation> {
        let mutation = |(submission, decision): &(Submission, Decision)| {
            let mut mutation = decision.mutation.clone();
            if let Write::Revive { beaten, .. } = &submission.write {
                let waited = now.since(*beaten).as_millis();
                mutation.body.waited_ms = u64::try_from(waited).unwrap_or(u64::MAX);
            }
            mutation
        };
        self.decided.iter().map(mutation).collect()
    }

    /// The store refused the batch for the changes at these places: the others are to be committed without them.
    pub(crate) fn conflicted(&mut self, places: &[usize]) {
        let decided = std::mem::take(&mut self.decided);
        for (place, (submission, decision)) in decided.into_iter().enumerate() {
            if places.contains(&place) {
                self.conflicts.push(submission);
            } else {
                self.decided.push((submission, decision));
            }
        }
    }

    /// Answers what is committed, after it was applied, so that whoever is answered reads what it wrote. Returns what
    /// is to be decided anew.
    pub(crate) fn acknowledge(
        self,
        leases: &Leases,
        changes: Vec<Option<Change>>,
        now: Moment,
    ) -> Vec<Submission> {
        for ((submission, decision), change) in self.decided.into_iter().zip(changes) {
            leases.remember_ended_sessions(&submission.key, &decision.ended_sessions, now);
            let outcome = match change {
                Some(change) => Outcome::Done { record: Box::new(change.body.record), new: decision.new },
                None => Outcome::Unknown,
            };
            answer(submission, outcome);
        }
        self.conflicts
    }

    /// Everything that was not committed.
    pub(crate) fn into_submissions(self) -> Vec<Submission> {
        let decided = self.decided.into_iter().map(|(submission, _)| submission);
        self.conflicts.into_iter().chain(decided).collect()
    }
}

/// Takes what has arrived, as much of it as is looked through.
pub(super) fn gather(waiting: &mut VecDeque<Submission>, arrived: &mut mpsc::Receiver<Submission>) {
    while waiting.len() < WAITING {
        let Ok(submission) = arrived.try_recv() else { return };
        waiting.push_back(submission);
    }
}

/// Takes the next batch: each key once, so that every change is decided on what is in the store; later changes of a
/// key wait for the next batch. What nobody waits for any more was refused already and is dropped.
pub(crate) fn take_batch(waiting: &mut VecDeque<Submission>) -> Vec<Submission> {
    let mut keys: HashSet<Key> = HashSet::new();
    let mut batch = Vec::new();
    let mut later = VecDeque::new();
    for submission in waiting.drain(..) {
        if submission.reply.is_closed() {
            continue;
        }
        if batch.len() < BATCH && keys.insert(submission.key.clone()) {
            batch.push(submission);
        } else {
            later.push_back(submission);
        }
    }
    *waiting = later;
    batch
}

/// Answers a submission.
pub(crate) fn answer(submission: Submission, outcome: Outcome) {
    // Whoever asked may have gone; the change stands.
    drop(submission.reply.send(outcome));
}

#[cfg(test)]
mod tests;
