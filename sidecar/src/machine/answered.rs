//! What an answer of a registry changes.

use std::{sync::Arc, time::Duration};

use rand::Rng;

use super::{
    Answer, Backoff, Event, Flight, Kind, Machine, Moment, Phase, Round, SECOND, SUPERSEDED_PAUSE, Text,
    new_session,
};

/// The longest `Retry-After` that a registration obeys.
const REGISTRATION_CAP: Duration = Duration::from_mins(1);
/// A complaint in the same words is logged again after this time.
const COMPLAINT_PAUSE: Duration = Duration::from_mins(10);
/// How many complaints in different words are remembered.
const COMPLAINTS_MAX: usize = 8;

impl Machine {
    /// The answer to the call that [`Effect::Call`](super::Effect::Call) asked for. Without a call under way it is ignored.
    pub fn answered(&mut self, now: Moment, answer: Answer, rng: &mut impl Rng) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        if self.leave.is_some() {
            self.answered_leaving(now, &flight, answer, rng);
            return;
        }
        match answer {
            Answer::Granted { ttl, interval } => self.granted(now, &flight, ttl, interval, rng),
            Answer::Unknown if flight.kind == Kind::Beat => self.unknown(now, rng),
            Answer::Superseded => self.superseded(now),
            Answer::Unknown | Answer::Done => {
                self.failed(now, &flight, None, "an answer that does not fit the call".into(), rng);
            }
            Answer::Unavailable { retry_after, reason } => {
                self.failed(now, &flight, retry_after, reason, rng);
            }
            Answer::Overloaded { retry_after, reason } => {
                self.complain(now, false, reason);
                self.round.retry_after = retry_after;
                self.pause(now, &flight, rng);
            }
            Answer::Refused { reason } => {
                self.complain(now, true, reason);
                self.next_registry();
                self.pause(now, &flight, rng);
            }
        }
    }

    fn granted(&mut self, now: Moment, flight: &Flight, ttl: u32, interval: u32, rng: &mut impl Rng) {
        self.acknowledge(now, flight, ttl, interval);
        if flight.kind == Kind::Register {
            self.tally.registrations += 1;
            self.events.push_back(Event::Registered {
                registry: self.registry,
                status: flight.status,
                interval: self.interval,
            });
        }
        self.phase = Phase::Registered;
        self.beat_first = false;
        // Counted from the start of the call, or a slow registry would stretch the period beyond a third of the lease.
        let pause = self.interval.mul_f64(rng.random_range(0.85..0.97));
        self.due = (flight.started + pause).max(now + pause.min(SECOND));
        if self.health.say().0 != flight.status {
            self.due = now;
        }
    }

    /// Notes that the registry holds our entry for another lease.
    pub(super) fn acknowledge(&mut self, now: Moment, flight: &Flight, ttl: u32, interval: u32) {
        if flight.kind == Kind::Beat {
            self.tally.beats += 1;
        }
        let known = self.known.as_ref().map(|(_, metadata)| metadata);
        let metadata = Arc::clone(flight.metadata.as_ref().or(known).unwrap_or(&self.metadata));
        self.known = Some((flight.status, metadata));
        self.acknowledged = Some(now);
        self.ttl = Duration::from_secs(u64::from(ttl));
        let told = Duration::from_secs(u64::from(interval));
        self.interval = self.settings.interval.min(told).max(SECOND);
        self.backoff = Backoff::beat(self.interval);
        self.round = Round::default();
        self.failed_at = None;
        if self.failures > 0 {
            let failures = std::mem::take(&mut self.failures);
            self.complaints.clear();
            self.events.push_back(Event::Reached { registry: self.registry, failures });
        }
    }

    /// The registry knows that we are not there: register again within this beat, as a new session.
    fn unknown(&mut self, now: Moment, rng: &mut impl Rng) {
        self.session = new_session(rng);
        self.phase = Phase::Registering;
        self.known = None;
        self.beat_first = false;
        self.round = Round::default();
        self.backoff = Backoff::registration();
        self.failed_at = None;
        self.due = now;
        self.tally.lost += 1;
        self.events.push_back(Event::Lost);
    }

    fn superseded(&mut self, now: Moment) {
        if self.phase != Phase::Superseded {
            self.events.push_back(Event::Superseded);
        }
        self.phase = Phase::Superseded;
        self.round = Round::default();
        self.backoff = Backoff::beat(self.interval);
        self.due = now + SUPERSEDED_PAUSE;
    }

    /// Nobody knows: the next URL at once, and when all were asked, a pause.
    fn failed(
        &mut self,
        now: Moment,
        flight: &Flight,
        retry_after: Option<Duration>,
        reason: Text,
        rng: &mut impl Rng,
    ) {
        self.complain(now, false, reason);
        self.round.retry_after = self.round.retry_after.max(retry_after);
        self.next_registry();
        self.round.tried += 1;
        if self.round.tried < self.settings.registries {
            self.due = now;
        } else {
            self.pause(now, flight, rng);
            // Asked of a beat that says nothing new.
            self.round.retry_after = None;
        }
    }

    fn pause(&mut self, now: Moment, flight: &Flight, rng: &mut impl Rng) {
        let cap = if self.phase == Phase::Registering { REGISTRATION_CAP } else { self.interval };
        let asked = self.round.retry_after.unwrap_or_default().min(cap);
        self.due = now + self.backoff.pause(rng).max(asked);
        // Kept for `hurry` until the next answer.
        let retry_after = self.round.retry_after;
        self.round = Round { tried: 0, retry_after };
        self.failed_at = Some(now);
        self.beat_first = flight.kind == Kind::Register && self.phase == Phase::Registered;
    }

    pub(super) fn next_registry(&mut self) {
        self.registry = (self.registry + 1) % self.settings.registries.max(1);
    }

    /// Counts a failed call, and logs it unless the same was logged a short while ago.
    pub(super) fn complain(&mut self, now: Moment, error: bool, reason: Text) {
        self.failures = self.failures.saturating_add(1);
        self.tally.failures += 1;
        // The last one is what a report shows, so one that comes again moves to the end.
        let known = self.complaints.iter().position(|(text, _)| *text == reason);
        let logged = known.map(|position| self.complaints.remove(position).1);
        let again = logged.is_none_or(|at| now >= at + COMPLAINT_PAUSE);
        if self.complaints.len() == COMPLAINTS_MAX {
            self.complaints.remove(0);
        }
        let logged = logged.filter(|_| !again).unwrap_or(now);
        self.complaints.push((reason.clone(), logged));
        if !again {
            return;
        }
        self.events.push_back(Event::Trouble {
            registry: self.registry,
            error,
            reason,
            failures: self.failures,
        });
    }
}
