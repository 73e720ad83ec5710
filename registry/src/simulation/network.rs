//! Calls on their way to the store and back: late, lost, or carried out with nobody to hear of it.

use rand::Rng;

use super::{
    Bug, Time,
    node::{Request, Response, Step, Task},
    plan::{Wrong, ticks},
    store::Snapshot,
    world::{Event, World, place},
};
use crate::{
    entry::Kind,
    store::{CALL_DEADLINE, Committed, Writer},
};

/// A call on its way to the store.
#[derive(Debug)]
pub(super) struct Call {
    node: usize,
    generation: u64,
    writer: Writer,
    task: Task,
    number: u64,
    request: Request,
    deadline: Time,
    answer_lost: bool,
}

impl World {
    /// A node asks the store.
    pub(super) fn call(&mut self, number: usize, task: Task, request: Request) {
        let call = self.number();
        let deadline = self.now + self.nodes[number].clock.takes(CALL_DEADLINE);
        self.nodes[number].calls.insert(task, call);
        let name = request.name();
        self.trace.add(self.now, name, &[place(number)], || request.words());
        let mut call = Call {
            node: number,
            generation: self.nodes[number].generation,
            writer: self.nodes[number].writer,
            task,
            number: call,
            request,
            deadline,
            answer_lost: false,
        };
        let mut delay = self.upto(self.plan.latency);
        let wrong: Vec<Wrong> = self.plan.wrong(number, self.now).collect();
        for wrong in wrong {
            match wrong {
                Wrong::Slow => delay += self.upto(ticks(1.2)),
                Wrong::Lossy if self.rng.random_bool(0.25) => return self.lost(&call),
                Wrong::Lossy => call.answer_lost |= self.rng.random_bool(0.33),
                Wrong::AnswersLost => call.answer_lost = true,
                _ => {}
            }
        }
        self.after(delay, Event::Arrive(call));
    }

    /// The node hears nothing, or is told quickly that there is nobody.
    fn lost(&mut self, call: &Call) {
        let at = if self.rng.random_bool(0.5) { call.deadline } else { self.now + self.upto(ticks(0.05)) };
        let step = Step::CallLate(call.task, call.number);
        self.at(at.max(self.now), Event::Node(call.node, call.generation, step));
    }

    pub(super) fn arrive(&mut self, call: Call) {
        let wrong: Vec<Wrong> = self.plan.wrong(call.node, self.now).collect();
        let fails = |wrong: &Wrong| match wrong {
            Wrong::CutOff => true,
            Wrong::WritesFail => call.request.writes(),
            Wrong::ReadsFail => !call.request.writes(),
            _ => false,
        };
        if wrong.iter().any(fails) {
            return self.lost(&call);
        }
        if self.bug == Some(Bug::OverlooksBatch) && matches!(call.request, Request::Commit(_)) {
            let snapshot = self.store.snapshot();
            let wait = self.upto(ticks(0.5));
            return self.after(wait, Event::Execute(call, snapshot));
        }
        self.execute(&call, None);
    }

    pub(super) fn execute(&mut self, call: &Call, overlooking: Option<&Snapshot>) {
        let head = self.store.head();
        let response = self.carry_out(call, overlooking);
        self.trace.add(self.now, "executed", &[place(call.node), self.store.head()], || {
            response.words(call.request.name())
        });
        let hint = self.store.head() > head || matches!(call.request, Request::WriteBeats { .. });
        for number in 0..self.nodes.len() {
            if hint
                && !self.rng.random_bool(self.plan.hint_loss)
                && !self.plan.faulty(number, self.now, self.now)
            {
                let delay = self.upto(self.plan.latency);
                self.step_in(number, delay, Step::Hint);
            }
        }
        let cut_off = self.plan.wrong(call.node, self.now).any(|wrong| wrong == Wrong::CutOff);
        let mut delay = self.upto(self.plan.latency);
        if self.plan.wrong(call.node, self.now).any(|wrong| wrong == Wrong::Slow) {
            delay += self.upto(ticks(0.5));
        }
        if call.answer_lost || cut_off || self.now + delay > call.deadline {
            return self.at(
                call.deadline.max(self.now),
                Event::Node(call.node, call.generation, Step::CallLate(call.task, call.number)),
            );
        }
        self.after(
            delay,
            Event::Node(call.node, call.generation, Step::Response(call.task, call.number, response)),
        );
    }

    fn carry_out(&mut self, call: &Call, overlooking: Option<&Snapshot>) -> Response {
        let limit = self.rng.random_range(1..=self.plan.page);
        let by = (call.node, call.generation);
        match &call.request {
            Request::Load => Response::Loaded(self.store.load(self.now)),
            Request::Read(keys) => Response::Standings(self.store.read(keys)),
            Request::Commit(batch) => {
                let committed = self.store.commit(batch, overlooking, self.now);
                if let Committed::Done(changes) = &committed {
                    for change in changes.iter().flatten().filter(|change| change.kind.beats()) {
                        let key = self.keys.iter().position(|key| *key == change.key()).expect("a known key");
                        if change.kind == Kind::Revive {
                            let waited = self.nodes[call.node].clock.takes(change.body.waited());
                            self.judge.revived(key, by, (change.id, waited), self.now);
                        } else {
                            self.judge.change(&self.plan, key, change.id, self.now);
                        }
                    }
                }
                Response::Committed(committed)
            }
            Request::WriteBeats { seq, ids, waited, taken } => {
                let written = self.store.write_beats(call.writer, *seq, ids, *waited, self.now);
                if !written.repeated {
                    self.judge.row(by, ids, &written.missing, *taken, self.now);
                }
                Response::Written(written)
            }
            Request::BeatsAfter(cursors) => Response::Beats(self.store.beats_after(cursors, limit)),
            Request::ChangesAfter(after, known) => {
                Response::Changes(self.store.changes_after(*after, limit, known), limit)
            }
            Request::Note(ids) => Response::Noted(self.store.note_beats(ids)),
            Request::Expired(ids) => Response::Expired(self.store.expired(ids)),
        }
    }
}
