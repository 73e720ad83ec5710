//! Leaving: drain, linger, deregister, within a deadline whatever the registry does.

use std::time::Duration;

use rand::Rng;
use registry_wire::Reason;

use super::{Answer, Event, Flight, Kind, Machine, Moment, Phase, Round, SECOND};

/// What is left for the calls beside the time of the drain. Half a second less than the 5 s that are promised, for a
/// machine that is busy.
const BUDGET: Duration = Duration::from_millis(4500);
/// How long a call that was under way may still take.
const SETTLE: Duration = Duration::from_secs(1);
/// How long each call may take while leaving.
const CALL: Duration = Duration::from_millis(1250);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Drain,
    /// Waits for the end of the drain, and beats, unless the entry is gone.
    Linger {
        gone: bool,
    },
    Deregister,
}

#[derive(Clone, Debug)]
pub(super) struct Leave {
    reason: Reason,
    settle_until: Moment,
    drain_until: Moment,
    deadline: Moment,
    stage: Stage,
    drained: bool,
    /// There was an entry to take away for sure: worth more than one round of tries.
    registered: bool,
}

impl Leave {
    pub(super) fn new(now: Moment, drain: Duration, reason: &str, registered: bool) -> Self {
        Self {
            reason: Reason::fit(reason),
            settle_until: now + SETTLE,
            drain_until: now + drain,
            deadline: now + drain + BUDGET,
            stage: if registered { Stage::Drain } else { Stage::Deregister },
            drained: false,
            registered,
        }
    }

    pub(super) fn reason(&self) -> Reason {
        self.reason.clone()
    }

    pub(super) fn next(&self) -> Kind {
        match self.stage {
            Stage::Drain => Kind::Drain,
            Stage::Linger { .. } => Kind::Beat,
            Stage::Deregister => Kind::Deregister,
        }
    }

    pub(super) fn call_deadline(&self, kind: Kind, started: Moment) -> Moment {
        let limit = match kind {
            // One that began before it was told to leave.
            Kind::Register => self.settle_until,
            Kind::Beat if started + SETTLE <= self.settle_until => self.settle_until,
            Kind::Beat => self.drain_until,
            Kind::Drain | Kind::Deregister => started + CALL,
        };
        limit.min(self.deadline)
    }

    pub(super) fn wake(&self, next: Moment) -> Moment {
        let next = next.min(self.deadline);
        match self.stage {
            Stage::Linger { gone: true } => self.drain_until,
            Stage::Linger { gone: false } => next.min(self.drain_until),
            Stage::Drain | Stage::Deregister => next,
        }
    }
}

impl Machine {
    pub(super) fn advance_leaving(&mut self, now: Moment) {
        let flying = self.flight.is_some();
        let Some(leave) = &mut self.leave else {
            return;
        };
        if self.finished {
            return;
        }
        if now >= leave.deadline {
            self.events.push_back(Event::LeftBehind);
            self.finish();
            return;
        }
        match leave.stage {
            Stage::Linger { gone: true } if now >= leave.drain_until => self.finish(),
            Stage::Linger { gone: true } => self.due = leave.drain_until,
            Stage::Linger { gone: false } if now >= leave.drain_until && !flying => {
                leave.stage = Stage::Deregister;
                self.round = Round::default();
                self.due = now;
            }
            Stage::Linger { gone: false } | Stage::Drain | Stage::Deregister => {}
        }
    }

    pub(super) fn answered_leaving(
        &mut self,
        now: Moment,
        flight: &Flight,
        answer: Answer,
        rng: &mut impl Rng,
    ) {
        match flight.kind {
            Kind::Register => self.settled(now, flight, &answer),
            Kind::Beat => self.lingered(now, flight, answer, rng),
            Kind::Drain => self.drained(now, answer),
            Kind::Deregister => self.deregistered(now, answer),
        }
    }

    /// A registration that was under way when it was told to leave.
    fn settled(&mut self, now: Moment, flight: &Flight, answer: &Answer) {
        if let Answer::Granted { ttl, interval } = *answer {
            self.acknowledge(now, flight, ttl, interval);
            self.tally.registrations += 1;
            self.phase = Phase::Registered;
            if let Some(leave) = &mut self.leave {
                leave.stage = Stage::Drain;
                leave.registered = true;
            }
        }
        self.due = now;
    }

    fn lingered(&mut self, now: Moment, flight: &Flight, answer: Answer, rng: &mut impl Rng) {
        let draining = self.leave.as_ref().is_some_and(|leave| leave.stage == Stage::Drain);
        match answer {
            Answer::Granted { ttl, interval } => {
                self.acknowledge(now, flight, ttl, interval);
                self.due = now + self.interval.mul_f64(rng.random_range(0.85..0.97));
                if let Some(leave) = &mut self.leave
                    && !leave.drained
                {
                    leave.stage = Stage::Drain;
                    self.due = now;
                }
            }
            Answer::Unknown => self.gone(),
            Answer::Superseded => self.finish(),
            // It was under way when it was told to leave, and its answer matters no more.
            _ if draining => self.due = now,
            answer => {
                self.note(now, answer);
                self.next_registry();
                self.due = now + self.backoff.pause(rng);
            }
        }
    }

    fn drained(&mut self, now: Moment, answer: Answer) {
        match answer {
            Answer::Done | Answer::Granted { .. } => {
                self.round = Round::default();
                let beat = self.acknowledged.map_or(now, |at| at + self.interval.mul_f64(0.85));
                self.linger(beat.max(now), true);
            }
            Answer::Unknown => self.gone(),
            Answer::Superseded => self.finish(),
            answer => {
                self.note(now, answer);
                self.next_registry();
                self.round.tried += 1;
                if self.round.tried < self.settings.registries {
                    self.due = now;
                } else {
                    self.round = Round::default();
                    self.linger(now + SECOND, false);
                }
            }
        }
    }

    fn deregistered(&mut self, now: Moment, answer: Answer) {
        match answer {
            Answer::Done | Answer::Unknown | Answer::Superseded | Answer::Granted { .. } => {
                self.events.push_back(Event::Deregistered);
                self.finish();
            }
            answer => {
                self.note(now, answer);
                self.next_registry();
                self.round.tried += 1;
                if self.round.tried < self.settings.registries {
                    self.due = now;
                } else if self.leave.as_ref().is_some_and(|leave| leave.registered) {
                    self.round = Round::default();
                    self.due = now + SECOND;
                } else {
                    self.events.push_back(Event::LeftBehind);
                    self.finish();
                }
            }
        }
    }

    fn linger(&mut self, due: Moment, drained: bool) {
        self.due = due;
        if let Some(leave) = &mut self.leave {
            leave.stage = Stage::Linger { gone: false };
            leave.drained = drained;
        }
    }

    /// The registry knows nothing of us: nothing to take away, and no reason to register again.
    fn gone(&mut self) {
        if let Some(leave) = &mut self.leave {
            leave.stage = Stage::Linger { gone: true };
            self.due = leave.drain_until;
        }
    }

    fn note(&mut self, now: Moment, answer: Answer) {
        match answer {
            Answer::Refused { reason } => self.complain(now, true, reason),
            Answer::Overloaded { reason, .. } | Answer::Unavailable { reason, .. } => {
                self.complain(now, false, reason);
            }
            Answer::Granted { .. } | Answer::Done | Answer::Unknown | Answer::Superseded => {}
        }
    }
}
