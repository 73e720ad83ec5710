//! What a node's tasks do, from one point at which they wait to the next: the loops of `flush` and of
//! `fanout/follow.rs`, without their waiting.

use std::{collections::HashMap, time::Duration};

use tokio::sync::oneshot;

use super::{
    Bug, TICK,
    node::{Commit, Follow, Node, ReplyTo, Request, Response, Step, Task},
    plan::ticks,
    world::{World, place},
};
use crate::{
    clock::Moment,
    entry::{Change, EntryId, Key},
    flush::{
        batch::{ATTEMPTS, Batch, answer, take_batch},
        beats::{Row, settle},
        buffer::Buffer,
        expire::removal_due,
        revive::revival,
    },
    lease::{Outcome, Submission, Write},
    store::{BeatRow, Committed},
};

impl World {
    pub(super) fn step(&mut self, number: usize, step: Step) {
        match step {
            Step::Start => self.load(number),
            Step::BeatTick => self.beat_tick(number),
            Step::FollowWake => {
                self.nodes[number].follow = Follow::Waiting;
                self.follow_if_asked(number);
            }
            Step::FollowTick => {
                self.tick_passed(number, Task::Follow);
                if self.bug == Some(Bug::EndsByNow) && self.nodes[number].sighting(self.now).loaded {
                    let now = self.moment(number);
                    self.nodes[number].leases.advance_sight(now, now);
                }
                self.nodes[number].asked = true;
                self.follow_if_asked(number);
                self.tick_again(number, Task::Follow, Step::FollowTick);
            }
            Step::Hint => {
                self.nodes[number].asked = true;
                self.follow_if_asked(number);
            }
            Step::CommitWake => self.next_batch(number),
            Step::ExpireTick => self.expire_tick(number),
            Step::ReviveWake => self.revive(number),
            Step::Response(task, call, response) => self.response(number, task, call, response),
            Step::CallLate(task, call) => self.response(number, task, call, Response::Failed),
            Step::Op(op) => self.op(number, op),
            Step::OpLate(op) | Step::LookLate(op) => self.refuse_op(number, op),
            Step::Looked(op) => self.looked(number, op),
        }
        self.poll_replies(number);
    }

    pub(super) fn moment(&self, number: usize) -> Moment {
        self.nodes[number].clock.at(self.now)
    }

    fn response(&mut self, number: usize, task: Task, call: u64, response: Response) {
        if self.nodes[number].calls.get(&task) != Some(&call) {
            return;
        }
        self.nodes[number].calls.remove(&task);
        self.trace.add(self.now, "response", &[place(number)], || response.words("got"));
        match task {
            Task::Beats => self.beats_written(number, response),
            Task::Follow => self.followed(number, response),
            Task::Commit => self.committed(number, response),
            Task::Expire => self.noted(number, response),
            Task::Revive => self.revivals(number, response),
        }
    }

    /// A tick has begun: the next comes a tick later at the earliest.
    fn tick_passed(&mut self, number: usize, task: Task) {
        let next = self.now + self.nodes[number].clock.takes(TICK);
        self.nodes[number].next_tick.insert(task, next);
    }

    pub(super) fn tick_again(&mut self, number: usize, task: Task, step: Step) {
        let next = self.nodes[number].next_tick.get(&task).copied().unwrap_or_default();
        self.step_in(number, next.saturating_sub(self.now), step);
    }

    // flush/beats.rs

    fn beat_tick(&mut self, number: usize) {
        self.tick_passed(number, Task::Beats);
        if !self.nodes[number].leases.sighting(self.moment(number)).loaded {
            return self.tick_again(number, Task::Beats, Step::BeatTick);
        }
        let node = &mut self.nodes[number];
        node.buffer.add(node.leases.take_beats());
        self.write_row(number);
    }

    fn write_row(&mut self, number: usize) {
        let before = self.moment(number);
        let node = &mut self.nodes[number];
        let (seq, ids, waited) = node.buffer.row(before);
        let ids = ids.to_vec();
        node.row = Some((seq, before));
        if self.bug == Some(Bug::ForgetsBeats) {
            node.leases.beats_written(&ids);
            node.buffer = Buffer::new();
            for _ in 1..seq {
                node.buffer.repeated();
            }
        }
        self.call(number, Task::Beats, Request::WriteBeats { seq, ids, waited, taken: self.now });
    }

    fn beats_written(&mut self, number: usize, response: Response) {
        let node = &mut self.nodes[number];
        if let Response::Written(written) = response {
            let row = node.row.take().expect("a row is on its way");
            match settle(&node.leases, &mut node.buffer, written) {
                Row::Repeated => return self.write_row(number),
                Row::Written { missing, .. } => {
                    (node.own_row, node.own_changed) = (row, true);
                    if self.bug == Some(Bug::NoRevival) {
                        node.leases.beats_written(&missing);
                    } else if !missing.is_empty() {
                        node.missing.extend(missing);
                        self.step_in(number, Duration::ZERO, Step::ReviveWake);
                    }
                    self.follow_if_asked(number);
                }
            }
        }
        self.tick_again(number, Task::Beats, Step::BeatTick);
    }

    // fanout/follow.rs

    fn load(&mut self, number: usize) {
        let before = self.moment(number);
        self.nodes[number].follow = Follow::Loading { before };
        self.call(number, Task::Follow, Request::Load);
    }

    fn follow_if_asked(&mut self, number: usize) {
        let begun = self.moment(number);
        let node = &mut self.nodes[number];
        if !matches!(node.follow, Follow::Waiting) || !(node.asked || node.own_changed) {
            return;
        }
        (node.asked, node.own_changed) = (false, false);
        node.follow = Follow::Beats { begun, own: node.own_row };
        self.read_beats(number);
    }

    fn read_beats(&mut self, number: usize) {
        let cursors = self.nodes[number].applier.beat_cursors();
        self.call(number, Task::Follow, Request::BeatsAfter(cursors));
    }

    fn read_changes(&mut self, number: usize) {
        let applier = &self.nodes[number].applier;
        let request = Request::ChangesAfter(applier.cursor(), applier.known(self.plan.page));
        self.call(number, Task::Follow, request);
    }

    fn followed(&mut self, number: usize, response: Response) {
        let now = self.moment(number);
        let node = &mut self.nodes[number];
        let follow = std::mem::replace(&mut node.follow, Follow::Busy);
        match (follow, response) {
            (Follow::Loading { before }, Response::Loaded(loaded)) => {
                let first = !node.leases.sighting(now).loaded;
                node.applier.load(loaded, now);
                if first {
                    node.leases.advance_sight(before, now);
                    self.tasks_begin(number);
                }
                self.check_revisions(number);
                self.read_over(number);
            }
            (Follow::Loading { before }, _) => {
                node.follow = Follow::Loading { before };
                let pause = node.clock.takes(TICK);
                self.step_in(number, pause, Step::Start);
            }
            (Follow::Beats { begun, own }, Response::Beats(rows)) => {
                if rows.is_empty() {
                    node.follow = Follow::Changes { begun, own };
                    return self.read_changes(number);
                }
                let heard = heard(node, rows);
                if node.applier.beat_rows(&heard, node.writer, now).is_err() {
                    return self.load(number);
                }
                node.follow = Follow::Beats { begun, own };
                self.read_beats(number);
            }
            (Follow::Changes { begun, own }, Response::Changes(page, most)) => {
                if node.applier.log_page(&page, now).is_err() {
                    return self.load(number);
                }
                self.check_revisions(number);
                if page.rows.len() == most {
                    self.nodes[number].follow = Follow::Changes { begun, own };
                    return self.read_changes(number);
                }
                self.read_done(number, begun, own);
                self.read_over(number);
            }
            _ => self.read_over(number),
        }
    }

    fn tasks_begin(&mut self, number: usize) {
        for step in [Step::BeatTick, Step::FollowTick, Step::ExpireTick] {
            let delay = self.upto(TICK);
            self.step_in(number, delay, step);
        }
    }

    fn read_done(&mut self, number: usize, begun: Moment, (seq, before): (i64, Moment)) {
        let now = self.moment(number);
        let node = &mut self.nodes[number];
        if self.bug == Some(Bug::NoFloor) {
            // As if sight had moved all the time.
            let mut at = node.leases.sighting(now).sight.plus(TICK);
            while at < before {
                node.leases.advance_sight(at, at);
                at = at.plus(TICK);
            }
        }
        if self.bug == Some(Bug::SightWithoutWriting) {
            node.leases.advance_sight(begun, now);
        } else if node.applier.has_read(node.writer, seq) {
            node.leases.advance_sight(before, now);
        }
        node.applier.end_orphans(&node.leases.sighting(now));
        let looking = std::mem::take(&mut node.looking);
        let (over, waiting): (Vec<_>, Vec<_>) = looking.into_iter().partition(|(_, asked)| begun > *asked);
        node.looking = waiting;
        for (op, _) in over {
            let delay = self.upto(ticks(0.002));
            self.step_in(number, delay, Step::Looked(op));
        }
    }

    fn read_over(&mut self, number: usize) {
        self.step_in(number, ticks(0.005), Step::FollowWake);
    }

    // flush/commit.rs

    pub(super) fn submit(&mut self, number: usize, key: Key, write: Write, to: ReplyTo) {
        let (reply, outcome) = oneshot::channel();
        let node = &mut self.nodes[number];
        node.waiting.push_back(Submission { key, write, actor: None, reply, place: None });
        node.replies.push((outcome, to));
        self.wake_commit(number);
    }

    fn wake_commit(&mut self, number: usize) {
        if matches!(self.nodes[number].commit, Commit::Idle) {
            let delay = self.upto(ticks(0.001));
            self.step_in(number, delay, Step::CommitWake);
        }
    }

    fn next_batch(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        if !matches!(node.commit, Commit::Idle) {
            return;
        }
        while !node.waiting.is_empty() {
            let submissions = take_batch(&mut node.waiting);
            if !submissions.is_empty() {
                return self.decide(number, submissions, ATTEMPTS);
            }
        }
    }

    fn decide(&mut self, number: usize, submissions: Vec<Submission>, attempts: usize) {
        if submissions.is_empty() || attempts == 0 {
            return self.refuse_batch(number, submissions);
        }
        let keys = submissions.iter().map(|submission| submission.key.clone()).collect();
        self.nodes[number].commit = Commit::Reading { submissions, attempts };
        self.call(number, Task::Commit, Request::Read(keys));
    }

    fn refuse_batch(&mut self, number: usize, submissions: Vec<Submission>) {
        for submission in submissions {
            answer(submission, Outcome::Unavailable("the store did not take it".to_owned()));
        }
        self.nodes[number].commit = Commit::Idle;
        self.wake_commit(number);
    }

    fn committed(&mut self, number: usize, response: Response) {
        let now = self.moment(number);
        let node = &mut self.nodes[number];
        match (std::mem::replace(&mut node.commit, Commit::Idle), response) {
            (Commit::Reading { submissions, attempts }, Response::Standings(standings)) => {
                let batch = Batch::decide(submissions, standings, node.leases.room(), &mut node.waiting);
                self.commit_batch(number, batch, attempts);
            }
            (Commit::Reading { submissions, .. }, _) => self.refuse_batch(number, submissions),
            (Commit::Committing { batch, attempts }, Response::Committed(Committed::Done(changes))) => {
                let applied: Vec<Change> = changes.iter().flatten().cloned().collect();
                node.applier.committed(&applied, now);
                let again = batch.acknowledge(&node.leases, changes, now);
                self.check_revisions(number);
                self.decide(number, again, attempts - 1);
            }
            (
                Commit::Committing { mut batch, attempts },
                Response::Committed(Committed::Conflict(places)),
            ) => {
                batch.conflicted(&places);
                self.commit_batch(number, batch, attempts);
            }
            (Commit::Committing { batch, .. }, _) => self.refuse_batch(number, batch.into_submissions()),
            (Commit::Idle, _) => {}
        }
    }

    fn commit_batch(&mut self, number: usize, batch: Batch, attempts: usize) {
        let mutations = batch.mutations(self.moment(number));
        if mutations.is_empty() {
            return self.decide(number, batch.into_submissions(), attempts - 1);
        }
        self.nodes[number].commit = Commit::Committing { batch, attempts };
        self.call(number, Task::Commit, Request::Commit(mutations));
    }

    // flush/expire.rs

    fn expire_tick(&mut self, number: usize) {
        self.tick_passed(number, Task::Expire);
        let sighting = self.nodes[number].sighting(self.now);
        let ended = self.nodes[number].leases.newly_ended(&sighting);
        if ended.is_empty() {
            return self.remove_due(number);
        }
        self.nodes[number].noting.clone_from(&ended);
        self.call(number, Task::Expire, Request::Note(ended));
    }

    fn noted(&mut self, number: usize, response: Response) {
        let noted: HashMap<EntryId, i64> = match response {
            Response::Noted(noted) => noted.into_iter().collect(),
            _ => HashMap::new(),
        };
        let sighting = self.nodes[number].sighting(self.now);
        for id in std::mem::take(&mut self.nodes[number].noting) {
            let mut due = removal_due(sighting.now, TICK, &mut self.rng);
            if self.bug == Some(Bug::NoGrace) {
                due = sighting.now;
            }
            let beat = noted.get(&id).map(|beat| (*beat, due));
            self.nodes[number].leases.noted(id, beat, &sighting);
        }
        self.remove_due(number);
    }

    fn remove_due(&mut self, number: usize) {
        let sighting = self.nodes[number].sighting(self.now);
        let due = self.nodes[number].leases.due(&sighting);
        if due.is_empty() || self.bug == Some(Bug::NoExpiry) {
            return self.tick_again(number, Task::Expire, Step::ExpireTick);
        }
        self.nodes[number].removing = due.len();
        for ended in due {
            let write = Write::Expire {
                id: ended.id,
                noted_beat: ended.noted_beat,
                last_seen: 0.0,
                held_for: ended.held_for,
            };
            self.submit(number, ended.key, write, ReplyTo::Expire(ended.id));
        }
    }

    // flush/revive.rs

    fn revive(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        if !node.revive_idle {
            return;
        }
        node.reviving.append(&mut node.missing);
        let sees = !node.sighting(self.now).blind;
        let node = &mut self.nodes[number];
        if !sees && !node.reviving.is_empty() {
            let pause = node.clock.takes(TICK);
            self.step_in(number, pause, Step::ReviveWake);
        } else if !node.reviving.is_empty() {
            node.revive_idle = false;
            let ids = node.reviving.iter().copied().collect();
            self.call(number, Task::Revive, Request::Expired(ids));
        }
    }

    fn revivals(&mut self, number: usize, response: Response) {
        if let Response::Expired(expired) = response {
            let mut settled = self.nodes[number].reviving.clone();
            for change in expired {
                let (reply, outcome) = oneshot::channel();
                let id = change.id;
                let node = &mut self.nodes[number];
                let Some(submission) = revival(&node.leases, change, reply) else { continue };
                settled.remove(&id);
                node.waiting.push_back(submission);
                node.replies.push((outcome, ReplyTo::Revive(id)));
                node.revive_replies += 1;
                self.wake_commit(number);
            }
            for id in settled {
                self.revived(number, id);
            }
        }
        self.revive_over(number);
    }

    pub(super) fn revived(&mut self, number: usize, id: EntryId) {
        self.nodes[number].reviving.remove(&id);
        self.nodes[number].leases.beats_written(&[id]);
    }

    pub(super) fn revive_over(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        if node.revive_replies == 0 && !node.revive_idle {
            node.revive_idle = true;
            let pause = if node.reviving.is_empty() { ticks(0.0) } else { node.clock.takes(TICK) };
            self.step_in(number, pause, Step::ReviveWake);
        }
    }

    /// What a key holds only becomes newer.
    fn check_revisions(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        for key in &self.keys {
            let Some(revision) = node.view.revision(key) else { continue };
            let last = node.revisions.entry(key.clone()).or_insert(revision);
            if revision < *last {
                self.judge
                    .fail(|| format!("node {number} went back from revision {last} of {key} to {revision}"));
            }
            *last = revision.max(*last);
        }
    }
}

/// The rows as the node takes them: as they are.
fn heard(node: &Node, rows: Vec<BeatRow>) -> Vec<BeatRow> {
    rows.into_iter()
        .map(
            |row| {
                if node.deaf && row.writer != node.writer { BeatRow { ids: Vec::new(), ..row } } else { row }
            },
        )
        .collect()
}
