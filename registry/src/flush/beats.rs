use std::collections::HashSet;

use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, warn};

use super::{Flush, buffer::Buffer};
use crate::{clock, entry::EntryId, lease::Leases, store::BeatsWritten};

/// Writes the beats of each tick as one row, empty or not: the row also proves this node's sight.
pub(super) async fn run(
    flush: Flush,
    missing: mpsc::UnboundedSender<Vec<EntryId>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut buffer = Buffer::new();
    let mut tick = interval(flush.tick);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        let last = tokio::select! {
            _ = tick.tick() => false,
            _ = stop.wait_for(|stop| *stop) => true,
        };
        if !flush.leases.sighting(clock::now()).loaded {
            // The tables may not be there yet.
            if last {
                return;
            }
            continue;
        }
        let ok = write(&flush, &mut buffer, &missing).await;
        if failed && ok {
            warn!("beats are written again");
        }
        failed = !ok;
        if last {
            return;
        }
    }
}

/// Returns whether the beats are in the store.
async fn write(flush: &Flush, buffer: &mut Buffer, missing: &mpsc::UnboundedSender<Vec<EntryId>>) -> bool {
    buffer.add(flush.leases.take_beats());
    loop {
        // Before the row is written: what this node sees after reading it back reaches up to here.
        let before = clock::now();
        let (seq, ids, waited) = buffer.row(before);
        let outcome = flush.store.write_beats(flush.writer, seq, ids, waited).await;
        flush.metrics.store_call("beats", outcome.is_ok());
        match outcome {
            Ok(written) => match settle(&flush.leases, buffer, written) {
                Row::Repeated => {}
                Row::Written { count, missing: absent } => {
                    flush.metrics.beats_written(count);
                    flush.own_row.send_replace((seq, before));
                    if !absent.is_empty() {
                        debug!(count = absent.len(), "beats of entries without a row");
                        // The receiver ends with the process.
                        drop(missing.send(absent));
                    }
                    return true;
                }
            },
            Err(error) => {
                warn!(%error, beats = ids.len(), "beats could not be written; they are kept and written with the next");
                return false;
            }
        }
    }
}

/// What became of a row of beats.
pub(crate) enum Row {
    /// Its number was used by an earlier call: the beats go into the next row, at once.
    Repeated,
    /// It is in the store.
    Written {
        /// How many beats it holds.
        count: usize,
        /// Beats whose entry has no row in the store.
        missing: Vec<EntryId>,
    },
}

/// Takes note of what the store said of the last row of the buffer.
pub(crate) fn settle(leases: &Leases, buffer: &mut Buffer, written: BeatsWritten) -> Row {
    if written.repeated {
        buffer.repeated();
        return Row::Repeated;
    }
    let mut ids = buffer.written();
    let count = ids.len();
    // A beat whose row is gone stays unwritten until it is known why.
    if !written.missing.is_empty() {
        let missing: HashSet<EntryId> = written.missing.iter().copied().collect();
        ids.retain(|id| !missing.contains(id));
    }
    leases.beats_written(&ids);
    Row::Written { count, missing: written.missing }
}
