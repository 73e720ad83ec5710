use std::collections::VecDeque;

use tokio::sync::{mpsc, watch};
use tracing::{debug, error, warn};

use super::{
    Flush,
    batch::{ATTEMPTS, Batch, answer, gather, take_batch},
    decide::decide,
};
use crate::{
    clock,
    entry::{Change, Key},
    lease::{Outcome, Submission},
    seeded::{Bug, seeded},
    store::{Committed, Standing, StoreError},
};

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
        gather(&mut waiting, &mut submissions);
        let batch = take_batch(&mut waiting);
        flush.metrics.commit_batch(batch.len());
        commit(&flush, batch, &mut waiting).await;
    }
}

/// Decides, commits, applies and answers a batch. What conflicts with another node's change is decided anew; what is too
/// much for one batch goes back to what is `waiting`.
async fn commit(flush: &Flush, mut batch: Vec<Submission>, waiting: &mut VecDeque<Submission>) {
    for _ in 0..ATTEMPTS {
        if batch.is_empty() {
            return;
        }
        match attempt(flush, batch, waiting).await {
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
async fn attempt(
    flush: &Flush,
    submissions: Vec<Submission>,
    waiting: &mut VecDeque<Submission>,
) -> Result<Vec<Submission>, ()> {
    let keys: Vec<Key> = submissions.iter().map(|submission| submission.key.clone()).collect();
    let read = flush.store.read(&keys).await;
    flush.metrics.store_call("standings", read.is_ok());
    let mut batch = match read {
        Ok(standings) => Batch::decide(submissions, standings, flush.leases.room(), waiting),
        Err(error) => return refuse(submissions, &error),
    };
    loop {
        let mutations = batch.mutations(clock::now());
        if mutations.is_empty() {
            return Ok(batch.into_submissions());
        }
        let committed = flush.store.commit(&mutations).await;
        flush.metrics.store_call("commit", committed.is_ok());
        match committed {
            Ok(Committed::Done(changes)) => {
                apply(flush, &changes);
                return Ok(batch.acknowledge(&flush.leases, changes, clock::now()));
            }
            Ok(Committed::Conflict(places)) if !places.is_empty() => {
                debug!(count = places.len(), "changes conflict with other nodes; decided anew");
                batch.conflicted(&places);
            }
            Ok(Committed::Conflict(_)) => {
                let error = StoreError::Unavailable("refused a batch without saying why".into());
                return refuse(batch.into_submissions(), &error);
            }
            Err(error) => return refuse(batch.into_submissions(), &error),
        }
    }
}

fn apply(flush: &Flush, changes: &[Option<Change>]) {
    let applied: Vec<Change> = changes.iter().flatten().cloned().collect();
    (flush.apply)(&applied);
    for change in &applied {
        flush.metrics.change(change.kind);
    }
}

fn refuse(batch: Vec<Submission>, error: &StoreError) -> Result<Vec<Submission>, ()> {
    error!(%error, changes = batch.len(), "changes could not be committed");
    for submission in batch {
        let outcome = if seeded(Bug::AckBeforeCommit) {
            not_committed(&submission)
        } else {
            Outcome::Unavailable(error.to_string())
        };
        answer(submission, outcome);
    }
    Err(())
}

/// What would have been answered had nothing stood there and the commit been done.
fn not_committed(submission: &Submission) -> Outcome {
    match decide(submission, Standing::default()) {
        Ok(decision) => Outcome::Done { record: Box::new(decision.mutation.body.record), new: decision.new },
        Err(outcome) => outcome,
    }
}
