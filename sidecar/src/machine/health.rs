use std::time::Duration;

use registry_wire::{Output, Status};

use super::{Moment, Settings, Text};

/// The longest pause between two probes during the initial wait.
const WAIT_PAUSE_MAX: Duration = Duration::from_secs(10);
const WAIT_PAUSE_FIRST: Duration = Duration::from_secs(1);

/// What a health answer says of the service, as metadata values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The service's version.
    pub version: Option<String>,
    /// The service's own word for how it is.
    pub status: Option<String>,
}

/// How a probe went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The service answered 2xx.
    Healthy(Facts),
    /// It did not.
    Unhealthy {
        /// Why, in a few words.
        reason: Text,
    },
}

impl ProbeOutcome {
    /// Healthy, and nothing more is known.
    pub const fn healthy() -> Self {
        Self::Healthy(Facts { version: None, status: None })
    }

    /// Not healthy.
    pub fn unhealthy(reason: impl Into<Text>) -> Self {
        Self::Unhealthy { reason: reason.into() }
    }
}

/// What a probe changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Same,
    Passing,
    Critical,
}

/// The service's health, from the row of its probes.
#[derive(Clone, Debug)]
pub(super) struct Health {
    status: Option<Status>,
    reason: Option<Text>,
    failures: u32,
    /// When the next probe is due; `None` while one is under way.
    due: Option<Moment>,
    started: Moment,
    wait_pause: Duration,
}

impl Health {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            status: None,
            reason: None,
            failures: 0,
            due: Some(now),
            started: now,
            wait_pause: WAIT_PAUSE_FIRST,
        }
    }

    pub(super) fn due(&self) -> Option<Moment> {
        self.due
    }

    pub(super) fn begin(&mut self, now: Moment) -> bool {
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        self.due = None;
        self.started = now;
        true
    }

    pub(super) fn end(
        &mut self,
        now: Moment,
        outcome: ProbeOutcome,
        waiting: bool,
        settings: &Settings,
    ) -> Turn {
        let turn = match outcome {
            ProbeOutcome::Healthy(_) => {
                self.failures = 0;
                self.reason = None;
                let turn = match self.status {
                    Some(Status::Passing) => Turn::Same,
                    _ => Turn::Passing,
                };
                self.status = Some(Status::Passing);
                turn
            }
            ProbeOutcome::Unhealthy { reason } => {
                self.failures = self.failures.saturating_add(1);
                self.reason = Some(reason);
                if self.status == Some(Status::Passing) && self.failures >= settings.health_failures.max(1) {
                    self.status = Some(Status::Critical);
                    Turn::Critical
                } else {
                    Turn::Same
                }
            }
        };
        self.due = Some(if waiting && self.status.is_none() {
            let pause = self.wait_pause;
            self.wait_pause = pause.mul_f64(1.5).min(WAIT_PAUSE_MAX);
            now + pause
        } else {
            // From start to start: a hanging probe must not stretch the time to notice a dead service.
            (self.started + settings.health_interval).max(now)
        });
        turn
    }

    /// The initial wait is over: critical until a probe says otherwise, and probed at the usual pace.
    pub(super) fn give_up_waiting(&mut self, now: Moment, waited: Duration, settings: &Settings) {
        self.status = Some(Status::Critical);
        let last = self.reason.take().unwrap_or(Text::Borrowed("no answer yet"));
        self.reason = Some(format!("not healthy within {} s: {last}", waited.as_secs()).into());
        self.due = self.due.map(|due| due.min(now + settings.health_interval));
    }

    /// What to tell the registry: the status, and why when it is not passing.
    pub(super) fn say(&self) -> (Status, Option<Output>) {
        match self.status {
            Some(Status::Critical) => (Status::Critical, self.reason.as_deref().map(Output::fit)),
            _ => (Status::Passing, None),
        }
    }

    pub(super) fn status(&self) -> Option<Status> {
        self.status
    }

    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    pub(super) fn output_text(&self) -> String {
        self.reason.as_deref().unwrap_or_default().to_owned()
    }
}
