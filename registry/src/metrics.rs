//! What Prometheus sees. A leaf: stages count here, `http` shows it. Every label comes from an enum.

mod floods;

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
    core::Collector,
};

use self::floods::FloodMetrics;
pub use self::floods::{Closed, Refused, Slow};
use crate::entry::Kind;

/// What a client asked for, as existing dashboards name it. Declared in the order of [`Operation::ALL`].
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

/// How an operation ended, as existing dashboards name it. Declared in the order of [`Ending::ALL`].
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

/// Whether calls of the store are made at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// They are.
    Closed,
    /// They fail at once.
    Open,
    /// They fail at once, but for one that finds out.
    HalfOpen,
}

impl Breaker {
    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// What a compare with the table found and mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The node lacked an entry.
    Missing,
    /// The node held an entry that the table lacks.
    Extra,
    /// The node held something else.
    Changed,
}

impl Difference {
    /// Every difference.
    pub const ALL: [Self; 3] = [Self::Missing, Self::Extra, Self::Changed];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Changed => "changed",
        }
    }
}

/// Why a node loaded everything again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resync {
    /// Rows of a log were trimmed before it read them.
    Trimmed,
    /// The store went back in time.
    Lost,
}

impl Resync {
    /// Every reason.
    pub const ALL: [Self; 2] = [Self::Trimmed, Self::Lost];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::Lost => "lost_history",
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
    /// Instances that have beaten, but not for two thirds of their TTL.
    pub silent: usize,
    /// Of those, the ones whose lease would have ended but for the brake.
    pub held: usize,
    /// Whether too many are silent for any of them to end.
    pub brake: bool,
    /// The breaker before the store.
    pub breaker: Breaker,
    /// Whether this node is blind.
    pub blind: bool,
    /// The age of what this node knows; `None` before it has loaded.
    pub sight_age: Option<Duration>,
}

/// The metrics of one node, with a registry of their own.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    operations: [Calls; Operation::ALL.len()],
    active_services: IntGauge,
    breaker_open: IntGauge,
    instances: IntGauge,
    brake: BrakeMetrics,
    blind: IntGauge,
    sight_age: prometheus::Gauge,
    changes: IntCounterVec,
    beats_written: IntCounter,
    commit_batches: Histogram,
    store_calls: IntCounterVec,
    resyncs: IntCounterVec,
    token_late_beats: IntCounter,
    compare_rounds: IntCounter,
    compare_mended: IntCounterVec,
    floods: FloodMetrics,
}

/// The calls of one operation: looked up by name once, not at each call.
#[derive(Debug)]
struct Calls {
    durations: Histogram,
    endings: [IntCounter; Ending::ALL.len()],
}

impl Calls {
    /// Those of every operation, in the order in which they are declared.
    fn of_all(registry: &Registry) -> Result<[Self; Operation::ALL.len()], prometheus::Error> {
        let endings = counters(
            registry,
            "registry_operations_total",
            "Calls answered, by operation and how they ended.",
            &["operation", "status"],
        )?;
        let durations = register(
            registry,
            HistogramVec::new(
                HistogramOpts::new(
                    "registry_operation_duration_seconds",
                    "Time from head read to answer ready.",
                )
                .buckets(SECONDS.to_vec()),
                &["operation"],
            )?,
        )?;
        Ok(Operation::ALL.map(|operation| Self {
            durations: durations.with_label_values(&[operation.as_str()]),
            endings: Ending::ALL
                .map(|ending| endings.with_label_values(&[operation.as_str(), ending.as_str()])),
        }))
    }
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
            operations: Calls::of_all(&registry)?,
            active_services: gauge(
                &registry,
                "registry_active_services",
                "Names with an unexpired instance: those that GET /services lists.",
            )?,
            breaker_open: gauge(
                &registry,
                "registry_circuit_breaker_open",
                "1 while the store is unreachable: the breaker is open or half-open.",
            )?,
            instances: gauge(&registry, "registry_instances", "Entries that this node holds.")?,
            brake: BrakeMetrics::new(&registry)?,
            blind: gauge(
                &registry,
                "registry_blind",
                "1 while this node cannot claim to know: no expiry, no 404, writes answered 503.",
            )?,
            sight_age: register(
                &registry,
                prometheus::Gauge::new("registry_sight_age_seconds", "Age of what this node knows.")?,
            )?,
            changes: counters(
                &registry,
                "registry_changes_total",
                "Changes of membership that this node committed, by kind.",
                &["kind"],
            )?,
            beats_written: counter(
                &registry,
                "registry_beats_written_total",
                "Beats that this node wrote to the store, once per instance and tick.",
            )?,
            commit_batches: register(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new("registry_commit_batch_size", "Changes committed in one transaction.")
                        .buckets(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]),
                )?,
            )?,
            store_calls: counters(
                &registry,
                "registry_store_calls_total",
                "Calls of the store, by kind and result.",
                &["call", "result"],
            )?,
            resyncs: counters(
                &registry,
                "registry_resyncs_total",
                "Times that this node loaded everything again, by reason; lost_history: the store went back in time.",
                &["reason"],
            )?,
            token_late_beats: counter(
                &registry,
                "registry_token_late_beats_total",
                "Beats let through with a signed token after its expiry; when it grows, somebody needs a new one.",
            )?,
            compare_rounds: register(
                &registry,
                IntCounter::new(
                    "registry_compare_rounds_total",
                    "Times that every entry was compared with the table.",
                )?,
            )?,
            compare_mended: counters(
                &registry,
                "registry_compare_mended_total",
                "Entries that differed from the table and were mended, by difference; above 0 there was a fault.",
                &["difference"],
            )?,
            floods: FloodMetrics::new(&registry)?,
            registry,
        };
        metrics.label();
        #[cfg(target_os = "linux")]
        metrics.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(metrics)
    }

    /// Every label set is there from the start.
    fn label(&self) {
        for difference in Difference::ALL {
            self.compare_mended.with_label_values(&[difference.as_str()]);
        }
        for reason in Resync::ALL {
            self.resyncs.with_label_values(&[reason.as_str()]);
        }
        for kind in Kind::ALL {
            self.changes.with_label_values(&[kind.as_str()]);
        }
    }

    /// Counts a call.
    pub fn operation(&self, operation: Operation, ending: Ending, took: Duration) {
        let calls = &self.operations[operation as usize];
        calls.endings[ending as usize].inc();
        calls.durations.observe(took.as_secs_f64());
    }

    /// Counts a call that was answered with 429.
    pub fn refused(&self, reason: Refused) {
        self.floods.refused[reason as usize].inc();
    }

    /// Counts a connection that is served now.
    pub fn connection_opened(&self) {
        self.floods.connections.inc();
    }

    /// Counts a connection that is served no more.
    pub fn connection_ended(&self) {
        self.floods.connections.dec();
    }

    /// Counts a connection that was not served.
    pub fn connection_refused(&self, reason: Closed) {
        self.floods.closed[reason as usize].inc();
    }

    /// Counts a connection that was ended because its client was too slow.
    pub fn slow_client(&self, what: Slow) {
        self.floods.slow[what as usize].inc();
    }

    /// Counts a committed change.
    pub fn change(&self, kind: Kind) {
        self.changes.with_label_values(&[kind.as_str()]).inc();
    }

    /// Counts a beat with a token that has expired.
    pub fn token_late_beat(&self) {
        self.token_late_beats.inc();
    }

    /// Counts a compare of every entry with the table.
    pub fn compare_round(&self) {
        self.compare_rounds.inc();
    }

    /// Counts an entry that differed from the table.
    pub fn compare_mended(&self, difference: Difference) {
        self.compare_mended.with_label_values(&[difference.as_str()]).inc();
    }

    /// Counts a whole load beyond the one at start.
    pub fn resync(&self, reason: Resync) {
        self.resyncs.with_label_values(&[reason.as_str()]).inc();
    }

    /// Counts beats that are in the store.
    pub fn beats_written(&self, count: usize) {
        self.beats_written.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Counts an instance that was removed after a hold.
    pub fn let_go(&self) {
        self.brake.let_go.inc();
    }

    /// Counts a batch of changes.
    pub fn commit_batch(&self, size: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most some hundred changes")]
        self.commit_batches.observe(size as f64);
    }

    /// Counts a call of the store. `call` is one of a few constants.
    pub fn store_call(&self, call: &'static str, ok: bool) {
        self.store_calls.with_label_values(&[call, if ok { "ok" } else { "error" }]).inc();
    }

    /// Those of TLS, where it is on: without it they are not shown, as a certificate that ended in 1970 would be.
    ///
    /// # Errors
    /// They were asked for before.
    pub fn tls(&self) -> Result<TlsMetrics, prometheus::Error> {
        Ok(TlsMetrics {
            expires: gauge(
                &self.registry,
                "registry_tls_certificate_expires_timestamp_seconds",
                "When the certificate in use ends, in Unix seconds.",
            )?,
            reloaded: gauge(
                &self.registry,
                "registry_tls_last_reload_successful",
                "0 while what lies in the files of TLS cannot be used, and what was read before stays in force.",
            )?,
        })
    }

    /// The text that Prometheus scrapes.
    ///
    /// # Errors
    /// A metric cannot be written as text.
    pub fn scrape(&self, gauges: Gauges) -> Result<String, prometheus::Error> {
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.active_services.set(whole(gauges.active_services));
        self.instances.set(whole(gauges.instances));
        self.brake.silent.set(whole(gauges.silent));
        self.brake.held.set(whole(gauges.held));
        self.brake.engaged.set(i64::from(gauges.brake));
        self.breaker_open.set(i64::from(gauges.breaker != Breaker::Closed));
        self.blind.set(i64::from(gauges.blind));
        self.sight_age.set(gauges.sight_age.map_or(f64::INFINITY, |age| age.as_secs_f64()));
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// What is in force of the files of TLS.
#[derive(Debug)]
pub struct TlsMetrics {
    expires: IntGauge,
    reloaded: IntGauge,
}

impl TlsMetrics {
    /// Notes a look at the files: when the certificate in force ends, in Unix seconds, and whether it is theirs.
    pub fn read(&self, expires: i64, good: bool) {
        self.expires.set(expires);
        self.reloaded.set(i64::from(good));
    }
}

/// What the brake on mass death does.
#[derive(Debug)]
struct BrakeMetrics {
    silent: IntGauge,
    held: IntGauge,
    engaged: IntGauge,
    let_go: IntCounter,
}

impl BrakeMetrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            silent: gauge(
                registry,
                "registry_silent_entries",
                "Instances that have beaten, but not for two thirds of their TTL.",
            )?,
            held: gauge(
                registry,
                "registry_held_entries",
                "Instances that are listed as stale because too many fell silent at once.",
            )?,
            engaged: gauge(
                registry,
                "registry_brake_engaged",
                "1 while too many instances are silent at once for any of them to expire.",
            )?,
            let_go: counter(
                registry,
                "registry_let_go_total",
                "Instances that this node removed after a hold in which they did not come back.",
            )?,
        })
    }
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    register(registry, IntGauge::new(name, help)?)
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    register(registry, IntCounter::new(name, help)?)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> Result<C, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
