//! What Prometheus sees. A leaf: stages count here, `http` shows it. Every label comes from an enum.

use std::time::Duration;

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
    core::Collector,
};

use crate::entry::Kind;

/// What a client asked for, as existing dashboards name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A registration, in either dialect.
    Register,
    /// A beat, in either dialect.
    Heartbeat,
    /// A removal, in either dialect.
    Deregister,
    /// `GET /services`, `GET /instances`.
    List,
    /// `GET /services/{service}` and below.
    Get,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 5] = [Self::Register, Self::Heartbeat, Self::Deregister, Self::List, Self::Get];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Heartbeat => "heartbeat",
            Self::Deregister => "deregister",
            Self::List => "list",
            Self::Get => "get",
        }
    }
}

/// How an operation ended, as existing dashboards name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// 2xx and 3xx.
    Success,
    /// 5xx: this node could not say, or failed.
    Error,
    /// 404.
    NotFound,
    /// 401 and 403.
    Denied,
    /// Every other 4xx.
    Rejected,
}

impl Ending {
    /// Every ending.
    pub const ALL: [Self; 5] = [Self::Success, Self::Error, Self::NotFound, Self::Denied, Self::Rejected];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::Rejected => "rejected",
        }
    }

    /// The ending that an HTTP status means.
    pub const fn of_status(status: u16) -> Self {
        match status {
            404 => Self::NotFound,
            401 | 403 => Self::Denied,
            400..=499 => Self::Rejected,
            500.. => Self::Error,
            _ => Self::Success,
        }
    }
}

/// What is true at the moment of a scrape.
#[derive(Clone, Copy, Debug)]
pub struct Gauges {
    /// Names that `GET /services` lists.
    pub active_services: usize,
    /// Entries that this node holds.
    pub instances: usize,
    /// Whether this node is blind.
    pub blind: bool,
    /// The age of what this node knows; `None` before it has loaded.
    pub sight_age: Option<Duration>,
}

/// The metrics of one node, with a registry of their own.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    operations: IntCounterVec,
    durations: HistogramVec,
    active_services: IntGauge,
    breaker_open: IntGauge,
    instances: IntGauge,
    blind: IntGauge,
    sight_age: prometheus::Gauge,
    changes: IntCounterVec,
    beats_written: IntCounter,
    commit_batches: prometheus::Histogram,
    store_calls: IntCounterVec,
}

/// From a beat answered out of memory to a commit that ran into its deadline.
const SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

impl Metrics {
    /// Metrics at zero, every label set present.
    ///
    /// # Errors
    /// Two metrics have one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let metrics = Self {
            operations: register(
                &registry,
                IntCounterVec::new(
                    Opts::new(
                        "registry_operations_total",
                        "Calls answered, by operation and how they ended.",
                    ),
                    &["operation", "status"],
                )?,
            )?,
            durations: register(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "registry_operation_duration_seconds",
                        "Time from head read to answer ready.",
                    )
                    .buckets(SECONDS.to_vec()),
                    &["operation"],
                )?,
            )?,
            active_services: register(
                &registry,
                IntGauge::new(
                    "registry_active_services",
                    "Names with an unexpired instance: those that GET /services lists.",
                )?,
            )?,
            breaker_open: register(
                &registry,
                IntGauge::new("registry_circuit_breaker_open", "1 while the store is unreachable.")?,
            )?,
            instances: register(
                &registry,
                IntGauge::new("registry_instances", "Entries that this node holds.")?,
            )?,
            blind: register(
                &registry,
                IntGauge::new(
                    "registry_blind",
                    "1 while this node cannot claim to know: no expiry, no 404, writes answered 503.",
                )?,
            )?,
            sight_age: register(
                &registry,
                prometheus::Gauge::new("registry_sight_age_seconds", "Age of what this node knows.")?,
            )?,
            changes: register(
                &registry,
                IntCounterVec::new(
                    Opts::new(
                        "registry_changes_total",
                        "Changes of membership that this node committed, by kind.",
                    ),
                    &["kind"],
                )?,
            )?,
            beats_written: register(
                &registry,
                IntCounter::new(
                    "registry_beats_written_total",
                    "Beats that this node wrote to the store, once per instance and tick.",
                )?,
            )?,
            commit_batches: register(
                &registry,
                prometheus::Histogram::with_opts(
                    HistogramOpts::new("registry_commit_batch_size", "Changes committed in one transaction.")
                        .buckets(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]),
                )?,
            )?,
            store_calls: register(
                &registry,
                IntCounterVec::new(
                    Opts::new("registry_store_calls_total", "Calls of the store, by kind and result."),
                    &["call", "result"],
                )?,
            )?,
            registry,
        };
        for operation in Operation::ALL {
            metrics.durations.with_label_values(&[operation.as_str()]);
            for ending in Ending::ALL {
                metrics.operations.with_label_values(&[operation.as_str(), ending.as_str()]);
            }
        }
        for kind in Kind::ALL {
            metrics.changes.with_label_values(&[kind.as_str()]);
        }
        #[cfg(target_os = "linux")]
        metrics.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(metrics)
    }

    /// Counts a call.
    pub fn operation(&self, operation: Operation, ending: Ending, took: Duration) {
        self.operations.with_label_values(&[operation.as_str(), ending.as_str()]).inc();
        self.durations.with_label_values(&[operation.as_str()]).observe(took.as_secs_f64());
    }

    /// Counts a committed change.
    pub fn change(&self, kind: Kind) {
        self.changes.with_label_values(&[kind.as_str()]).inc();
    }

    /// Counts beats that are in the store.
    pub fn beats_written(&self, count: usize) {
        self.beats_written.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Counts a batch of changes.
    pub fn commit_batch(&self, size: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most some hundred changes")]
        self.commit_batches.observe(size as f64);
    }

    /// Counts a call of the store; its result says whether the store is reachable. `call` is one of a few constants.
    pub fn store_call(&self, call: &'static str, ok: bool) {
        self.store_calls.with_label_values(&[call, if ok { "ok" } else { "error" }]).inc();
        self.breaker_open.set(i64::from(!ok));
    }

    /// Whether the last call of the store succeeded.
    pub fn store_reachable(&self) -> bool {
        self.breaker_open.get() == 0
    }

    /// The text that Prometheus scrapes.
    ///
    /// # Errors
    /// A metric cannot be written as text.
    pub fn scrape(&self, gauges: Gauges) -> Result<String, prometheus::Error> {
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.active_services.set(whole(gauges.active_services));
        self.instances.set(whole(gauges.instances));
        self.blind.set(i64::from(gauges.blind));
        self.sight_age.set(gauges.sight_age.map_or(f64::INFINITY, |age| age.as_secs_f64()));
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> Result<C, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
