//! What is refused and who is let go because there is too much of it, or because it is too slow.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::{counters, gauge};

/// Why a call was answered with 429. Declared in the order of [`Refused::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are as many instances as there may be.
    Instances,
    /// There are as many services as there may be.
    Services,
    /// The service has as many instances as it may have.
    InstancesOfService,
    /// Too many changes with one token.
    Token,
    /// Too many changes and lists from one address.
    Address,
    /// Too many changes wait for the store.
    Queue,
    /// A registration, while this node is far behind.
    Registration,
    /// A big list, while this node is behind or makes as many as it makes at a time.
    List,
    /// A big answer, while too many others are not taken yet, or too many of its address.
    Answer,
}

impl Refused {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Instances,
        Self::Services,
        Self::InstancesOfService,
        Self::Token,
        Self::Address,
        Self::Queue,
        Self::Registration,
        Self::List,
        Self::Answer,
    ];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Instances => "cap_instances",
            Self::Services => "cap_services",
            Self::InstancesOfService => "cap_instances_of_service",
            Self::Token => "token_rate",
            Self::Address => "address_rate",
            Self::Queue => "queue",
            Self::Registration => "load_registration",
            Self::List => "load_list",
            Self::Answer => "load_answer",
        }
    }
}

/// Why a connection was not served. Declared in the order of [`Closed::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// There are as many as there may be.
    All,
    /// There are as many from its address as there may be.
    Address,
}

impl Closed {
    /// Every reason.
    pub const ALL: [Self; 2] = [Self::All, Self::Address];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Address => "address",
        }
    }
}

/// What a client was too slow with. Declared in the order of [`Slow::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    /// The head of a request, the next one on a kept connection included.
    Head,
    /// The body.
    Body,
    /// To take its answer.
    Answer,
}

impl Slow {
    /// Everything.
    pub const ALL: [Self; 3] = [Self::Head, Self::Body, Self::Answer];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Body => "body",
            Self::Answer => "answer",
        }
    }
}

#[derive(Debug)]
pub(super) struct FloodMetrics {
    pub(super) refused: [IntCounter; Refused::ALL.len()],
    pub(super) connections: IntGauge,
    pub(super) closed: [IntCounter; Closed::ALL.len()],
    pub(super) slow: [IntCounter; Slow::ALL.len()],
}

impl FloodMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let refused = counters(
            registry,
            "registry_refused_total",
            "Calls answered 429, by reason: a cap, a rate, the queue before the store, or load.",
            &["reason"],
        )?;
        let closed = counters(
            registry,
            "registry_connections_refused_total",
            "Connections that were not served, by whose number was too large: all, or those of one address.",
            &["reason"],
        )?;
        let slow = counters(
            registry,
            "registry_slow_clients_total",
            "Connections ended for slowness, by what did not come or go; head: idle connections too.",
            &["what"],
        )?;
        let one = |family: &IntCounterVec, label: &str| family.with_label_values(&[label]);
        Ok(Self {
            refused: Refused::ALL.map(|reason| one(&refused, reason.as_str())),
            connections: gauge(registry, "registry_connections", "Open connections.")?,
            closed: Closed::ALL.map(|reason| one(&closed, reason.as_str())),
            slow: Slow::ALL.map(|what| one(&slow, what.as_str())),
        })
    }
}
