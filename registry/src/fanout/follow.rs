use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{error, info, warn};

use super::{
    Applier,
    compare::{Place, Rounds},
    history::Broken,
};
use crate::{
    clock::{self, Moment},
    lease::{Leases, Looks},
    metrics::{Breaker, Metrics, Resync},
    store::{CALL_DEADLINE, LogRow, Store, StoreError, Writer},
};

/// Rows of the change log read in one call.
const CHANGES_PAGE: usize = 1000;

/// Entries compared with the table in one tick.
const SLICE: usize = 1000;

/// The shortest time between two reads, so that a flood of questions costs a bounded number of them.
const READ_PAUSE: Duration = Duration::from_millis(5);

/// Reads both logs to their ends: every tick, after each of this node's own rows, and when a call waits for a look.
pub struct Follower {
    /// The store.
    pub store: Arc<Store>,
    /// What is read goes here.
    pub applier: Arc<Applier>,
    /// Whose sight moves.
    pub leases: Arc<Leases>,
    /// This process run, in the beat log.
    pub writer: Writer,
    /// How often to read at least.
    pub tick: Duration,
    /// The last row that this node wrote, and the moment before.
    pub own_row: watch::Receiver<(i64, Moment)>,
    /// Who waits for a look.
    pub looks: Looks,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// Which load it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// The first: nothing is known, so nothing can be lost.
    Start,
    /// This node fell behind: the log goes on, but rows before that were trimmed.
    Behind,
    /// The store went back in time, and no epoch was begun since.
    Lost,
}

/// Why a read came to nothing.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broken(#[from] Broken),
}

impl Follower {
    /// Loads everything, then follows the logs until the process ends.
    ///
    /// # Errors
    /// The store is unusable, which takes a person to mend.
    pub async fn run(mut self) -> Result<(), StoreError> {
        self.load_with_retry(Load::Start).await?;
        let mut tick = interval(self.tick);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut failed, mut rounds) = (false, Rounds::default());
        loop {
            let mut slice_due = false;
            tokio::select! {
                _ = tick.tick() => slice_due = true,
                () = self.looks.asked() => {}
                Ok(()) = self.own_row.changed() => {}
            }
            let read = match self.read().await {
                Ok(()) if slice_due => self.compare(&mut rounds).await,
                other => other,
            };
            match read {
                Ok(()) if failed => {
                    failed = false;
                    info!("the store is read again");
                }
                Ok(()) => {}
                Err(ReadError::Store(error)) => {
                    failed = true;
                    rounds.give_up();
                    warn!(%error, "the logs could not be read; answers grow old until they can");
                    self.migrate_if_it_answers().await;
                }
                Err(ReadError::Broken(broken)) => {
                    // Before anything else: from now on this node does not know.
                    self.leases.lose_sight(clock::now());
                    let (reason, load) = match broken {
                        Broken::Lost(_) => (Resync::Lost, Load::Lost),
                        Broken::Trimmed { .. } => (Resync::Trimmed, Load::Behind),
                    };
                    self.metrics.resync(reason);
                    error!(reason = %broken, "blind: a log does not go on where it was read to; everything is loaded again");
                    rounds.give_up();
                    self.load_with_retry(load).await?;
                }
            }
            sleep(READ_PAUSE).await;
        }
    }

    async fn load_with_retry(&mut self, mut which: Load) -> Result<(), StoreError> {
        loop {
            match self.load(&mut which).await {
                Ok(()) => return Ok(()),
                Err(error @ StoreError::Unusable(_)) => return Err(error),
                Err(error) => {
                    warn!(%error, "not loaded yet; tried again in {} ms", self.tick.as_millis());
                    sleep(self.tick).await;
                }
            }
        }
    }

    /// A server that answers and does not let itself be read may have lost the tables themselves: a database that was
    /// made anew. Once they are there, the next read tells that history was lost.
    async fn migrate_if_it_answers(&self) {
        if *self.store.breaker().borrow() == Breaker::Closed
            && let Err(error) = self.migrate().await
        {
            warn!(%error, "the tables could not be looked after");
        }
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let migrated = self.store.migrate().await;
        self.metrics.store_call("migrate", migrated.is_ok());
        migrated
    }

    async fn load(&self, which: &mut Load) -> Result<(), StoreError> {
        let before = clock::now();
        self.migrate().await?;
        if *which != Load::Start {
            // Before it is loaded: no revision that this node has shown is given to another change from then on.
            let begun = self.store.begin_epoch(*which == Load::Lost).await;
            self.metrics.store_call("epoch", begun.is_ok());
            begun?;
            // One loss is one epoch, however often what follows is tried.
            *which = Load::Behind;
        }
        let loaded = self.store.load().await;
        self.metrics.store_call("load", loaded.is_ok());
        let loaded = loaded?;
        info!(entries = loaded.entries.len(), revision = loaded.head, "loaded");
        self.applier.load(loaded, clock::now());
        if !self.store.is_shared() {
            self.leases.advance_sight(clock::now(), clock::now());
        } else if !self.leases.sighting(clock::now()).loaded {
            // Writing is not proved yet, but what was read is whole: sight begins when the reading began.
            self.leases.advance_sight(before, clock::now());
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), ReadError> {
        let begun = clock::now();
        if self.store.is_shared() {
            let (own_seq, before_own_row) = *self.own_row.borrow_and_update();
            let read = self.read_logs().await;
            self.metrics.store_call("read", !matches!(read, Err(ReadError::Store(_))));
            read?;
            if self.applier.has_read(self.writer, own_seq) {
                self.see(before_own_row);
            }
        } else {
            // Nobody else writes, so there is nothing that this node could miss. But a commit of its own may have been
            // answered too late to be believed: here it is heard of.
            self.see(begun);
            let read = self.read_all_changes().await;
            self.metrics.store_call("read", !matches!(read, Err(ReadError::Store(_))));
            read?;
        }
        self.applier.end_orphans(&self.leases.sighting(clock::now()));
        self.looks.done(begun);
        Ok(())
    }

    /// Beats before changes: a beat of an entry that is not known yet is made up for by its registration, which then
    /// is among the changes, while a change that is overlooked could end a lease that was renewed.
    async fn read_logs(&self) -> Result<(), ReadError> {
        loop {
            let begun = clock::now();
            let rows = self.store.beats_after(&self.applier.beat_cursors(), self.writer).await?;
            if rows.is_empty() {
                break;
            }
            if let Err(broken) = self.applier.beat_rows(&rows, self.writer, read_at(begun, clock::now())) {
                // Beats that were lost with the rows before them look like beats that were trimmed; changes tell.
                self.read_changes().await?;
                return Err(broken.into());
            }
        }
        self.read_all_changes().await
    }

    async fn read_all_changes(&self) -> Result<(), ReadError> {
        while self.read_changes().await? == CHANGES_PAGE {}
        Ok(())
    }

    /// Reads one page of the change log, applies it and gives the number of its rows.
    async fn read_changes(&self) -> Result<usize, ReadError> {
        let begun = clock::now();
        let known = self.applier.known(CHANGES_PAGE);
        let page = self.store.changes_after(self.applier.cursor(), CHANGES_PAGE, &known).await?;
        self.applier.log_page(&page, read_at(begun, clock::now()))?;
        for row in &page.rows {
            if let LogRow::Unknown { revision, kind, .. } = row {
                warn!(revision, kind, "a change of a kind that a later version wrote is passed over");
            }
        }
        Ok(page.rows.len())
    }

    /// Compares the next slice of the table with what this node holds. Nothing differs unless there is a fault: in this
    /// program, or because somebody wrote into the table and not into the log.
    async fn compare(&self, rounds: &mut Rounds) -> Result<(), ReadError> {
        let Some(Place(after)) = rounds.tick() else { return Ok(()) };
        let read = self.store.slice(after, SLICE).await;
        self.metrics.store_call("slice", read.is_ok());
        let Some(slice) = read? else { return Ok(()) };
        // Up to the slice's head at least: what is not read yet is no difference.
        self.read_logs().await?;
        if rounds.done(&slice) {
            self.metrics.compare_round();
        }
        for (instance, difference) in self.applier.mend(slice, clock::now()) {
            self.metrics.compare_mended(difference);
            error!(%instance, difference = difference.as_str(), "this node's entry was not the table's; mended");
        }
        Ok(())
    }

    fn see(&self, seen: Moment) {
        if self.leases.advance_sight(seen, clock::now()) {
            info!("this node sees its store; every lease counts anew");
        }
    }
}

/// When rows were read that were asked for at `begun` and are looked at `now`: a process that was paused in between finds
/// an old answer, and what it says is not new. A call takes no longer than its deadline; what a longer pause may cut from
/// a lease, the full TTL after blindness gives back.
fn read_at(begun: Moment, now: Moment) -> Moment {
    now.min(begun.plus(CALL_DEADLINE))
}

#[cfg(test)]
mod tests;
