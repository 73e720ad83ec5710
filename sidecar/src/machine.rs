//! What a sidecar does and when, without a clock, a socket or a thread.
//!
//! In: the time, a random source, the outcome of each probe, the answer to each call, the wish to leave.
//! Owns: the session, the lease's pace, the state of the service's health, every pause.
//! Out: probes and calls that are due, the moment of the next one, events to log, the end.
//!
//! A driver does three things, in any order: it carries out what [`Machine::poll`] hands out, it reports back with
//! [`Machine::probed`] and [`Machine::answered`], and it polls again at [`Machine::wake`]. At most one probe and one
//! call are under way at a time. Polling too early or too often does nothing.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use rand::{SeedableRng, rngs::StdRng};
//! use registry_sidecar::machine::{Action, Answer, Effect, Machine, ProbeOutcome, Settings};
//!
//! let mut rng = StdRng::seed_from_u64(1);
//! let mut now = Duration::ZERO;
//! let mut machine = Machine::new(Arc::new(Settings::default()), now, &mut rng);
//! assert_eq!(machine.poll(now), Some(Effect::Probe));
//! machine.probed(now, ProbeOutcome::healthy());
//!
//! // The first call waits a random moment, so that a thousand sidecars that start together do not call together.
//! let call = loop {
//!     match machine.poll(now) {
//!         Some(Effect::Call(call)) => break call,
//!         Some(_) => {}
//!         None => now = machine.wake().unwrap(),
//!     }
//! };
//! assert!(matches!(call.action, Action::Register { .. }));
//! assert!(now <= Duration::from_secs(5));
//! machine.answered(now, Answer::Granted { ttl: 90, interval: 30 }, &mut rng);
//! assert!(machine.report(now).healthy);
//! ```

mod answered;
mod call;
mod event;
mod health;
mod leave;
mod report;
mod settings;

use std::{borrow::Cow, collections::VecDeque, sync::Arc, time::Duration};

use rand::Rng;
use registry_wire::{Metadata, Session, Status};

use crate::backoff::{Backoff, between};

pub use call::{Action, Answer, Call, Kind};
pub use event::Event;
pub use health::{Facts, ProbeOutcome};
use health::{Health, Turn};
use leave::Leave;
pub use report::{Phase, Report, Tally};
pub use settings::Settings;

/// A moment: the time since one that the driver chose, and never goes back from.
pub type Moment = Duration;

/// Short text for people; borrowed where it is always the same.
pub type Text = Cow<'static, str>;

/// How long a call may take.
pub const CALL_LIMIT: Duration = Duration::from_secs(8);
/// The pause after 409: long enough not to fight with the process that took the id.
pub const SUPERSEDED_PAUSE: Duration = Duration::from_mins(1);
const SECOND: Duration = Duration::from_secs(1);
/// What the driver has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask the service's health endpoint, then [`Machine::probed`].
    Probe,
    /// Call a registry, then [`Machine::answered`].
    Call(Call),
    /// Log this.
    Log(Event),
    /// All is done: exit. Returned by every later poll as well.
    Exit,
}

/// A call under way.
#[derive(Clone, Debug)]
struct Flight {
    kind: Kind,
    started: Moment,
    status: Status,
    metadata: Option<Arc<Metadata>>,
}

/// The registry's calls of one beat: which URLs were tried, and what they asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    tried: usize,
    retry_after: Option<Duration>,
}

/// The state of one sidecar.
#[derive(Clone, Debug)]
pub struct Machine {
    settings: Arc<Settings>,
    session: Session,
    phase: Phase,
    health: Health,
    /// When the initial wait ends, healthy or not.
    wait_until: Moment,
    /// The first call is not made before this, unless the initial wait ends earlier.
    first_call: Moment,
    /// The next call is made at this moment. Without meaning while waiting for health or while a call is under way.
    due: Moment,
    flight: Option<Flight>,
    registry: usize,
    round: Round,
    /// The last answer was none that we hoped for, and this was its moment.
    failed_at: Option<Moment>,
    backoff: Backoff,
    interval: Duration,
    ttl: Duration,
    metadata: Arc<Metadata>,
    /// What the registry knows of us, as far as it told.
    known: Option<(Status, Arc<Metadata>)>,
    /// A change of metadata failed: the next call is a plain beat, because the lease comes first.
    beat_first: bool,
    acknowledged: Option<Moment>,
    leave: Option<Leave>,
    finished: bool,
    events: VecDeque<Event>,
    complaints: Vec<(Text, Moment)>,
    failures: u32,
    tally: Tally,
}

impl Machine {
    /// A sidecar that has just started and knows nothing.
    pub fn new(settings: Arc<Settings>, now: Moment, rng: &mut impl Rng) -> Self {
        let interval = settings.interval.max(SECOND);
        let spread = (interval / 6).min(Duration::from_secs(5));
        Self {
            session: new_session(rng),
            phase: Phase::Waiting,
            health: Health::new(now),
            wait_until: now + settings.initial_wait,
            first_call: now + between(Duration::ZERO, spread, rng),
            due: now,
            flight: None,
            registry: 0,
            round: Round::default(),
            failed_at: None,
            backoff: Backoff::registration(),
            interval,
            ttl: settings.ttl.duration(),
            metadata: Arc::new(settings.metadata.clone()),
            known: None,
            beat_first: false,
            acknowledged: None,
            leave: None,
            finished: false,
            events: VecDeque::new(),
            complaints: Vec::new(),
            failures: 0,
            tally: Tally::default(),
            settings,
        }
    }

    /// What is to be done now; `None` when nothing is due before [`Machine::wake`].
    pub fn poll(&mut self, now: Moment) -> Option<Effect> {
        if let Some(event) = self.poll_event() {
            return Some(Effect::Log(event));
        }
        if self.poll_probe(now) {
            return Some(Effect::Probe);
        }
        if let Some(call) = self.poll_call(now) {
            return Some(Effect::Call(call));
        }
        match self.poll_event() {
            Some(event) => Some(Effect::Log(event)),
            None => self.finished.then_some(Effect::Exit),
        }
    }

    /// The next event to log, for drivers that keep probes, calls and events apart.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether a probe is due; it counts as begun then.
    pub fn poll_probe(&mut self, now: Moment) -> bool {
        self.leave.is_none() && !self.finished && self.health.begin(now)
    }

    /// Whether a call is due.
    pub fn call_due(&mut self, now: Moment) -> bool {
        self.advance(now);
        !self.finished && self.flight.is_none() && self.phase != Phase::Waiting && now >= self.due
    }

    /// The call that is due; it counts as begun then.
    pub fn poll_call(&mut self, now: Moment) -> Option<Call> {
        self.call_due(now).then(|| self.begin(now))
    }

    /// When to poll again at the latest, were nothing reported until then. `None` when finished.
    pub fn wake(&self) -> Option<Moment> {
        match (self.wake_probe(), self.wake_call()) {
            (Some(probe), Some(call)) => Some(probe.min(call)),
            (probe, call) => probe.or(call),
        }
    }

    /// When the next probe is due; `None` while one is under way and when there will be none.
    pub fn wake_probe(&self) -> Option<Moment> {
        (self.leave.is_none() && !self.finished).then(|| self.health.due()).flatten()
    }

    /// When the registry's side has to be looked at again: a call is due, or the call under way has to be given up.
    pub fn wake_call(&self) -> Option<Moment> {
        if self.finished {
            return None;
        }
        let next = match (&self.flight, self.phase) {
            (Some(_), _) => self.call_deadline()?,
            (None, Phase::Waiting) => self.wait_until,
            (None, _) => self.due,
        };
        Some(match &self.leave {
            Some(leave) => leave.wake(next),
            None => next,
        })
    }

    /// When the call under way has to be given up: then report [`Answer::Unavailable`]. It may come nearer when the
    /// sidecar is told to leave.
    pub fn call_deadline(&self) -> Option<Moment> {
        let flight = self.flight.as_ref()?;
        let limit = flight.started + CALL_LIMIT;
        Some(match &self.leave {
            Some(leave) => leave.call_deadline(flight.kind, flight.started).min(limit),
            None => limit,
        })
    }

    /// Whether a call is under way.
    pub fn calling(&self) -> bool {
        self.flight.is_some()
    }

    /// Whether the next call is a registration: the registry does not know this session yet.
    pub fn registering(&self) -> bool {
        self.phase == Phase::Registering && self.leave.is_none() && !self.finished
    }

    /// Whether it was told to leave.
    pub fn leaving(&self) -> bool {
        self.leave.is_some() || self.finished
    }

    /// Whether all is done.
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// The id of this run of the process, as the registry knows it; another after a 404.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The outcome of the probe that [`Effect::Probe`] asked for.
    pub fn probed(&mut self, now: Moment, outcome: ProbeOutcome) {
        self.tally.probes += 1;
        if let ProbeOutcome::Healthy(facts) = &outcome {
            self.learn(facts);
        } else {
            self.tally.probes_failed += 1;
        }
        let waiting = self.phase == Phase::Waiting;
        match self.health.end(now, outcome, waiting, &self.settings) {
            Turn::Same => {}
            Turn::Passing if waiting => {
                self.events.push_back(Event::Ready);
                self.due = self.first_call.min(self.wait_until).max(now);
                self.phase = Phase::Registering;
            }
            Turn::Passing => {
                self.events.push_back(Event::Recovered);
                self.hurry(now);
            }
            Turn::Critical => {
                let output = self.health.output_text();
                self.events.push_back(Event::Failing { output });
                self.hurry(now);
            }
        }
    }

    /// Tells it to leave: drain, wait, deregister. Only the first call counts.
    pub fn shutdown(&mut self, now: Moment, reason: &str) {
        if self.leaving() {
            return;
        }
        let never_called = self.acknowledged.is_none() && self.flight.is_none() && self.failures == 0;
        if never_called || self.phase == Phase::Superseded {
            self.finish();
            return;
        }
        let drain = self.settings.drain;
        self.events.push_back(Event::Leaving { drain });
        self.leave = Some(Leave::new(now, drain, reason, self.acknowledged.is_some()));
        self.round = Round::default();
        self.due = now;
    }

    /// A change that the registry should hear of at once: no later than a second after a failed call, and not while
    /// another process holds the id or the registry has too much to do and asked for a pause.
    fn hurry(&mut self, now: Moment) {
        if self.flight.is_some() || self.phase != Phase::Registered || self.round.retry_after.is_some() {
            return;
        }
        let soon = self.failed_at.map_or(now, |at| at + SECOND);
        self.due = self.due.min(soon.max(now));
    }

    /// Moves on what only time moves.
    fn advance(&mut self, now: Moment) {
        if self.phase == Phase::Waiting && self.leave.is_none() && now >= self.wait_until {
            self.phase = Phase::Registering;
            self.due = now;
            self.health.give_up_waiting(now, self.settings.initial_wait, &self.settings);
            let output = self.health.output_text();
            self.events.push_back(Event::WaitOver { output });
        }
        self.advance_leaving(now);
    }

    fn begin(&mut self, now: Moment) -> Call {
        if self.round.tried == 0 {
            self.round.retry_after = None;
        }
        let kind = match &self.leave {
            Some(leave) => leave.next(),
            None if self.phase == Phase::Registering || self.update_due() => Kind::Register,
            None => Kind::Beat,
        };
        let (status, output) = self.health.say();
        self.flight = Some(Flight {
            kind,
            started: now,
            status,
            metadata: (kind == Kind::Register).then(|| Arc::clone(&self.metadata)),
        });
        let session = self.session.clone();
        let action = match kind {
            Kind::Register => {
                Action::Register { session, status, output, metadata: Arc::clone(&self.metadata) }
            }
            Kind::Beat => Action::Beat { session, status, output },
            Kind::Drain => {
                Action::Drain { session, reason: self.leave.as_ref().map(Leave::reason).unwrap_or_default() }
            }
            Kind::Deregister => Action::Deregister { session },
        };
        Call { registry: self.registry, action }
    }

    fn update_due(&self) -> bool {
        !self.beat_first
            && self.phase == Phase::Registered
            && self.known.as_ref().is_some_and(|(_, known)| *known != self.metadata)
    }

    /// Takes what the service says of itself into the metadata; what the operator configured wins.
    fn learn(&mut self, facts: &Facts) {
        let facts = [("version", &facts.version), ("status", &facts.status)];
        let news = facts.into_iter().filter_map(|(key, value)| {
            let value = value.as_deref()?;
            let configured = self.settings.metadata.get(key).is_some();
            (!configured && self.metadata.get(key) != Some(value)).then_some((key, value))
        });
        let mut changed: Option<Metadata> = None;
        for (key, value) in news {
            let metadata = changed.get_or_insert_with(|| Metadata::clone(&self.metadata));
            // A value that breaks a rule is left out: what a service writes must never stop its registration.
            let _ = metadata.insert(key, value);
        }
        if let Some(metadata) = changed
            && metadata != *self.metadata
        {
            self.metadata = Arc::new(metadata);
        }
    }

    fn finish(&mut self) {
        self.finished = true;
        self.flight = None;
    }
}

fn new_session(rng: &mut impl Rng) -> Session {
    let id: u64 = rng.random();
    format!("{id:016x}")
        .parse()
        .unwrap_or_else(|_| unreachable!("16 hexadecimal digits keep the rule of a session"))
}

#[cfg(test)]
mod tests;
