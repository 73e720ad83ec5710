//! What flows through the pipeline: an entry, and a change of one.
//!
//! A leaf that every stage may import, like `clock.rs`: it does nothing and knows nobody.

mod held;
mod packed;

use std::{fmt, time::Duration};

use registry_wire::{
    Endpoint, HealthPath, InstanceId, Metadata, Output, Reason, ServiceName, Session, Status, Ttl,
};
use serde::{Deserialize, Serialize};

pub(crate) use self::packed::Texts;
pub use self::{
    held::{Entry, Life},
    packed::{Packed, Pair, push_quoted},
};

/// How long a session that has ended is remembered.
pub const ENDED_SESSION_MEMORY: Duration = Duration::from_hours(1);

/// Names one instance of one service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The service.
    pub service: ServiceName,
    /// The instance.
    pub instance: InstanceId,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.instance)
    }
}

/// The number of an entry in the store: new with every entry, never used again, the same through replacements.
pub type EntryId = i64;

/// The number of a change: one more than the change before it, the same on all nodes.
pub type Revision = i64;

/// A random number that each batch of changes is written with: another one at a revision that was read before says that
/// the store went back in time.
pub type Tag = i64;

/// An entry without its beats: what is stored, logged and fanned out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The service.
    pub service_name: ServiceName,
    /// The instance.
    pub instance_id: InstanceId,
    /// Where it answers.
    pub endpoint: Endpoint,
    /// Where it answers health checks.
    pub health_endpoint: HealthPath,
    /// What it says of itself.
    pub metadata: Metadata,
    /// The lease.
    pub ttl_seconds: Ttl,
    /// The process that registered it.
    pub session: Option<Session>,
    /// How its last health check went.
    pub status: Status,
    /// The text that came with the last change of status.
    pub output: Option<Output>,
    /// The operator's drain: survives registrations, ends by an undrain or with the entry.
    pub operator_drain: Option<Reason>,
    /// The session's own drain: ends with the session.
    pub session_drain: Option<Reason>,
    /// When this session registered, in Unix seconds of the node that took it. For people.
    pub registered_at: f64,
    /// The address that the registration came from.
    pub observed_address: Option<String>,
}

/// About how many bytes of text a client says of an instance.
pub fn text_bytes(
    endpoint: &Endpoint,
    health_endpoint: &HealthPath,
    metadata: &Metadata,
    output: Option<&Output>,
) -> usize {
    let metadata: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    let output = output.map_or(0, |output| output.as_str().len());
    endpoint.as_str().len() + health_endpoint.as_str().len() + metadata + output
}

impl Record {
    /// About how many bytes of text it holds.
    pub fn bytes(&self) -> usize {
        let Self { endpoint, health_endpoint, metadata, output, .. } = self;
        let reason = |reason: &Option<Reason>| reason.as_ref().map_or(0, |reason| reason.as_str().len());
        text_bytes(endpoint, health_endpoint, metadata, output.as_ref())
            + reason(&self.operator_drain)
            + reason(&self.session_drain)
    }

    /// Of which nothing is known but its name and address: passing, with the usual lease, registered in 1970.
    pub fn new(key: Key, endpoint: Endpoint) -> Self {
        Self {
            service_name: key.service,
            instance_id: key.instance,
            endpoint,
            health_endpoint: HealthPath::default(),
            metadata: Metadata::default(),
            ttl_seconds: Ttl::default(),
            session: None,
            status: Status::Passing,
            output: None,
            operator_drain: None,
            session_drain: None,
            registered_at: 0.0,
            observed_address: None,
        }
    }

    /// Its name.
    pub fn key(&self) -> Key {
        Key { service: self.service_name.clone(), instance: self.instance_id.clone() }
    }

    /// Listed, but not handed out.
    pub fn draining(&self) -> bool {
        self.operator_drain.is_some() || self.session_drain.is_some()
    }

    /// Why it drains; the operator's reason before the session's.
    pub fn drain_reason(&self) -> Option<&Reason> {
        self.operator_drain.as_ref().or(self.session_drain.as_ref())
    }

    /// Whether traffic may be sent there.
    pub fn usable(&self) -> bool {
        self.status.usable() && !self.draining()
    }
}

/// An entry as the store holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its number.
    pub id: EntryId,
    /// The change that made it what it is.
    pub revision: Revision,
    /// What it is.
    pub record: Record,
}

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A new entry.
    Register,
    /// The same key registered again.
    Replace,
    /// A beat brought another status.
    Status,
    /// Taken out of rotation.
    Drain,
    /// Put back into rotation.
    Undrain,
    /// Removed by a client.
    Deregister,
    /// Removed because its lease ended.
    Expire,
    /// Put back, because a beat was acknowledged while another node removed it.
    Revive,
    /// Too many instances are silent at once: none of them ends. Written at one of them, which it leaves as it is.
    Hold,
    /// Those that were held in vain are let go, one after the other. Written at one of them, as a hold is.
    Release,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Register,
        Self::Replace,
        Self::Status,
        Self::Drain,
        Self::Undrain,
        Self::Deregister,
        Self::Expire,
        Self::Revive,
        Self::Hold,
        Self::Release,
    ];

    /// The word in the log and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Replace => "replace",
            Self::Status => "status",
            Self::Drain => "drain",
            Self::Undrain => "undrain",
            Self::Deregister => "deregister",
            Self::Expire => "expire",
            Self::Revive => "revive",
            Self::Hold => "hold",
            Self::Release => "release",
        }
    }

    /// The kind that a word names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Whether the entry is gone after it.
    pub const fn removes(self) -> bool {
        matches!(self, Self::Deregister | Self::Expire)
    }

    /// Whether it counts the lease anew, as a beat does: one of that moment, or for a revival the one that it is owed to
    /// (see [`Body::waited_ms`]). An operator's drain does not: it says nothing of the instance.
    pub const fn beats(self) -> bool {
        matches!(self, Self::Register | Self::Replace | Self::Status | Self::Revive)
    }
}

/// Why an entry expired, for people.
pub fn expiry_reason(ttl: Ttl, held_for: Option<Duration>) -> String {
    let ttl = ttl.seconds();
    held_for.map_or_else(
        || format!("no heartbeat for {ttl} s"),
        |held| format!("no heartbeat for {ttl} s, and let go after a hold of {} s", held.as_secs()),
    )
}

/// What the change log keeps of a change, besides its columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// The entry after the change; before it, where the change removed it.
    #[serde(flatten)]
    pub record: Record,
    /// The session that this change ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_session: Option<Session>,
    /// Where the change removed the entry: its last beat, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<f64>,
    /// Where the change put the entry back: for how long the beat that this is owed to had waited when the change was
    /// sent to the store, in whole milliseconds, on the clock of the node that sent it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waited_ms: u64,
}

impl Body {
    /// Of a change that says nothing but what the entry is.
    pub const fn new(record: Record) -> Self {
        Self { record, ended_session: None, last_seen: None, waited_ms: 0 }
    }

    /// How old what the change says of the instance was when it was sent to the store. Zero but where it put it back.
    pub const fn waited(&self) -> Duration {
        Duration::from_millis(self.waited_ms)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A row of the change log.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its number.
    pub revision: Revision,
    /// Drawn anew for each batch. See [`Tag`].
    pub tag: Tag,
    /// The entry that it is about.
    pub id: EntryId,
    /// When it was committed, in Unix seconds of the store. For people.
    pub at: f64,
    /// What it did.
    pub kind: Kind,
    /// Why, for people.
    pub reason: Option<String>,
    /// Who asked for it: a client's address, after `NAME@` where its token names somebody; `None`: a node.
    pub actor: Option<String>,
    /// The entry, and what the change ended.
    pub body: Body,
}

impl Change {
    /// The entry's name.
    pub fn key(&self) -> Key {
        self.body.record.key()
    }
}
