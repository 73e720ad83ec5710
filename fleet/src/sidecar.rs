//! One simulated sidecar: the real state machine with a made-up service beside it.
//!
//! In: orders of a scenario; the registry's answers.
//! Owns: the machine, its random source, the call under way.
//! Out: calls, each of them in the history, also those that were cut short.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::{BoxFuture, OptionFuture};
use rand::{SeedableRng, rngs::StdRng};
use registry_sidecar::{
    machine::{Action, Answer, Call, Effect, Machine, ProbeOutcome, Settings},
    reply,
};
use registry_wire::{Session, Status, Ttl, request};
use reqwest::Method;
use serde::Serialize;
use tokio::{sync::watch, time::sleep_until};

use crate::{
    catalog::{Catalog, Instance},
    client::Client,
    clock::Clock,
    history::{Act, At, Operation, Outcome, Recorder, What, Write},
};

/// Whether a simulated process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// At work.
    Runs,
    /// As by SIGSTOP: it does nothing, and its call under way is lost.
    Paused,
    /// As by SIGKILL.
    Killed,
    /// As by SIGTERM: it drains and deregisters.
    Leaves,
}

/// What a scenario wants of one sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Orders {
    pub(crate) process: Process,
    /// What its service's health endpoint says.
    pub(crate) healthy: bool,
}

/// What all sidecars of a fleet share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) catalog: Catalog,
    pub(crate) settings: Arc<Settings>,
    /// The URLs that sidecars use, by their places among all.
    pub(crate) targets: Vec<u8>,
    pub(crate) states: Vec<State>,
}

/// What the fleet knows of one sidecar.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Its last call but a deregistration was acknowledged.
    pub(crate) registered: AtomicBool,
    /// Sessions so far.
    sessions: AtomicU32,
}

/// Runs a sidecar until it has left or is killed. It starts after `delay`.
pub(crate) async fn run(
    shared: Arc<Shared>,
    instance: Instance,
    delay: Duration,
    seed: u64,
    mut orders: watch::Receiver<Orders>,
) {
    let begin = shared.clock.instant(shared.clock.now() + delay);
    tokio::select! {
        () = sleep_until(begin) => {}
        _ = orders.wait_for(|orders| matches!(orders.process, Process::Killed | Process::Leaves)) => return,
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let machine = Machine::new(Arc::clone(&shared.settings), shared.clock.now(), &mut rng);
    let mut sidecar =
        Sidecar { session: None, number: 0, machine, rng, shared, instance, orders: orders.clone() };
    sidecar.live(&mut orders).await;
    sidecar.set_registered(false);
}

struct Sidecar {
    shared: Arc<Shared>,
    instance: Instance,
    machine: Machine,
    rng: StdRng,
    /// The machine's session, and its number in the history.
    session: Option<Session>,
    number: u32,
    /// For its calls, which outlive no order to die.
    orders: watch::Receiver<Orders>,
}

impl Sidecar {
    async fn live(&mut self, orders: &mut watch::Receiver<Orders>) {
        let mut flight: Option<BoxFuture<'static, Answer>> = None;
        loop {
            let now = self.shared.clock.now();
            let ordered = *orders.borrow_and_update();
            match ordered.process {
                Process::Runs => {}
                Process::Killed => return,
                Process::Leaves => self.machine.shutdown(now, "the run is over"),
                Process::Paused => {
                    if flight.take().is_some() {
                        let lost = Answer::unavailable("lost while paused");
                        self.machine.answered(now, lost, &mut self.rng);
                    }
                    if orders.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
            }
            while let Some(effect) = self.machine.poll(now) {
                match effect {
                    Effect::Probe if ordered.healthy => self.machine.probed(now, ProbeOutcome::healthy()),
                    Effect::Probe => self.machine.probed(now, ProbeOutcome::unhealthy("HTTP 500")),
                    Effect::Log(_) => {}
                    Effect::Call(call) => {
                        let deadline = self.machine.call_deadline().unwrap_or(now);
                        flight = Some(self.call(call, deadline));
                    }
                    Effect::Exit => return,
                }
            }
            if flight.is_some() && self.machine.call_deadline().is_none_or(|deadline| now >= deadline) {
                flight = None;
                self.machine.answered(now, Answer::unavailable("no answer in time"), &mut self.rng);
                continue;
            }
            let Some(wake) = self.machine.wake() else { continue };
            tokio::select! {
                biased;
                Some(answer) = OptionFuture::from(flight.as_mut()) => {
                    flight = None;
                    self.answered(answer);
                }
                changed = orders.changed() => if changed.is_err() { return },
                () = sleep_until(self.shared.clock.instant(wake)) => {}
            }
        }
    }

    fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Granted { .. } => self.set_registered(true),
            Answer::Unknown | Answer::Superseded => self.set_registered(false),
            _ => {}
        }
        self.machine.answered(self.shared.clock.now(), answer, &mut self.rng);
    }

    fn set_registered(&self, registered: bool) {
        if let Some(state) = self.state() {
            state.registered.store(registered, Ordering::Release);
        }
    }

    fn state(&self) -> Option<&State> {
        self.shared.states.get(usize::try_from(self.instance).ok()?)
    }

    /// The number of the machine's session: another one when it has made another.
    fn session(&mut self) -> u32 {
        if self.session.as_ref() != Some(self.machine.session()) {
            self.session = Some(self.machine.session().clone());
            self.number = self.state().map_or(0, |state| state.sessions.fetch_add(1, Ordering::Relaxed) + 1);
        }
        self.number
    }

    fn call(&mut self, call: Call, deadline: Duration) -> BoxFuture<'static, Answer> {
        let session = self.session();
        let shared = Arc::clone(&self.shared);
        // Each sidecar begins at another URL, so that all nodes have work.
        let count = shared.targets.len().max(1);
        let turn = usize::try_from(self.instance).unwrap_or_default() + call.registry;
        let target = shared.targets.get(turn % count).copied().unwrap_or_default();
        let instance = self.instance;
        let orders = self.orders.clone();
        Box::pin(async move {
            let unsent = Unsent(&shared);
            let turn = shared.client.turn().await;
            if turn.is_none() || shared.clock.now() >= deadline {
                return Answer::unavailable("too many calls are under way");
            }
            unsent.sent();
            let kind = call.action.kind();
            let (method, path, body, usable) = request(&shared, instance, call.action);
            let act = match kind {
                registry_sidecar::machine::Kind::Register => Act::Register,
                registry_sidecar::machine::Kind::Beat => Act::Beat,
                registry_sidecar::machine::Kind::Drain => Act::Drain,
                registry_sidecar::machine::Kind::Deregister => Act::Deregister,
            };
            let write = Write { act, instance, session, usable, outcome: Outcome::Maybe };
            let mut noted =
                Noted { shared: &shared, orders, start: shared.clock.at(), target, status: 0, write };
            let reply = shared.client.send(usize::from(target), method, &path, body).await;
            let Some(found) = reply else {
                return Answer::unavailable("no answer");
            };
            noted.status = found.status;
            let answer = reply::read(kind, found.status, found.retry_after, &found.body);
            noted.write.outcome = outcome(&answer);
            answer
        })
    }
}

fn outcome(answer: &Answer) -> Outcome {
    match answer {
        Answer::Granted { .. } | Answer::Done => Outcome::Acknowledged,
        Answer::Unknown => Outcome::NotThere,
        Answer::Superseded => Outcome::Superseded,
        Answer::Refused { .. } | Answer::Overloaded { .. } => Outcome::Refused,
        Answer::Unavailable { .. } => Outcome::Maybe,
    }
}

/// Counts a call that is given up before it is its turn: the load generator's fault, not the registry's.
struct Unsent<'a>(&'a Shared);

impl Unsent<'_> {
    fn sent(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        self.0.recorder.unsent();
    }
}

/// Takes the call down when it is over, however it ends: a call that was cut short may have been carried out.
struct Noted<'a> {
    shared: &'a Shared,
    orders: watch::Receiver<Orders>,
    start: At,
    target: u8,
    status: u16,
    write: Write,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        let cut = matches!(self.orders.borrow().process, Process::Killed | Process::Paused);
        if cut && self.status == 0 {
            self.write.outcome = Outcome::CutShort;
        }
        self.shared.recorder.add(Operation {
            start: self.start,
            end: self.shared.clock.at(),
            target: self.target,
            status: self.status,
            what: What::Write(self.write),
        });
    }
}

type Request = (Method, String, Option<Vec<u8>>, bool);

fn request(shared: &Shared, instance: Instance, action: Action) -> Request {
    let catalog = &shared.catalog;
    let service = catalog.service(catalog.service_of(instance));
    let path = format!("/services/{service}/instances/{}", catalog.instance(instance));
    match action {
        Action::Register { session, status, output, metadata } => {
            let endpoint = format!("http://fleet.invalid:{}", 1024 + instance % 60_000);
            let Ok(endpoint) = endpoint.parse() else {
                unreachable!("the host and the port keep the rules of an endpoint")
            };
            let body = request::Register {
                endpoint,
                health_endpoint: None,
                metadata: registry_wire::Metadata::clone(&metadata),
                ttl_seconds: Some(ttl(shared)),
                session: Some(session),
                status: Some(status),
                output,
            };
            (Method::PUT, path, json(&body), status != Status::Critical)
        }
        Action::Beat { session, status, output } => {
            let body = request::Heartbeat { session: Some(session), status: Some(status), output };
            (Method::PUT, path + "/heartbeat", json(&body), status != Status::Critical)
        }
        Action::Drain { session, reason } => {
            let body = request::Drain { reason, session: Some(session) };
            (Method::PUT, path + "/drain", json(&body), true)
        }
        Action::Deregister { session } => (Method::DELETE, format!("{path}?session={session}"), None, true),
    }
}

fn ttl(shared: &Shared) -> Ttl {
    shared.settings.ttl
}

fn json(body: &impl Serialize) -> Option<Vec<u8>> {
    serde_json::to_vec(body).ok()
}
