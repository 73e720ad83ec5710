use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{info, warn};

use super::Applier;
use crate::{
    clock::{self, Moment},
    lease::{Leases, Looks},
    metrics::Metrics,
    store::{Store, StoreError, Writer},
};

/// Rows of the change log read in one call.
const CHANGES_PAGE: usize = 1000;

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

/// Why a read came to nothing.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Gap(#[from] super::apply::Gap),
}

impl Follower {
    /// Loads everything, then follows the logs until the process ends.
    ///
    /// # Errors
    /// The store is unusable, which takes a person to mend.
    pub async fn run(mut self) -> Result<(), StoreError> {
        self.load_with_retry().await?;
        let mut tick = interval(self.tick);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failed = false;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.looks.asked() => {}
                Ok(()) = self.own_row.changed() => {}
            }
            match self.read().await {
                Ok(()) if failed => {
                    failed = false;
                    info!("the store is read again");
                }
                Ok(()) => {}
                Err(ReadError::Store(error)) => {
                    failed = true;
                    warn!(%error, "the logs could not be read; answers grow old until they can");
                }
                Err(ReadError::Gap(gap)) => {
                    warn!(%gap, "rows of a log were trimmed before they were read; everything is loaded again");
                    self.load_with_retry().await?;
                }
            }
            sleep(READ_PAUSE).await;
        }
    }

    async fn load_with_retry(&mut self) -> Result<(), StoreError> {
        loop {
            match self.load().await {
                Ok(()) => return Ok(()),
                Err(error @ StoreError::Unusable(_)) => return Err(error),
                Err(error) => {
                    warn!(%error, "not loaded yet; tried again in {} ms", self.tick.as_millis());
                    sleep(self.tick).await;
                }
            }
        }
    }

    async fn load(&self) -> Result<(), StoreError> {
        let before = clock::now();
        let migrated = self.store.migrate().await;
        self.metrics.store_call("migrate", migrated.is_ok());
        migrated?;
        let loaded = self.store.load().await;
        self.metrics.store_call("load", loaded.is_ok());
        let loaded = loaded?;
        info!(entries = loaded.entries.len(), revision = loaded.head, "loaded");
        self.applier.load(loaded);
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
            // The own row was read back, so everything that was committed before it was written has been applied.
            if self.applier.beat_cursors().get(&self.writer).is_some_and(|seq| *seq >= own_seq) {
                self.see(before_own_row);
            }
        } else {
            self.see(begun);
        }
        self.looks.done(begun);
        Ok(())
    }

    /// Beats before changes: a beat of an entry that is not known yet is made up for by its registration, which then
    /// is among the changes, while a change that is overlooked could end a lease that was renewed.
    async fn read_logs(&self) -> Result<(), ReadError> {
        loop {
            let rows = self.store.beats_after(&self.applier.beat_cursors()).await?;
            if rows.is_empty() {
                break;
            }
            self.applier.beat_rows(&rows, self.writer)?;
        }
        loop {
            let changes = self.store.changes_after(self.applier.cursor(), CHANGES_PAGE).await?;
            self.applier.log_rows(&changes)?;
            if changes.len() < CHANGES_PAGE {
                return Ok(());
            }
        }
    }

    fn see(&self, seen: Moment) {
        if self.leases.advance_sight(seen, clock::now()) {
            info!("this node sees its store; every lease counts anew");
        }
    }
}
