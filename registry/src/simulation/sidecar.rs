//! The clients: sidecars that register, beat, register again on 404, leave, die, and are started anew, each call to
//! any node, and to the next when one refuses or does not answer, as nginx does it.

use std::time::Duration;

use rand::Rng;
use registry_wire::{Session, Status};

use super::{
    TICK, Time,
    node::{Answer, Op, OpKind, Step},
    plan::{End, ticks},
    world::{Event, World, place},
};

/// How long nginx waits for an answer of a node.
const TIMEOUT: Duration = TICK.saturating_mul(2);

/// How long a sidecar whose session was superseded waits.
const SUPERSEDED: Duration = TICK.saturating_mul(6);

#[derive(Clone, Copy, Debug)]
pub(super) enum SidecarStep {
    Act,
    End,
    Told(u64, Answer),
    /// No answer came.
    Timeout(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Registering,
    Beating,
    Leaving,
    Gone,
}

/// Where a sidecar stands.
#[derive(Debug)]
pub(super) struct State {
    phase: Phase,
    session: Option<Session>,
    status: Status,
    /// The operation that it waits for, the node that it asked, how many it asked already.
    current: Option<(u64, usize, usize)>,
    failures: u32,
}

impl State {
    pub(super) const fn new() -> Self {
        Self { phase: Phase::Registering, session: None, status: Status::Passing, current: None, failures: 0 }
    }
}

impl World {
    pub(super) fn sidecar(&mut self, number: usize, step: SidecarStep) {
        match step {
            SidecarStep::Act => self.act(number),
            SidecarStep::End => self.end(number),
            SidecarStep::Told(op, answer) => {
                if let Some((current, node, tried)) = self.sidecars[number].current
                    && current == op
                {
                    self.told(number, answer, node, tried);
                }
            }
            SidecarStep::Timeout(op) => {
                if let Some((current, node, tried)) = self.sidecars[number].current
                    && current == op
                {
                    self.told(number, Answer::Unavailable, node, tried);
                }
            }
        }
    }

    fn act(&mut self, number: usize) {
        if self.closing() || self.sidecars[number].current.is_some() {
            return;
        }
        if self.sidecars[number].phase == Phase::Registering && self.sidecars[number].session.is_none() {
            self.new_session(number);
        }
        if self.sidecars[number].phase == Phase::Beating && self.rng.random_bool(0.03) {
            let state = &mut self.sidecars[number];
            state.status = if state.status == Status::Passing { Status::Warning } else { Status::Passing };
        }
        let first = self.rng.random_range(0..self.nodes.len());
        self.ask(number, first, 0);
    }

    /// Another process of the service, or the same after a 404.
    fn new_session(&mut self, number: usize) {
        let drawn = self.number();
        let named = self.plan.sidecars[number].sessions;
        self.sidecars[number].session = named.then(|| format!("x{drawn}").parse().expect("a session"));
    }

    fn end(&mut self, number: usize) {
        let end = self.plan.sidecars[number].end;
        self.trace.add(self.now, "end", &[place(number)], || format!("{end:?}"));
        let state = &mut self.sidecars[number];
        match end {
            End::Never => {}
            End::Dies => state.phase = Phase::Gone,
            End::Leaves => {
                (state.phase, state.current) = (Phase::Leaving, None);
                self.act(number);
            }
            End::Restarts => {
                *state = State::new();
                let pause = self.upto(ticks(3.0));
                self.after(pause, Event::Sidecar(number, SidecarStep::Act));
            }
        }
    }

    fn ask(&mut self, number: usize, node: usize, tried: usize) {
        let state = &self.sidecars[number];
        let kind = match state.phase {
            Phase::Registering => OpKind::Register,
            // A curl names neither session nor status.
            Phase::Beating => OpKind::Beat(state.session.is_some().then_some(state.status)),
            Phase::Leaving => OpKind::Deregister,
            Phase::Gone => return,
        };
        let (session, key) = (state.session.clone(), self.plan.sidecars[number].key);
        let op = Op { number: self.number(), sidecar: number, kind, key, session, arrived: Time::ZERO };
        self.trace.add(self.now, "ask", &[place(number), place(node), place(tried)], || format!("{op:?}"));
        self.sidecars[number].current = Some((op.number, node, tried));
        let timeout = Event::Sidecar(number, SidecarStep::Timeout(op.number));
        if kind == OpKind::Deregister {
            self.judge.removal_sent(key);
        }
        if !self.nodes[node].up {
            self.gone(&op);
            return self.after(ticks(0.001), timeout);
        }
        self.after(TIMEOUT, timeout);
        let delay = self.upto(ticks(0.005));
        if kind == OpKind::Register && self.rng.random_bool(0.15) {
            self.replay(&op);
        }
        self.step_in(node, delay, Step::Op(op));
    }

    /// The network delivers a call once more, later and elsewhere. Nobody waits for its answer.
    fn replay(&mut self, op: &Op) {
        let number = self.number();
        let node = self.rng.random_range(0..self.nodes.len());
        let delay = self.upto(ticks(12.0));
        self.step_in(node, delay, Step::Op(Op { number, ..op.clone() }));
    }

    /// An operation has ended at its node, with or without an answer.
    pub(super) fn gone(&mut self, op: &Op) {
        if op.kind == OpKind::Deregister {
            self.judge.removal_over(op.key, self.now);
        }
    }

    fn told(&mut self, number: usize, answer: Answer, node: usize, tried: usize) {
        self.sidecars[number].current = None;
        self.trace.add(self.now, "told", &[place(number), place(node)], || format!("{answer:?}"));
        let interval = self.plan.sidecars[number].interval;
        let wait = match (answer, self.sidecars[number].phase) {
            (_, Phase::Gone) => return,
            (Answer::Unavailable, _) if tried + 1 < self.nodes.len() => {
                return self.ask(number, (node + 1) % self.nodes.len(), tried + 1);
            }
            (Answer::Unavailable, _) => {
                let failures = self.sidecars[number].failures.min(4);
                self.sidecars[number].failures += 1;
                TICK + self.upto((TICK * 2u32.pow(failures)).min(interval))
            }
            (_, Phase::Leaving) => {
                self.sidecars[number].phase = Phase::Gone;
                return;
            }
            (Answer::Done, _) => {
                (self.sidecars[number].phase, self.sidecars[number].failures) = (Phase::Beating, 0);
                if self.rng.random_bool(0.05) {
                    // It hangs, for longer than its lease.
                    ticks(f64::from(self.plan.ttls[self.plan.sidecars[number].key])) + self.upto(ticks(7.0))
                } else {
                    interval.mul_f64(self.rng.random_range(0.85..0.97))
                }
            }
            (Answer::Unknown, _) => {
                self.sidecars[number].phase = Phase::Registering;
                self.new_session(number);
                Duration::ZERO
            }
            (Answer::Superseded, _) => {
                self.sidecars[number].phase = Phase::Beating;
                SUPERSEDED
            }
        };
        self.after(wait, Event::Sidecar(number, SidecarStep::Act));
    }
}
