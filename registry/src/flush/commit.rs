use std::collections::{HashSet, VecDeque};

use tokio::sync::{mpsc, watch};
use tracing::{debug, error, warn};

use super::{
    Flush,
    decide::{Decision, decide},
};
use crate::{
    entry::{Change, Key},
    lease::{Outcome, Submission},
    store::{Committed, StoreError},
};

/// Changes committed in one transaction at the most: the revision lock is held for as long as their rows take.
const BATCH: usize = 512;

/// How often a change is decided anew because another node changed its entry in between.
const ATTEMPTS: usize = 5;

/// Commits what has arrived, all of it at once; what arrives meanwhile is the next batch. After `stop`, ends when
/// nothing is left.
pub(super) async fn run(
    flush: Flush,
    mut submissions: mpsc::Receiver<Submission>,
    mut stop: watch::Receiver<bool>,
) {
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            let first = tokio::select! {
                biased;
                first = submissions.recv() => first,
                _ = stop.wait_for(|stop| *stop) => None,
            };
            let Some(first) = first else { return };
            waiting.push_back(first);
        }
        while waiting.len() < BATCH {
            let Ok(submission) = submissions.try_recv() else {
                break;
            };
            waiting.push_back(submission);
        }
        let batch = take_batch(&mut waiting);
        flush.metrics.commit_batch(batch.len());
        commit(&flush, batch).await;
    }
}

/// Takes the next batch: each key once, so that every change is decided on what is in the store; later changes of a
/// key wait for the next batch. What nobody waits for any more was refused already and is dropped.
fn take_batch(waiting: &mut VecDeque<Submission>) -> Vec<Submission> {
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

/// Decides, commits, applies and answers a batch. What conflicts with another node's change is decided anew.
async fn commit(flush: &Flush, mut batch: Vec<Submission>) {
    for _ in 0..ATTEMPTS {
        if batch.is_empty() {
            return;
        }
        match attempt(flush, batch).await {
            Ok(conflicts) => batch = conflicts,
            Err(()) => return,
        }
    }
    for submission in batch {
        warn!(instance = %submission.key, "given up after {ATTEMPTS} conflicts with other nodes");
        answer(submission, Outcome::Unavailable("conflicts with other nodes".into()));
    }
}

/// Returns the submissions that conflicted. `Err`: the store did not take the batch, and all were answered.
async fn attempt(flush: &Flush, batch: Vec<Submission>) -> Result<Vec<Submission>, ()> {
    let keys: Vec<Key> = batch.iter().map(|submission| submission.key.clone()).collect();
    let standings = match flush.store.read(&keys).await {
        Ok(standings) => standings,
        Err(error) => return refuse(flush, batch, &error),
    };
    let mut decided: Vec<(Submission, Decision)> = Vec::with_capacity(batch.len());
    for (submission, standing) in batch.into_iter().zip(standings) {
        match decide(&submission, standing) {
            Ok(decision) => decided.push((submission, decision)),
            Err(outcome) => answer(submission, outcome),
        }
    }
    let mut conflicts = Vec::new();
    while !decided.is_empty() {
        let mutations: Vec<_> = decided.iter().map(|(_, decision)| decision.mutation.clone()).collect();
        let committed = flush.store.commit(&mutations).await;
        flush.metrics.store_call("commit", committed.is_ok());
        match committed {
            Ok(Committed::Done(changes)) => {
                done(flush, decided, changes);
                break;
            }
            Ok(Committed::Conflict(places)) if !places.is_empty() => {
                debug!(count = places.len(), "changes conflict with other nodes; decided anew");
                let (lost, kept): (Vec<_>, Vec<_>) =
                    decided.into_iter().enumerate().partition(|(place, _)| places.contains(place));
                conflicts.extend(lost.into_iter().map(|(_, (submission, _))| submission));
                decided = kept.into_iter().map(|(_, pair)| pair).collect();
            }
            Ok(Committed::Conflict(_)) => {
                let error = StoreError::Unavailable("refused a batch without saying why".into());
                conflicts.extend(decided.into_iter().map(|(submission, _)| submission));
                return refuse(flush, conflicts, &error);
            }
            Err(error) => {
                conflicts.extend(decided.into_iter().map(|(submission, _)| submission));
                return refuse(flush, conflicts, &error);
            }
        }
    }
    Ok(conflicts)
}

/// Applies first, so that whoever is answered reads what it wrote.
fn done(flush: &Flush, decided: Vec<(Submission, Decision)>, changes: Vec<Option<Change>>) {
    let applied: Vec<Change> = changes.iter().flatten().cloned().collect();
    (flush.apply)(&applied);
    for change in &applied {
        flush.metrics.change(change.kind);
    }
    for ((submission, decision), change) in decided.into_iter().zip(changes) {
        flush.leases.remember_ended_sessions(&submission.key, &decision.ended_sessions);
        let outcome = match change {
            Some(change) => Outcome::Done { record: Box::new(change.body.record), new: decision.new },
            None => Outcome::Unknown,
        };
        answer(submission, outcome);
    }
}

fn refuse(flush: &Flush, batch: Vec<Submission>, error: &StoreError) -> Result<Vec<Submission>, ()> {
    flush.metrics.store_call("read", false);
    error!(%error, changes = batch.len(), "changes could not be committed");
    for submission in batch {
        answer(submission, Outcome::Unavailable(error.to_string()));
    }
    Err(())
}

fn answer(submission: Submission, outcome: Outcome) {
    // Whoever asked may have gone; the change stands.
    drop(submission.reply.send(outcome));
}

#[cfg(test)]
mod tests;
