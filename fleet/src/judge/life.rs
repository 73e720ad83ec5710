//! What is certain of one instance: from when to when every node must list it, and when it may have beaten last.

use std::time::Duration;

use super::{Bounds, Faults};
use crate::history::{Act, At, History, Operation, Outcome, What, Write};

/// How long after a call that failed it may still be carried out: a request's limit at a node.
const LATE: Duration = Duration::from_secs(1);

/// A time in which an instance must be in every answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: At,
    pub(super) until: At,
    /// Which row of acknowledged calls, without a break, it rests on.
    pub(super) presence: usize,
}

/// A row of acknowledged calls of one session, none later than a TTL after the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Presence {
    /// When its first call was acknowledged.
    pub(super) since: At,
    /// That call.
    pub(super) first: usize,
    /// The registration in it that was acknowledged first.
    pub(super) registered: Option<usize>,
    /// When a beat was acknowledged first.
    pub(super) beaten: Option<At>,
}

/// A registration or beat that was carried out, or may have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pulse {
    pub(super) start: At,
    /// When it counted at the latest.
    pub(super) latest: At,
    pub(super) operation: usize,
    /// Acknowledged, and not lost with its node.
    pub(super) certain: bool,
    pub(super) act: Act,
}

/// One instance.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// In order, without overlap.
    pub(super) spans: Vec<Span>,
    pub(super) presences: Vec<Presence>,
    /// In the order of their starts.
    pub(super) pulses: Vec<Pulse>,
    /// `latest` of the pulses up to each place, the greatest.
    latest: Vec<At>,
    /// Times in which it may have been critical or draining.
    unusable: Vec<(At, At)>,
    /// From the start of a deregistration to the next registration: not counted by anybody.
    pub(super) left: Vec<(At, At)>,
    /// Beats that were answered 404.
    pub(super) denied: Vec<usize>,
}

/// The lives of all instances of a run.
pub(super) fn all(history: &History, bounds: &Bounds, faults: &Faults) -> Vec<Life> {
    let count = usize::try_from(history.header.catalog.len()).unwrap_or(usize::MAX);
    let mut writes: Vec<Vec<(usize, Write)>> = vec![Vec::new(); count];
    for (place, operation) in history.operations.iter().enumerate() {
        if let What::Write(write) = operation.what
            && let Some(writes) = usize::try_from(write.instance).ok().and_then(|i| writes.get_mut(i))
        {
            writes.push((place, write));
        }
    }
    let operation = |place: usize| &history.operations[place];
    writes
        .into_iter()
        .map(|mut writes| {
            writes.sort_by_key(|(place, _)| operation(*place).start);
            let life = Life::default();
            let mut builder =
                Builder { bounds, faults, life, session: 0, chain: None, critical: None, draining: None };
            for (place, write) in writes {
                builder.write(place, operation(place), write);
            }
            builder.usable(At::NEVER, None);
            let mut latest = At::default();
            let mut life = builder.life;
            for pulse in &life.pulses {
                latest = latest.max(pulse.latest);
                life.latest.push(latest);
            }
            life
        })
        .collect()
}

struct Builder<'a> {
    bounds: &'a Bounds,
    faults: &'a Faults,
    life: Life,
    session: u32,
    /// The end of the lease by the acknowledged calls of the last presence, while that is not broken.
    chain: Option<At>,
    /// Since when it may have been critical.
    critical: Option<At>,
    /// Since when it may have been draining, and in which session.
    draining: Option<(At, u32)>,
}

impl Builder<'_> {
    fn write(&mut self, place: usize, operation: &Operation, write: Write) {
        if write.outcome == Outcome::Refused {
            return;
        }
        if write.session != self.session {
            self.session = write.session;
            self.chain = None;
        }
        match write.act {
            Act::Register | Act::Beat => self.pulse(place, operation, write),
            Act::Drain => {
                if write.outcome == Outcome::NotThere {
                    self.life.denied.push(place);
                    self.close(operation.end);
                } else {
                    self.draining = self.draining.or(Some((operation.start, write.session)));
                }
            }
            // Also when it was answered 404: a balancer may have sent it twice.
            Act::Deregister => {
                self.close(operation.start);
                self.life.left.push((operation.start, At::NEVER));
            }
        }
    }

    fn pulse(&mut self, place: usize, operation: &Operation, write: Write) {
        let (start, end) = (operation.start, operation.end);
        match write.outcome {
            Outcome::Acknowledged => {}
            Outcome::Maybe | Outcome::CutShort => {
                self.pulsed(place, operation, write, end.plus(LATE), false);
                if !write.usable {
                    self.critical = self.critical.or(Some(start));
                }
                return;
            }
            Outcome::NotThere => {
                if write.act == Act::Beat {
                    self.life.denied.push(place);
                }
                self.close(end);
                return;
            }
            Outcome::Superseded => return self.close(start),
            Outcome::Refused => return,
        }
        let certain = write.act == Act::Register || !self.faults.may_lose(operation);
        self.pulsed(place, operation, write, end, certain);
        if write.usable {
            self.usable(end, Some(write));
        } else {
            self.critical = self.critical.or(Some(start));
        }
        if !certain {
            return;
        }
        if self.chain.is_none_or(|until| start > until) {
            self.life.presences.push(Presence { since: end, first: place, registered: None, beaten: None });
            self.chain = None;
        }
        let number = self.life.presences.len() - 1;
        if let Some(presence) = self.life.presences.last_mut() {
            match write.act {
                Act::Register => presence.registered = presence.registered.or(Some(place)),
                _ => presence.beaten = presence.beaten.or(Some(end)),
            }
        }
        let bound = if write.act == Act::Register { self.bounds.change } else { self.bounds.beat };
        let until = self.faults.extend(start.plus(self.bounds.ttl));
        self.chain = Some(self.chain.map_or(until, |chain| chain.max(until)));
        let span = Span { from: end.plus(bound), until, presence: number };
        match self.life.spans.last_mut() {
            Some(last) if last.presence == number && span.from <= last.until => {
                last.until = last.until.max(until);
            }
            _ if span.from < span.until => self.life.spans.push(span),
            _ => {}
        }
    }

    fn pulsed(&mut self, operation: usize, call: &Operation, write: Write, latest: At, certain: bool) {
        if write.act == Act::Register
            && let Some((_, until)) = self.life.left.last_mut().filter(|(_, until)| *until == At::NEVER)
        {
            *until = call.start;
        }
        self.life.pulses.push(Pulse { start: call.start, latest, operation, certain, act: write.act });
    }

    /// From `at` on nothing is certain any more.
    fn close(&mut self, at: At) {
        self.chain = None;
        while let Some(last) = self.life.spans.last_mut() {
            if last.from < at {
                last.until = last.until.min(at);
                break;
            }
            self.life.spans.pop();
        }
    }

    /// Until `at` it may have been critical, and draining where another session has registered (or the end has come).
    fn usable(&mut self, at: At, by: Option<Write>) {
        if let Some(from) = self.critical.take() {
            self.life.unusable.push((from, at));
        }
        if let Some((from, session)) = self.draining
            && by.is_none_or(|by| by.act == Act::Register && by.session != session)
        {
            self.life.unusable.push((from, at));
            self.draining = None;
        }
    }
}

impl Life {
    /// The presence by which an answer that was given between `start` and `end`, by a node that knew everything up to
    /// `known` before, must hold this instance.
    pub(super) fn must_be_there(&self, start: At, end: At, known: Duration) -> Option<&Presence> {
        let place = self.spans.partition_point(|span| span.from <= start).checked_sub(1)?;
        let span = self.spans.get(place).filter(|span| end <= span.until)?;
        self.presences.get(span.presence).filter(|presence| presence.since.plus(known) <= start)
    }

    /// Whether it may have been critical or draining, as far as such an answer knew.
    pub(super) fn maybe_unusable(&self, start: At, end: At, known: Duration) -> bool {
        let overlaps = |(from, until): &(At, At)| *from <= end && until.plus(known) >= start;
        self.unusable.iter().any(overlaps)
    }

    /// When it may have beaten last before `at`.
    pub(super) fn last_pulse(&self, at: At) -> Option<(At, usize)> {
        let place = self.pulses.partition_point(|pulse| pulse.start <= at).checked_sub(1)?;
        let latest = self.latest.get(place).copied()?;
        let pulse = self.pulses.get(..=place)?.iter().rev().find(|pulse| pulse.latest == latest)?;
        Some((latest, pulse.operation))
    }

    /// The last certain registration or beat that ended before `at`.
    pub(super) fn last_certain(&self, at: At) -> Option<&Pulse> {
        let place = self.pulses.partition_point(|pulse| pulse.start <= at);
        self.pulses.get(..place)?.iter().rev().find(|pulse| pulse.certain && pulse.latest <= at)
    }

    /// Whether it had deregistered, or may have.
    pub(super) fn maybe_left(&self, start: At, end: At) -> bool {
        self.left.iter().any(|(from, until)| *from <= end && *until >= start)
    }
}
