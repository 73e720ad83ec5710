use std::{collections::HashMap, time::Duration};

use rand::Rng;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::{Flush, brake};
use crate::{
    clock::{self, Moment},
    entry::EntryId,
    lease::{Ended, Outcome, Submission, Write},
};

/// Ticks between the end of a lease and its removal, so that beats that other nodes have acknowledged can arrive.
const GRACE_TICKS: u32 = 3;

/// Leases noted or removed in one go.
const BATCH: usize = 1000;

/// Removes entries whose lease has ended. Readers do not see them any more from the moment at which it ended.
pub(super) async fn run(flush: Flush, submit: mpsc::WeakSender<Submission>, mut stop: watch::Receiver<bool>) {
    let mut tick = interval(flush.tick);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let ended = flush.leases.newly_ended(&flush.leases.sighting(clock::now()));
        for ids in ended.chunks(BATCH) {
            note(&flush, ids).await;
        }
        let due = flush.leases.due(&flush.leases.sighting(clock::now()));
        let Some(submit) = submit.upgrade() else { return };
        brake::tell(&flush, &submit).await;
        for batch in due.chunks(BATCH) {
            remove(&flush, &submit, batch).await;
        }
    }
}

/// Notes how often each has beaten: who beats once more is not removed.
async fn note(flush: &Flush, ids: &[EntryId]) {
    let noted: HashMap<EntryId, i64> = match flush.store.note_beats(ids).await {
        Ok(noted) => noted.into_iter().collect(),
        Err(error) => {
            warn!(%error, "ended leases could not be noted; tried again");
            HashMap::new()
        }
    };
    let sighting = flush.leases.sighting(clock::now());
    for id in ids {
        let due = |beat: &i64| (*beat, removal_due(sighting.now, flush.tick, &mut clock::rng()));
        flush.leases.noted(*id, noted.get(id).map(due), &sighting);
    }
}

/// Three ticks on, plus a random part of one, so that nodes do not all remove the same entry at once.
pub(crate) fn removal_due(now: Moment, tick: Duration, rng: &mut impl Rng) -> Moment {
    now.plus(tick * GRACE_TICKS).plus(tick.mul_f64(rng.random_range(0.0..1.0)))
}

async fn remove(flush: &Flush, submit: &mpsc::Sender<Submission>, due: &[Ended]) {
    let now = clock::now();
    let unix_now = clock::unix_now(now);
    let mut replies = Vec::with_capacity(due.len());
    for ended in due {
        let (reply, outcome) = oneshot::channel();
        let write = Write::Expire {
            id: ended.id,
            noted_beat: ended.noted_beat,
            last_seen: clock::unix_at(ended.last_seen, now, unix_now),
            held_for: ended.held_for,
        };
        let submission = Submission { key: ended.key.clone(), write, actor: None, reply, place: None };
        if submit.send(submission).await.is_err() {
            return;
        }
        replies.push((ended, outcome));
    }
    for (ended, outcome) in replies {
        match outcome.await {
            Ok(Outcome::Done { .. }) => match ended.held_for {
                None => info!(instance = %ended.key, "expired"),
                Some(held) => {
                    flush.metrics.let_go();
                    info!(instance = %ended.key, held_seconds = held.as_secs(), "expired after a hold");
                }
            },
            _ => flush.leases.not_removed(ended.id, &flush.leases.sighting(clock::now())),
        }
    }
}
