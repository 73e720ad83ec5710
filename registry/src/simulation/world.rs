//! Time, the order of events, and the faults.

use std::{collections::BTreeMap, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    Bug, Run, TICK, Time,
    judge::Judge,
    network::Call,
    node::{Clock, Node, Step},
    plan::{Plan, Wrong, ticks},
    sidecar::{SidecarStep, State},
    store::{ModelStore, Snapshot},
    trace::Trace,
};
use crate::{entry::Key, store::Writer};

/// After the faults: clients go on for this long, then nodes have as long to agree.
const CALM: Duration = TICK.saturating_mul(14);
const REST: Duration = TICK.saturating_mul(8);

/// When nothing is wrong any more, a node that still refuses is.
const RECOVERED: Duration = TICK.saturating_mul(6);

#[derive(Debug)]
pub(super) enum Event {
    /// A node's process run does something; while it is paused, it waits.
    Node(usize, u64, Step),
    Arrive(Call),
    /// The call got the locks that it waited for since it saw this.
    Execute(Call, Snapshot),
    Sidecar(usize, SidecarStep),
    Read,
    Pause(usize),
    Resume(usize),
    Kill(usize),
    Start(usize),
    Trim,
    SetClock(Duration),
}

pub(super) struct World {
    pub(super) now: Time,
    order: u64,
    queue: BTreeMap<(Time, u64), Box<Event>>,
    pub(super) rng: StdRng,
    pub(super) plan: Plan,
    pub(super) bug: Option<Bug>,
    pub(super) store: ModelStore,
    pub(super) nodes: Vec<Node>,
    pub(super) sidecars: Vec<State>,
    pub(super) keys: Vec<Key>,
    pub(super) judge: Judge,
    pub(super) trace: Trace,
    numbers: u64,
    agreed: bool,
}

impl World {
    pub(super) fn new(seed: u64, bug: Option<Bug>, words: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let plan = Plan::draw(&mut rng);
        let mut trace = Trace::new(words);
        trace.add(Duration::ZERO, "plan", &[], || format!("{plan:#?}"));
        let key = |number: usize| Key {
            service: format!("s{}", number % 2).parse().expect("a name"),
            instance: format!("i{number}").parse().expect("a name"),
        };
        let mut world = Self {
            now: Duration::ZERO,
            order: 0,
            queue: BTreeMap::new(),
            rng,
            bug,
            store: ModelStore::default(),
            nodes: Vec::new(),
            sidecars: plan.sidecars.iter().map(|_| State::new()).collect(),
            keys: (0..plan.ttls.len()).map(key).collect(),
            judge: Judge::new(&plan),
            trace,
            numbers: 0,
            agreed: false,
            plan,
        };
        world.store.forgets_sessions = bug == Some(Bug::TakesEndedSessions);
        world.begin();
        world
    }

    fn begin(&mut self) {
        for number in 0..self.plan.clocks.len() {
            let (start, rate) = self.plan.clocks[number];
            let writer = self.writer();
            self.nodes.push(Node::new(0, writer, Clock { start, rate }, self.bug == Some(Bug::DeafToOthers)));
            let delay = self.upto(ticks(0.5));
            self.step_in(number, delay, Step::Start);
        }
        for number in 0..self.sidecars.len() {
            let start = self.plan.sidecars[number].start;
            self.at(start, Event::Sidecar(number, SidecarStep::Act));
            let end_at = self.plan.sidecars[number].end_at;
            self.at(end_at, Event::Sidecar(number, SidecarStep::End));
        }
        for fault in self.plan.faults.clone() {
            for node in (0..self.nodes.len()).filter(|node| fault.node.is_none_or(|of| of == *node)) {
                match fault.what {
                    Wrong::Paused => {
                        self.at(fault.from, Event::Pause(node));
                        self.at(fault.to, Event::Resume(node));
                    }
                    Wrong::Down => {
                        self.at(fault.from, Event::Kill(node));
                        self.at(fault.to, Event::Start(node));
                    }
                    _ => {}
                }
            }
        }
        if self.plan.trims {
            self.at(ticks(5.0), Event::Trim);
        }
        if let Some((at, by)) = self.plan.clock_set {
            self.at(at, Event::SetClock(by));
        }
        self.at(ticks(0.5), Event::Read);
    }

    /// Until the end, or until something is broken.
    pub(super) fn run(mut self) -> Run {
        let end = self.plan.chaos + CALM + REST;
        while let Some(((at, _), event)) = self.queue.pop_first() {
            if at > end || self.judge.verdict.is_some() || self.agreed {
                break;
            }
            self.now = at;
            let any_sees = self.nodes.iter().any(|node| node.sees(at));
            self.judge.time(at, any_sees);
            self.happen(*event);
        }
        if !self.agreed {
            let why = self.disagreement().unwrap_or_default();
            self.judge.fail(|| format!("the nodes did not come to rest and agree: {why}"));
        }
        Run {
            verdict: self.judge.verdict,
            hash: self.trace.hash(),
            events: self.trace.events(),
            required: self.judge.required,
            trace: self.trace.text(),
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Node(number, generation, step) => self.node_event(number, generation, step),
            Event::Arrive(call) => self.arrive(call),
            Event::Execute(call, snapshot) => self.execute(&call, Some(&snapshot)),
            Event::Sidecar(number, step) => self.sidecar(number, step),
            Event::Read => self.read(),
            Event::Pause(number) => {
                self.trace.add(self.now, "pause", &[place(number)], || "stopped".to_owned());
                self.nodes[number].paused = true;
            }
            Event::Resume(number) => self.resume(number),
            Event::Kill(number) => self.kill(number),
            Event::Start(number) => self.start(number),
            Event::Trim => {
                let before = self.now.saturating_sub(ticks(8.0));
                let removed = self.store.trim(before);
                self.trace.add(self.now, "trim", &[place(removed)], || "log rows removed".to_owned());
                let pause = ticks(self.rng.random_range(1.0..6.0));
                self.after(pause, Event::Trim);
            }
            Event::SetClock(by) => self.store.clock_ahead = by,
        }
    }

    fn node_event(&mut self, number: usize, generation: u64, step: Step) {
        let node = &mut self.nodes[number];
        if !node.up || node.generation != generation {
            return;
        }
        if node.paused {
            node.deferred.push((generation, step));
            return;
        }
        self.step(number, step);
    }

    fn resume(&mut self, number: usize) {
        if self.plan.wrong(number, self.now).any(|wrong| wrong == Wrong::Paused) {
            return;
        }
        self.trace.add(self.now, "resume", &[place(number)], || "goes on".to_owned());
        let node = &mut self.nodes[number];
        node.paused = false;
        let mut deferred = std::mem::take(&mut node.deferred);
        // Which of the things that became due meanwhile comes first is the scheduler's whim.
        if self.rng.random_bool(0.3) {
            use rand::seq::SliceRandom;
            deferred.shuffle(&mut self.rng);
        }
        for (generation, step) in deferred {
            let delay = self.upto(ticks(0.005));
            self.after(delay, Event::Node(number, generation, step));
        }
    }

    fn kill(&mut self, number: usize) {
        self.trace.add(self.now, "kill", &[place(number)], || "killed".to_owned());
        let node = &mut self.nodes[number];
        node.up = false;
        node.deferred.clear();
        for op in std::mem::take(&mut node.ops).into_values() {
            self.gone(&op);
        }
    }

    fn start(&mut self, number: usize) {
        if self.nodes[number].up || self.plan.wrong(number, self.now).any(|wrong| wrong == Wrong::Down) {
            return;
        }
        self.trace.add(self.now, "start", &[place(number)], || "a new process".to_owned());
        let old = &self.nodes[number];
        let (generation, clock, paused) = (old.generation + 1, old.clock, old.paused);
        let writer = self.writer();
        self.nodes[number] = Node::new(generation, writer, clock, self.bug == Some(Bug::DeafToOthers));
        self.nodes[number].paused = paused;
        self.step_in(number, Duration::ZERO, Step::Start);
    }

    /// Somebody asks a node for the lists.
    fn read(&mut self) {
        let number = self.rng.random_range(0..self.nodes.len());
        let pause = ticks(self.rng.random_range(0.1..0.6));
        self.after(pause, Event::Read);
        let node = &self.nodes[number];
        let sighting = node.sighting(self.now);
        if node.up && !node.paused && sighting.loaded {
            let mut listed = 0;
            for (place, key) in self.keys.iter().enumerate() {
                listed = listed * 2 + i64::from(node.lists(key, &sighting));
                self.judge.list((&self.plan, &self.store), (number, node), (place, key), self.now);
            }
            self.trace.add(self.now, "list", &[place(number), listed, i64::from(sighting.blind)], || {
                format!("sight {:?}", node.sight(self.now))
            });
        }
        if self.now > self.plan.chaos + CALM + ticks(1.0) && self.disagreement().is_none() {
            self.agreed = true;
        }
    }

    /// Why the nodes cannot be said to hold what the store holds.
    fn disagreement(&self) -> Option<String> {
        let stored: Vec<_> = self.store.instances().values().collect();
        for (number, node) in self.nodes.iter().enumerate() {
            let cursors = node.applier.beat_cursors();
            let read = self
                .store
                .writers()
                .iter()
                .all(|(writer, seq)| cursors.get(writer).is_some_and(|cursor| cursor + 3 > *seq));
            if !node.sees(self.now) || node.applier.cursor() != self.store.head() || !read || !node.at_rest()
            {
                return Some(format!("node {number} is not at rest"));
            }
            let mut entries = Vec::new();
            node.view.each_service(None, |service| {
                entries.extend(service.entries().iter().cloned());
                true
            });
            entries.sort_by_key(|entry| entry.record.key());
            let same = entries.len() == stored.len()
                && entries.iter().zip(&stored).all(|(entry, stored)| {
                    (entry.id, entry.revision) == (stored.id, stored.revision)
                        && entry.record == stored.record
                        && node.leases.lease(&entry.record.key()).is_some_and(|(id, ..)| id == stored.id)
                        && !node.leases.has_unwritten_beat(stored.id)
                });
            if !same || node.leases.len() != stored.len() {
                let held =
                    entries.iter().map(|entry| (entry.record.key().to_string(), entry.id, entry.revision));
                let stored =
                    stored.iter().map(|entry| (entry.record.key().to_string(), entry.id, entry.revision));
                return Some(format!(
                    "node {number} holds {:?}, the store {:?}",
                    held.collect::<Vec<_>>(),
                    stored.collect::<Vec<_>>()
                ));
            }
        }
        let ids: std::collections::BTreeSet<_> = stored.iter().map(|stored| stored.id).collect();
        (ids != self.store.lease_ids()).then(|| "instances and leases differ in the store".to_owned())
    }

    /// Nothing is wrong, and the calls of the store are quick.
    pub(super) fn calm(&self) -> bool {
        self.now > self.plan.chaos + RECOVERED && self.plan.latency < ticks(0.05)
    }

    /// Clients end before the nodes are asked to agree.
    pub(super) fn closing(&self) -> bool {
        self.now > self.plan.chaos + CALM
    }

    pub(super) fn step_in(&mut self, number: usize, delay: Duration, step: Step) {
        let generation = self.nodes[number].generation;
        self.after(delay, Event::Node(number, generation, step));
    }

    pub(super) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(super) fn at(&mut self, at: Time, event: Event) {
        self.order += 1;
        self.queue.insert((at, self.order), Box::new(event));
    }

    pub(super) fn upto(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.rng.random_range(0.0..1.0))
    }

    const fn writer(&mut self) -> Writer {
        self.number().cast_signed()
    }

    pub(super) const fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

/// A number for the trace.
pub(super) fn place(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
