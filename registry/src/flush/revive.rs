use std::collections::BTreeSet;

use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tracing::{info, warn};

use super::Flush;
use crate::{
    clock,
    entry::{Change, EntryId},
    lease::{Leases, Outcome, Submission, Write},
};

/// Puts entries back that were removed as expired while a beat of theirs had been acknowledged: an acknowledged beat
/// always wins. Removed in another way, they stay away.
pub(super) async fn run(
    flush: Flush,
    mut missing: mpsc::UnboundedReceiver<Vec<EntryId>>,
    submit: mpsc::WeakSender<Submission>,
) {
    let mut open = BTreeSet::new();
    loop {
        if open.is_empty() {
            let Some(ids) = missing.recv().await else { return };
            open.extend(ids);
        }
        while let Ok(ids) = missing.try_recv() {
            open.extend(ids);
        }
        let Some(submit) = submit.upgrade() else { return };
        for id in settle(&flush, &submit, &open).await {
            open.remove(&id);
            flush.leases.beats_written(&[id]);
        }
        drop(submit);
        if !open.is_empty() {
            sleep(flush.tick).await;
        }
    }
}

/// Returns the entries about which nothing is left to do.
async fn settle(flush: &Flush, submit: &mpsc::Sender<Submission>, open: &BTreeSet<EntryId>) -> Vec<EntryId> {
    // Who has been blind learns from the logs first whether another session took the place, or the instance left.
    if flush.leases.sighting(clock::now()).blind {
        return Vec::new();
    }
    let ids: Vec<EntryId> = open.iter().copied().collect();
    let expired = match flush.store.expired(&ids).await {
        Ok(expired) => expired,
        Err(error) => {
            warn!(%error, "entries with acknowledged beats could not be looked up; tried again");
            return Vec::new();
        }
    };
    let mut settled = ids;
    let mut replies = Vec::with_capacity(expired.len());
    for change in expired {
        let (reply, outcome) = oneshot::channel();
        let (id, key) = (change.id, change.key());
        let Some(submission) = revival(&flush.leases, change, reply) else { continue };
        replies.push((id, key, submit.send(submission).await.is_ok(), outcome));
    }
    for (id, key, sent, outcome) in replies {
        match outcome.await {
            Ok(Outcome::Done { .. }) if sent => info!(instance = %key, "revived: it had beaten"),
            Ok(outcome) if settles(&outcome) => {}
            _ => settled.retain(|settled| *settled != id),
        }
    }
    settled
}

/// Asks for an entry back, if a beat of it is still owed: it may have been removed in another way since, or another
/// entry taken its place. It comes back as old as that beat.
pub(crate) fn revival(
    leases: &Leases,
    expired: Change,
    reply: oneshot::Sender<Outcome>,
) -> Option<Submission> {
    let beaten = leases.unwritten_beat(expired.id)?;
    let key = expired.key();
    let write = Write::Revive { record: Box::new(expired.body.record), beaten };
    Some(Submission { key, write, actor: None, reply, place: None })
}

/// Whether nothing is left to do: the entry is back, or another stands in its place, or its session has ended.
pub(crate) const fn settles(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done { .. } | Outcome::Unknown | Outcome::Superseded)
}
