use std::{collections::BTreeMap, time::Duration};

use tokio::sync::watch;

use super::{
    BeatRow, BeatsWritten, Committed, Keep, Loaded, LogPage, Mutation, Slice, Standing, Store, StoreError,
    StoreUrl, Writer, batch, postgres::Postgres, sqlite::Sqlite,
};
use crate::{
    entry::{Change, EntryId, Key, Revision, Tag},
    metrics::Breaker,
};

/// Passes a call on to the store that it is.
macro_rules! on {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Self::Postgres($store) => $call.await,
            Self::Sqlite($store) => $call.await,
        }
    };
}

/// Every call but [`Store::open`], [`Store::migrate`] and [`Store::load`] ends within [`super::CALL_DEADLINE`]. A
/// call that is dropped half-way, or that ran out of time, may be committed all the same.
impl Store {
    /// Opens a store. Postgres is not spoken to, as it may be down; a SQLite file is made if it is missing, and locked
    /// until [`Store::close`] or the end of the process.
    ///
    /// # Errors
    /// `Unusable`: a URL that names no store (parse it as a [`StoreUrl`] first to tell this apart); a file that
    /// another process uses, that cannot be opened or written, or that is no database.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_parsed(
            &url.parse().map_err(|error: super::UrlError| StoreError::Unusable(error.to_string()))?,
        )
        .await
    }

    /// Opens a store as [`Store::open`] does.
    pub async fn open_parsed(url: &StoreUrl) -> Result<Self, StoreError> {
        match url {
            StoreUrl::Postgres(hosts) => Ok(Self::Postgres(Postgres::new(hosts))),
            StoreUrl::Sqlite(options) => Ok(Self::Sqlite(Sqlite::open(options).await?)),
        }
    }

    /// The breaker before the store. That of a file keeps no call from being made, and is open after one that failed.
    pub fn breaker(&self) -> watch::Receiver<Breaker> {
        match self {
            Self::Postgres(store) => store.breaker(),
            Self::Sqlite(store) => store.breaker(),
        }
    }

    /// Brings the tables up to this version. Safe when several nodes do it at once. Tables of a later version are left
    /// as they are: migrations only add, so that an older node runs on them.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        on!(self, store => store.migrate())
    }

    /// What the store knows of these keys, in their order.
    pub async fn read(&self, keys: &[Key]) -> Result<Vec<Standing>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        on!(self, store => store.read(keys))
    }

    /// Writes a batch in one transaction: all of it, but for expiries whose instance has beaten, or nothing.
    ///
    /// A batch holds a key once; an entry that is changed or removed comes with the revision expected, an expiry with
    /// the beat noted.
    pub async fn commit(&self, batch: &[Mutation]) -> Result<Committed, StoreError> {
        batch::check(batch)?;
        if batch.is_empty() {
            return Ok(Committed::Done(Vec::new()));
        }
        on!(self, store => store.commit(batch))
    }

    /// Writes one tick's beats: row `seq` of this writer, empty or not. The youngest of them has `waited` for so long.
    /// SQLite keeps no log of beats and writes nothing for an empty batch.
    pub async fn write_beats(
        &self,
        writer: Writer,
        seq: i64,
        ids: &[EntryId],
        waited: Duration,
    ) -> Result<BeatsWritten, StoreError> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        on!(self, store => store.write_beats(writer, seq, ids, waited))
    }

    /// Rows of the beat log after these cursors, and all rows of writers that have none, by writer and number.
    /// [`Store::BEATS_PAGE`] rows at most: with so many, move the cursors and ask again. A writer whose last row lies
    /// before its cursor is told by a row with that number; see [`BeatRow`]. Rows of the writer `own` come without their
    /// beats, which it knows.
    pub async fn beats_after(
        &self,
        cursors: &BTreeMap<Writer, i64>,
        own: Writer,
    ) -> Result<Vec<BeatRow>, StoreError> {
        match self {
            Self::Postgres(store) => store.beats_after(cursors, own).await,
            Self::Sqlite(_) => Ok(Vec::new()),
        }
    }

    /// The most rows that [`Store::beats_after`] gives.
    pub const BEATS_PAGE: usize = 256;

    /// The change log after a revision, `limit` rows at most, and whether it is still the one that was read before. Of
    /// a change whose tag is `known`, but for an expiry, only the number comes: see [`super::LogRow::Known`].
    pub async fn changes_after(
        &self,
        after: Revision,
        limit: usize,
        known: &[Tag],
    ) -> Result<LogPage, StoreError> {
        on!(self, store => store.changes_after(after, limit, known))
    }

    /// Brings the revision above every one that this process was told of, where the store went back in time. Every
    /// [`Store::commit`] does so by itself; a node that is about to load again does it before. A node that knows of a
    /// loss (`lost`) brings it further in any case, as other changes may have come as far again as those that it saw.
    pub async fn begin_epoch(&self, lost: bool) -> Result<(), StoreError> {
        match self {
            Self::Postgres(store) => store.begin_epoch(lost).await,
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// How often each of these entries has beaten by now; those without a lease are left out.
    pub async fn note_beats(&self, ids: &[EntryId]) -> Result<Vec<(EntryId, i64)>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        on!(self, store => store.note_beats(ids))
    }

    /// The changes by which any of these entries expired, in their order.
    pub async fn expired(&self, ids: &[EntryId]) -> Result<Vec<Change>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        on!(self, store => store.expired(ids))
    }

    /// Reads a part of the table of entries, `limit` at most. Of a store that is not shared, nothing: nobody but this
    /// process writes to it.
    pub async fn slice(&self, after: Option<Key>, limit: usize) -> Result<Option<Slice>, StoreError> {
        match self {
            Self::Postgres(store) => store.slice(after, limit).await.map(Some),
            Self::Sqlite(_) => Ok(None),
        }
    }

    /// Reads everything in one snapshot. Ends within a minute, and within 5 s of the last row read.
    pub async fn load(&self) -> Result<Loaded, StoreError> {
        on!(self, store => store.load())
    }

    /// Removes what nobody needs: beats of this writer and changes beyond `keep`, everything of writers that have
    /// been silent for [`super::WRITER_MEMORY`], sessions that ended longer ago than
    /// [`super::ENDED_SESSION_MEMORY`]. A bounded number of rows at a time: gives how many, ask again until none.
    pub async fn trim(&self, writer: Writer, keep: Keep) -> Result<u64, StoreError> {
        on!(self, store => store.trim(writer, keep))
    }

    /// Waits for the calls under way, then closes the connections; what is not done by the deadline is cut off. Every
    /// later call is `Unavailable`.
    pub async fn close(&self, deadline: Duration) {
        on!(self, store => store.close(deadline));
    }
}
