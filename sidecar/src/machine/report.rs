use std::time::Duration;

use registry_wire::{Session, Status};

use super::{Machine, Moment, Text};

/// How far a sidecar has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for the service to become healthy.
    Waiting,
    /// Not known to the registry yet, or not any more.
    Registering,
    /// Known to the registry, as far as it told.
    Registered,
    /// Another process has taken the instance's id.
    Superseded,
}

impl Phase {
    /// One word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Registering => "registering",
            Self::Registered => "registered",
            Self::Superseded => "superseded",
        }
    }
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Acknowledged registrations.
    pub registrations: u64,
    /// Acknowledged beats.
    pub beats: u64,
    /// Calls that failed, whatever the reason.
    pub failures: u64,
    /// How often the registry did not know this instance any more.
    pub lost: u64,
    /// Probes.
    pub probes: u64,
    /// Probes that found the service not healthy.
    pub probes_failed: u64,
}

/// How a sidecar is, for a health check, a status page and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The last beat was acknowledged within a lease; or nothing has gone wrong yet since the start.
    pub healthy: bool,
    /// Why, in a few words.
    pub why: Text,
    /// How far it has come.
    pub phase: Phase,
    /// Whether it is leaving.
    pub leaving: bool,
    /// The service's health; `None` before the first healthy answer or the end of the initial wait.
    pub status: Option<Status>,
    /// Why the last probe failed.
    pub output: Option<String>,
    /// This run of the process.
    pub session: Session,
    /// Time since the last acknowledged beat or registration.
    pub acknowledged: Option<Duration>,
    /// The time between two beats.
    pub interval: Duration,
    /// The lease.
    pub ttl: Duration,
    /// Which registry URL is asked next, counted from 0.
    pub registry: usize,
    /// Failed calls since the last good one.
    pub failures: u32,
    /// The reason of the last failed call since then.
    pub trouble: Option<String>,
    /// Counts since the start.
    pub tally: Tally,
}

impl Machine {
    /// How it is.
    pub fn report(&self, now: Moment) -> Report {
        let (healthy, why) = self.verdict(now);
        Report {
            healthy,
            why,
            phase: self.phase,
            leaving: self.leaving(),
            status: self.health.status(),
            output: self.health.reason().map(str::to_owned),
            session: self.session.clone(),
            acknowledged: self.acknowledged.map(|at| now.saturating_sub(at)),
            interval: self.interval,
            ttl: self.ttl,
            registry: self.registry,
            failures: self.failures,
            trouble: self.complaints.last().map(|(text, _)| text.to_string()),
            tally: self.tally,
        }
    }

    fn verdict(&self, now: Moment) -> (bool, Text) {
        let trouble = || match self.complaints.last() {
            Some((reason, _)) => format!(": {reason}"),
            None => String::new(),
        };
        match (self.phase, self.acknowledged) {
            (Phase::Superseded, _) => (false, "another process has taken this instance's id".into()),
            (Phase::Waiting, _) => (true, "waiting for the service to become healthy".into()),
            (_, None) if self.failures == 0 => (true, "about to register".into()),
            (_, None) => (false, format!("not registered{}", trouble()).into()),
            (_, Some(at)) => {
                let age = now.saturating_sub(at);
                if age <= self.ttl {
                    (true, format!("last beat acknowledged {} s ago", age.as_secs()).into())
                } else {
                    let text = format!("no beat acknowledged for {} s{}", age.as_secs(), trouble());
                    (false, text.into())
                }
            }
        }
    }
}
