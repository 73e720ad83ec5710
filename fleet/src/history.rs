//! What was asked, when, and what came of it; and when a scenario did harm.
//!
//! In: operations as they end, marks of faults.
//! Owns: all of it, in memory, up to a limit.
//! Out: a [`History`] for the judge, for figures, and as JSON lines.

mod lines;
mod record;

use std::time::Duration;

use registry_wire::Ttl;
use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Instance};
pub use lines::LinesError;
pub use record::{FaultId, Recorder};

/// A moment of a run: microseconds since it began, on the monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct At(u64);

impl At {
    /// The moment this long after the run began.
    pub fn from_start(since_start: Duration) -> Self {
        Self(u64::try_from(since_start.as_micros()).unwrap_or(u64::MAX))
    }

    /// The end of time.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment this much later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(Self::from_start(duration).0))
    }

    /// The moment this much earlier, and the beginning at the earliest.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(Self::from_start(duration).0))
    }

    /// How long after `earlier` it is; zero when it is not after.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Seconds with milliseconds.
impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03} s", self.0 / 1_000_000, self.0 / 1000 % 1000)
    }
}

/// What a sidecar asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// A registration.
    Register,
    /// A heartbeat.
    Beat,
    /// A drain.
    Drain,
    /// A deregistration.
    Deregister,
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was carried out.
    Acknowledged,
    /// 404 in the registry's own words.
    NotThere,
    /// 409: the session has ended.
    Superseded,
    /// A client error: nothing was changed.
    Refused,
    /// No answer, 503, or an answer that is none of a registry's: it may have been carried out.
    Maybe,
    /// Nobody waited for the answer, as the sidecar was killed or paused: it may have been carried out.
    CutShort,
}

/// A call of a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// What it asked for.
    pub act: Act,
    /// For which instance.
    pub instance: Instance,
    /// Which session of the instance, counted from 1.
    pub session: u32,
    /// Whether it said that the service is usable (`passing` or `warning`).
    pub usable: bool,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a reader asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// `GET /services`; its list holds numbers of services.
    Services,
    /// `GET /instances`, all pages.
    Instances,
    /// `GET /services/{service}`.
    Service {
        /// Which.
        service: u32,
        /// `?all=true`.
        all: bool,
    },
    /// `GET /services/{service}/instances/{instance}`.
    Instance {
        /// Which.
        instance: Instance,
    },
    /// The same for an instance that never was: 404 from a node that sees, 503 from a blind one.
    Nobody,
}

/// One entry of a list: the number of an instance (or service) and its flags, in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listed(u32);

impl Listed {
    const STALE: u32 = 1 << 31;
    const DRAINING: u32 = 1 << 30;
    const CRITICAL: u32 = 1 << 29;
    /// Numbers are below this.
    pub const LIMIT: u32 = 1 << 29;

    /// An entry without flags.
    pub const fn new(number: u32) -> Self {
        Self(number & (Self::LIMIT - 1))
    }

    /// With its flags.
    #[must_use]
    pub const fn flags(self, stale: bool, draining: bool, critical: bool) -> Self {
        let mut value = self.0;
        if stale {
            value |= Self::STALE;
        }
        if draining {
            value |= Self::DRAINING;
        }
        if critical {
            value |= Self::CRITICAL;
        }
        Self(value)
    }

    /// Which instance (or service).
    pub const fn number(self) -> u32 {
        self.0 & (Self::LIMIT - 1)
    }

    /// Nobody has heard of it for a TTL.
    pub const fn stale(self) -> bool {
        self.0 & Self::STALE != 0
    }

    /// Not handed out.
    pub const fn draining(self) -> bool {
        self.0 & Self::DRAINING != 0
    }

    /// Its status is critical.
    pub const fn critical(self) -> bool {
        self.0 & Self::CRITICAL != 0
    }
}

/// What a read came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// 200: those of this run, in the order of their numbers.
    List(Box<[Listed]>),
    /// 404 in the registry's own words.
    NotThere,
    /// Anything else: it says nothing about an entry.
    Nothing,
}

/// Entries of a list that are not of this run: the judge says nothing about them, but the registry counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Others {
    /// How many there are.
    pub listed: u32,
    /// How many of them are stale.
    pub stale: u32,
}

/// A call of a reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// What it asked for.
    pub subject: Subject,
    /// Seconds since the node's sight, rounded down, as `Age` says.
    pub age: u32,
    /// In a list of everything: what is not of this run.
    #[serde(default)]
    pub others: Others,
    /// What came of it.
    pub answer: Answer,
}

/// What an operation was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A sidecar's call.
    Write(Write),
    /// A reader's call.
    Read(Read),
}

/// One call, from its start to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Just before it was sent.
    pub start: At,
    /// When its answer was read, or it was given up.
    pub end: At,
    /// Which registry URL, by its place in [`Header::targets`].
    pub target: u8,
    /// The HTTP status; 0 without an answer.
    pub status: u16,
    /// What it was.
    pub what: What,
}

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A node is killed, paused or cut off from the store: beats that it acknowledged a moment before may be lost, and
    /// when it is back it gives every lease a full TTL.
    Node(u8),
    /// No node sees: the store is away for all of them, or none runs. No lease can end meanwhile, and afterwards each
    /// has a full TTL.
    Store,
    /// The store has lost data: what is read until it is whole again is left out of the verdicts.
    StoreLost,
}

/// A fault of a scenario. Four moments, because what counts against the registry must be certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What it does.
    pub kind: FaultKind,
    /// Before it was applied.
    pub began: At,
    /// When it held for sure. Never: it excuses, but proves nothing.
    pub held: Option<At>,
    /// Before it was lifted. Never: it lasts to the end.
    pub lifting: Option<At>,
    /// When everything was seen to be ready again.
    pub over: Option<At>,
}

/// A registry URL of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The URL, without credentials.
    pub url: String,
    /// The node; `None` for a balancer.
    pub node: Option<u8>,
}

/// What the judge must know of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The names.
    pub catalog: Catalog,
    /// The registry's URLs.
    pub targets: Vec<Place>,
    /// The lease of every instance.
    pub ttl: Ttl,
    /// The tick of the registry's nodes.
    pub tick: Duration,
    /// The seed of the run.
    pub seed: u64,
}

/// A run, at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// About the run.
    pub header: Header,
    /// Every call, in the order in which they ended.
    pub operations: Vec<Operation>,
    /// Every fault, in the order in which they began.
    pub faults: Vec<Fault>,
    /// When the history was full: nothing that ended later is in it.
    pub full: Option<At>,
    /// Calls that were given up before they were sent, because too many others were under way: the load was less than
    /// it was to be.
    pub unsent: usize,
}

#[cfg(test)]
mod tests;
