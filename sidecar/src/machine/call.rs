use std::{sync::Arc, time::Duration};

use registry_wire::{Metadata, Output, Reason, Session, Status};

use super::Text;

/// A call to a registry.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Which registry URL, counted from 0.
    pub registry: usize,
    /// What to ask for.
    pub action: Action,
}

/// What a call asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// `PUT /services/{service}/instances/{instance}`
    Register {
        /// This run of the process.
        session: Session,
        /// How the service is.
        status: Status,
        /// Why it is not passing.
        output: Option<Output>,
        /// What is known of the service.
        metadata: Arc<Metadata>,
    },
    /// `PUT …/heartbeat`
    Beat {
        /// This run of the process.
        session: Session,
        /// How the service is.
        status: Status,
        /// Why it is not passing.
        output: Option<Output>,
    },
    /// `PUT …/drain`
    Drain {
        /// This run of the process.
        session: Session,
        /// Why it leaves.
        reason: Reason,
    },
    /// `DELETE /services/{service}/instances/{instance}?session=`
    Deregister {
        /// This run of the process.
        session: Session,
    },
}

/// The kind of a call, without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A registration, the first or a renewed one.
    Register,
    /// A heartbeat.
    Beat,
    /// A drain.
    Drain,
    /// A deregistration.
    Deregister,
}

impl Action {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Register { .. } => Kind::Register,
            Self::Beat { .. } => Kind::Beat,
            Self::Drain { .. } => Kind::Drain,
            Self::Deregister { .. } => Kind::Deregister,
        }
    }
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Registered, or the beat was counted.
    Granted {
        /// The lease, in seconds.
        ttl: u32,
        /// Seconds between two beats; 0 counts as 1.
        interval: u32,
    },
    /// Drained, or deregistered.
    Done,
    /// 404 in the registry's own words: it knows that the instance is not there.
    Unknown,
    /// 409: the session has ended.
    Superseded,
    /// A client error that will not go away by itself: logged as an error.
    Refused {
        /// The status and what the registry said.
        reason: Text,
    },
    /// 429.
    Overloaded {
        /// The pause that was asked for.
        retry_after: Option<Duration>,
        /// What the registry said.
        reason: Text,
    },
    /// 503, and everything that is no answer of a registry: nobody knows.
    Unavailable {
        /// The pause that was asked for.
        retry_after: Option<Duration>,
        /// What happened.
        reason: Text,
    },
}

impl Answer {
    /// Nobody knows, and nobody said when to come back.
    pub fn unavailable(reason: impl Into<Text>) -> Self {
        Self::Unavailable { retry_after: None, reason: reason.into() }
    }
}
