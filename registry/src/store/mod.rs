//! The truth: entries, leases, the change log and the beat log, in Postgres or in SQLite.
//!
//! In: batches of mutations and beats from `flush`, cursors from `fanout`.
//! Owns: the tables, the revision, every SQL statement, the deadline of every call.
//! Out: committed changes with gapless revisions, and the logs for every node to read.

mod batch;
mod breaker;
mod calls;
mod postgres;
mod rows;
mod sqlite;
mod url;

use std::{collections::BTreeMap, time::Duration};

use registry_wire::Session;

pub use url::{Hosts, StoreUrl, UrlError};

pub use crate::entry::ENDED_SESSION_MEMORY;
use crate::entry::{Body, Change, EntryId, Key, Kind, Packed, Revision, Stored, Tag};

/// How long one call may take, waiting for a connection included. Loading everything at start has a deadline of its
/// own for each slice that it reads.
pub const CALL_DEADLINE: Duration = Duration::from_millis(600);

/// How long a removed entry is remembered, for the answer that says why it is gone.
pub const GONE_MEMORY: Duration = Duration::from_hours(24);

/// How many ended sessions are loaded at start, those that ended last. A registration by an older one is refused all the
/// same: that is decided in the store.
pub const ENDED_SESSIONS_LOADED: i64 = 1_000_000;

/// How many removed entries are remembered.
pub const GONE_MAX: usize = 10_000;

/// How long a writer of beats is remembered after its last row.
pub const WRITER_MEMORY: Duration = Duration::from_hours(1);

/// A process run of a node, as the beat log knows it: a random number, never the node's name.
pub type Writer = i64;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Out of reach, too slow, locked, full or read-only: may work again later. What the call wrote may have been
    /// committed all the same.
    #[error("the store is out of reach: {0}")]
    Unavailable(String),
    /// Will not work again without a person: a second process on a SQLite file, migrations that were changed, a
    /// file or directory that cannot be opened or written.
    #[error("{0}")]
    Unusable(String),
}

/// A change of one entry that is to be committed, decided on what [`Store::read`] showed.
#[derive(Clone, Debug)]
pub struct Mutation {
    /// What it does.
    pub kind: Kind,
    /// The entry after it (before it, where it removes), the session that it ends, the last beat of a removed entry.
    pub body: Body,
    /// The revision of the entry that the decision was made on; `None`: there was no entry.
    pub expected: Option<Revision>,
    /// The session that the call named: it must not have ended by the time of the commit.
    pub named_session: Option<Session>,
    /// For [`Kind::Expire`] alone: the beat count that [`Store::note_beats`] gave when the lease ended.
    pub noted_beat: Option<i64>,
    /// Why, for people.
    pub reason: Option<String>,
    /// Who asked for it.
    pub actor: Option<String>,
}

/// What became of a batch of mutations.
#[derive(Clone, Debug, PartialEq)]
pub enum Committed {
    /// All of it is in the store, but for expiries whose instance has beaten since: a change or `None` for each
    /// mutation, in the order given.
    Done(Vec<Option<Change>>),
    /// Nothing was written: the mutations at these places were decided on an entry that has changed since, or name a
    /// session that has ended since.
    Conflict(Vec<usize>),
}

/// What the store knows of a key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// The entry, if there is one.
    pub entry: Option<Stored>,
    /// The sessions of this key that have ended within [`ENDED_SESSION_MEMORY`].
    pub ended_sessions: Vec<Session>,
}

/// An entry as it is loaded at start.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedEntry {
    /// Its number.
    pub id: EntryId,
    /// The change that made it what it is.
    pub revision: Revision,
    /// What it is.
    pub record: Packed,
    /// How long ago its last beat was written, by the store's clock; never negative.
    pub since_beat: Duration,
    /// Whether it was renewed since its registration, by a beat or another registration.
    pub renewed: bool,
    /// Its ended sessions, as [`Standing::ended_sessions`].
    pub ended_sessions: Vec<Session>,
}

impl LoadedEntry {
    /// The entry as the other calls give it.
    pub fn stored(&self) -> Stored {
        Stored { id: self.id, revision: self.revision, record: self.record.record() }
    }
}

/// A row of the change log.
#[derive(Clone, Debug, PartialEq)]
pub enum LogRow {
    /// A change of an entry.
    Change(Box<Change>),
    /// A change that the reader said it knew. Never an expiry: whoever committed one may have passed it over, for an
    /// acknowledged beat that was not written yet, and reads it again.
    Known {
        /// Its number.
        revision: Revision,
        /// Its tag.
        tag: Tag,
    },
    /// The store had gone back in time, and the revision jumps over all that a node had seen: the one gap in the log.
    Epoch {
        /// Its number.
        revision: Revision,
        /// Its tag.
        tag: Tag,
    },
    /// A kind that a later version wrote. Passed over: should it have changed an entry, the compare makes up for it.
    Unknown {
        /// Its number.
        revision: Revision,
        /// Its tag.
        tag: Tag,
        /// The word that stands there.
        kind: String,
    },
}

impl LogRow {
    /// Its number.
    pub const fn revision(&self) -> Revision {
        match self {
            Self::Change(change) => change.revision,
            Self::Known { revision, .. } | Self::Epoch { revision, .. } | Self::Unknown { revision, .. } => {
                *revision
            }
        }
    }

    /// Its tag.
    pub const fn tag(&self) -> Tag {
        match self {
            Self::Change(change) => change.tag,
            Self::Known { tag, .. } | Self::Epoch { tag, .. } | Self::Unknown { tag, .. } => *tag,
        }
    }
}

/// The change log from a cursor on, and what tells whether it is still the log that the cursor was moved along: all
/// of one snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogPage {
    /// The last revision; `None`: the row that holds it is gone.
    pub head: Option<Revision>,
    /// The oldest row that is kept.
    pub first: Option<Revision>,
    /// The tag of the row at the cursor; `None`: there is no such row.
    pub cursor_tag: Option<Tag>,
    /// The rows after the cursor, in their order.
    pub rows: Vec<LogRow>,
    /// The last revision that this process had been told of when it asked.
    pub seen: Revision,
}

/// A part of the table of entries, in order of service and instance, read in one snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// The last revision.
    pub head: Revision,
    /// What it begins after; `None`: with the first entry.
    pub after: Option<Key>,
    /// Every entry from there on, up to the last one here.
    pub entries: Vec<Stored>,
    /// Nothing comes after it.
    pub last: bool,
}

/// Everything that a node needs at start, read in one snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// The last revision: the cursor into the change log from which to go on.
    pub head: Revision,
    /// The tag of that row; `None`: there is none.
    pub head_tag: Option<Tag>,
    /// Every entry.
    pub entries: Vec<LoadedEntry>,
    /// The removals of the last [`GONE_MEMORY`], oldest first, [`GONE_MAX`] at most.
    pub gone: Vec<Change>,
    /// The sessions that have ended of keys that hold no entry, as [`Standing::ended_sessions`].
    pub past_sessions: Vec<(Key, Vec<Session>)>,
    /// The last row of each writer: the cursors into the beat log.
    pub cursors: BTreeMap<Writer, i64>,
}

/// What became of a batch of beats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BeatsWritten {
    /// The row of this number was there already, from a call whose end was not known: *its* beats are in the store,
    /// the ones of this call are not.
    pub repeated: bool,
    /// The ids that have no lease row any more.
    pub missing: Vec<EntryId>,
}

/// A row of the beat log.
///
/// A row of a number below the cursor that was asked with holds nothing but bad news: this is now the last row of its
/// writer, so the store went back in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeatRow {
    /// Who wrote it.
    pub writer: Writer,
    /// Its number: one more than this writer's row before it, from 1.
    pub seq: i64,
    /// The entries that beat. None in a row of the reader's own.
    pub ids: Vec<EntryId>,
    /// For how long the youngest of these beats had waited when the row was sent to the store: no beat of it is younger
    /// than the row by less. Whole milliseconds.
    pub waited: Duration,
    /// How many rows of this writer there were after it when it was read, on this page or not.
    pub later: u64,
}

/// What [`Store::trim`] leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Rows of this writer's beats: a node that was away for longer resyncs whole.
    pub beats: u32,
    /// Beats in them: a node that missed more of them loads everything in less time than it would read them in.
    pub beats_in_all: u32,
    /// Changes: likewise, and the history that people see.
    pub changes: u32,
}

impl Default for Keep {
    /// 900 rows of beats (a quarter of an hour at a tick of 1 s), or 2,000,000 beats; 1,000,000 changes.
    fn default() -> Self {
        Self { beats: 900, beats_in_all: 2_000_000, changes: 1_000_000 }
    }
}

/// The store, whichever it is.
#[derive(Debug)]
pub enum Store {
    /// Shared by all nodes.
    Postgres(postgres::Postgres),
    /// This process's own file.
    Sqlite(sqlite::Sqlite),
}

impl Store {
    /// Whether other nodes may write to it as well.
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }
}
