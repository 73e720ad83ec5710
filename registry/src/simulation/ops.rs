//! What a node does for its clients, from one point at which it waits to the next: `lease/handle.rs`.

use registry_wire::{
    Ttl,
    request::{Heartbeat, Register},
};
use tokio::sync::oneshot::error::TryRecvError;

use super::{
    Bug,
    node::{Answer, Op, OpKind, ReplyTo, Step, Task},
    plan::ticks,
    sidecar::SidecarStep,
    world::{Event, World, place},
};
use crate::{
    flush::revive::settles,
    lease::{COMMIT_DEADLINE, Caller, Heard, LOOK_DEADLINE, Outcome, Write},
};

impl World {
    pub(super) fn op(&mut self, number: usize, mut op: Op) {
        op.arrived = self.now;
        let (id, key) = (op.number, self.keys[op.key].clone());
        self.nodes[number].ops.insert(id, op.clone());
        match op.kind {
            OpKind::Beat(_) => self.beat(number, &op, true),
            OpKind::Register => {
                let body = format!("{{\"endpoint\":\"http://x:{}\"}}", 1 + op.number % 60_000);
                let register = Register::parse(body.as_bytes()).expect("a body");
                let ttl = Ttl::try_from(u64::from(self.plan.ttls[op.key])).expect("a TTL");
                let register = Register { ttl_seconds: Some(ttl), session: op.session.clone(), ..register };
                let moment = self.moment(number);
                let leases = &self.nodes[number].leases;
                match leases.registration(moment, &key, register, &Caller::default()) {
                    Ok(registration) => {
                        self.write(number, &op, Write::Register(Box::new(registration)));
                        if self.bug == Some(Bug::AcknowledgesEarly) {
                            self.answer(number, id, Answer::Done);
                        }
                    }
                    Err(_) => self.answer(number, id, Answer::Unavailable),
                }
            }
            OpKind::Deregister => {
                self.write(number, &op, Write::Deregister { session: op.session.clone(), last_seen: None });
            }
        }
    }

    fn write(&mut self, number: usize, op: &Op, write: Write) {
        if self.nodes[number].leases.must_see(self.moment(number)).is_err() {
            return self.answer(number, op.number, Answer::Unavailable);
        }
        self.submit(number, self.keys[op.key].clone(), write, ReplyTo::Op(op.number));
        let deadline = self.nodes[number].clock.takes(COMMIT_DEADLINE);
        self.step_in(number, deadline, Step::OpLate(op.number));
    }

    fn beat(&mut self, number: usize, op: &Op, may_look: bool) {
        let (now, key) = (self.moment(number), self.keys[op.key].clone());
        let OpKind::Beat(status) = op.kind else { return };
        let beat = Heartbeat { session: op.session.clone(), status, output: None };
        let node = &mut self.nodes[number];
        let may_look = may_look && self.bug != Some(Bug::NoLook);
        match (node.leases.beat_once(now, &key, &beat), status) {
            (Err(_), _) => self.answer(number, op.number, Answer::Unavailable),
            (Ok(Heard::StatusChange(_)), Some(status)) => {
                let write = Write::Status { session: op.session.clone(), status, output: None };
                self.write(number, op, write);
            }
            (Ok(Heard::Acknowledged(_) | Heard::StatusChange(_)), _) => {
                let (id, ..) = node.leases.lease(&key).expect("it was beaten just now");
                let by = (number, node.generation);
                self.judge.acknowledged(by, node, self.now);
                self.judge.beat(&self.plan, op.key, by, id, self.now);
                self.answer(number, op.number, Answer::Done);
            }
            (Ok(Heard::Unknown | Heard::Superseded), _) if may_look => {
                node.looking.push((op.number, now));
                let deadline = node.clock.takes(LOOK_DEADLINE);
                self.step_in(number, deadline, Step::LookLate(op.number));
                self.step_in(number, ticks(0.00001), Step::Hint);
            }
            (Ok(Heard::Unknown), _) => self.answer(number, op.number, Answer::Unknown),
            (Ok(Heard::Superseded), _) => self.answer(number, op.number, Answer::Superseded),
        }
    }

    pub(super) fn looked(&mut self, number: usize, op: u64) {
        if let Some(op) = self.nodes[number].ops.get(&op).cloned() {
            self.beat(number, &op, false);
        }
    }

    /// Its deadline has passed.
    pub(super) fn refuse_op(&mut self, number: usize, op: u64) {
        // An outcome that is there counts, late as it is; and a beat whose look is done waits for nothing any more.
        self.poll_replies(number);
        let node = &mut self.nodes[number];
        node.looking.retain(|(looking, _)| *looking != op);
        node.replies.retain(|(_, to)| *to != ReplyTo::Op(op));
        self.answer(number, op, Answer::Unavailable);
    }

    /// Whoever waits for an outcome goes on.
    pub(super) fn poll_replies(&mut self, number: usize) {
        let mut at = 0;
        while at < self.nodes[number].replies.len() {
            let outcome = match self.nodes[number].replies[at].0.try_recv() {
                Err(TryRecvError::Empty) => {
                    at += 1;
                    continue;
                }
                Ok(outcome) => outcome,
                Err(TryRecvError::Closed) => Outcome::Unavailable(String::new()),
            };
            let (_, to) = self.nodes[number].replies.remove(at);
            self.outcome(number, to, &outcome);
        }
    }

    fn outcome(&mut self, number: usize, to: ReplyTo, outcome: &Outcome) {
        self.trace.add(self.now, "outcome", &[place(number)], || format!("{to:?} {outcome:?}"));
        match to {
            ReplyTo::Op(op) => {
                let answer = match outcome {
                    Outcome::Done { .. } => Answer::Done,
                    Outcome::Unknown => Answer::Unknown,
                    Outcome::Superseded => Answer::Superseded,
                    Outcome::Full(cap) => unreachable!("nothing is bounded here: {cap:?}"),
                    Outcome::Unavailable(_) => Answer::Unavailable,
                };
                self.answer(number, op, answer);
            }
            ReplyTo::Expire(id) => {
                let sighting = self.nodes[number].sighting(self.now);
                let node = &mut self.nodes[number];
                if !matches!(outcome, Outcome::Done { .. }) {
                    node.leases.not_removed(id, &sighting);
                }
                node.removing -= 1;
                if node.removing == 0 {
                    self.tick_again(number, Task::Expire, Step::ExpireTick);
                }
            }
            ReplyTo::Revive(id) => {
                self.nodes[number].revive_replies -= 1;
                if settles(outcome) {
                    self.revived(number, id);
                }
                self.revive_over(number);
            }
        }
    }

    fn answer(&mut self, number: usize, op: u64, answer: Answer) {
        let Some(op) = self.nodes[number].ops.remove(&op) else { return };
        let key = &self.keys[op.key];
        let calm = self.calm();
        self.trace
            .add(self.now, "answer", &[place(number), place(op.sidecar)], || format!("{op:?} {answer:?}"));
        self.judge.answered(&self.store, key, (&op, answer), calm, self.now);
        self.gone(&op);
        let delay = self.upto(ticks(0.005));
        self.after(delay, Event::Sidecar(op.sidecar, SidecarStep::Told(op.number, answer)));
    }
}
