//! Who is alive: beats are acknowledged here, from memory, and everything that changes membership is handed on.
//!
//! In: calls from `http`; changes and foreign beats from `fanout`.
//! Owns: each lease's session, status, TTL and last beat; which beats are not written yet; which leases have ended, and
//! the brake that holds them while too many are silent; how many entries there may be, and changes that wait.
//! Out: acknowledgements to `http`; [`Submission`]s, batches of beats and ended leases to `flush`.

mod bounds;
mod brake;
mod core;
mod expiry;
mod handle;
mod look;
mod sessions;
mod table;

pub use self::{
    bounds::{Bounds, Cap, Count, Counts, Room},
    brake::{BrakeEvent, Census, Notice},
    core::{Beats, Core, Heard},
    expiry::Ended,
    handle::{Caller, Leases, Refusal},
    look::{Look, Looks},
};
#[cfg(test)]
pub(crate) use self::{handle::COMMIT_DEADLINE, look::DEADLINE as LOOK_DEADLINE};

use std::time::Duration;

use registry_wire::{Endpoint, HealthPath, Metadata, Output, Reason, Session, Status, Ttl};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    clock::Moment,
    entry::{EntryId, Key, Record, text_bytes},
};

/// A registration with everything that the registry adds to what the client sent.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Where the instance answers.
    pub endpoint: Endpoint,
    /// Where it answers health checks.
    pub health_endpoint: HealthPath,
    /// What it says of itself.
    pub metadata: Metadata,
    /// The lease.
    pub ttl: Ttl,
    /// The process that registers.
    pub session: Option<Session>,
    /// How its health check went.
    pub status: Status,
    /// The health check's text.
    pub output: Option<Output>,
    /// When the call came, in Unix seconds.
    pub at: f64,
    /// The address that it came from.
    pub observed_address: Option<String>,
    /// The lease of the entry that is there had ended when the call came: it counts as gone.
    pub lease_ended: bool,
}

/// A change of membership that is asked for. It is decided on what the store holds when it is committed.
#[derive(Clone, Debug)]
pub enum Write {
    /// Make or replace an entry.
    Register(Box<Registration>),
    /// A beat brought another status.
    Status {
        /// The process that beats.
        session: Option<Session>,
        /// The new status.
        status: Status,
        /// Its text.
        output: Option<Output>,
    },
    /// Take an instance out of rotation.
    Drain {
        /// The process whose own drain it is; `None`: the operator's.
        session: Option<Session>,
        /// Why.
        reason: Reason,
    },
    /// Put it back.
    Undrain {
        /// End this session's own drain alone; `None`: whatever drain there is.
        session: Option<Session>,
    },
    /// Remove it.
    Deregister {
        /// The process that leaves; `None`: whatever is there.
        session: Option<Session>,
        /// The last beat, in Unix seconds.
        last_seen: Option<f64>,
    },
    /// Remove it because its lease has ended.
    Expire {
        /// The entry.
        id: EntryId,
        /// Its beats in the store when the lease ended.
        noted_beat: i64,
        /// The last beat, in Unix seconds.
        last_seen: f64,
        /// For how long it was held, if it was.
        held_for: Option<Duration>,
    },
    /// The brake on mass death: a row that says so, and leaves the entry as it is.
    Brake {
        /// `true`: too many are silent for any of them to end. `false`: held ones are let go.
        hold: bool,
        /// In words.
        reason: String,
    },
    /// Put it back: a beat was acknowledged while its row was removed as expired.
    Revive {
        /// What was removed.
        record: Box<Record>,
        /// When that beat was acknowledged here.
        beaten: Moment,
    },
}

impl Write {
    /// About how many bytes a client sent with it.
    fn bytes(&self) -> usize {
        match self {
            Self::Register(registration) => {
                let Registration { endpoint, health_endpoint, metadata, output, .. } = registration.as_ref();
                text_bytes(endpoint, health_endpoint, metadata, output.as_ref())
            }
            // At most a session and a reason.
            _ => 0,
        }
    }
}

/// What became of a [`Write`].
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Committed, and to be seen in this node's answers.
    Done {
        /// The entry after it; before it, where it was removed.
        record: Box<Record>,
        /// There was no such entry, or its lease had ended.
        new: bool,
    },
    /// There is no such entry (or, for an expiry, it has beaten since).
    Unknown,
    /// The session that the call named has ended.
    Superseded,
    /// It would add an entry, and there is a cap.
    Full(Cap),
    /// The store did not take it; it may still have been committed. In words for the log.
    Unavailable(String),
}

/// A [`Write`] on its way to the store.
#[derive(Debug)]
pub struct Submission {
    /// The entry.
    pub key: Key,
    /// What is asked for.
    pub write: Write,
    /// Who asks: an address, or the node itself.
    pub actor: Option<String>,
    /// Where the outcome goes. Closed: nobody waits any more, and nothing was promised.
    pub reply: oneshot::Sender<Outcome>,
    /// Its places in the queue of changes that clients ask for. The node's own changes, and those of status that beats
    /// bring, have none: they are bounded by the entries that there are.
    pub place: Option<OwnedSemaphorePermit>,
}
