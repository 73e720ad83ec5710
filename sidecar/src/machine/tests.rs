//! The machine in virtual time, against registries and services that are functions of the moment.

#![expect(
    clippy::unchecked_time_subtraction,
    reason = "moments of one run in their order; a panic is a failed test"
)]

use std::{sync::Arc, time::Duration};

use rand::{SeedableRng, rngs::StdRng};
use registry_wire::{Metadata, Status, Ttl};

use super::{
    Action, Answer, Call, Effect, Event, Facts, Kind, Machine, Moment, Phase, ProbeOutcome, Settings,
};

mod leaving;
mod pauses;
mod sessions;

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn granted() -> Answer {
    Answer::Granted { ttl: 90, interval: 30 }
}

fn refused_connection() -> Answer {
    Answer::unavailable("connection refused")
}

type Registry = Box<dyn FnMut(Moment, &Call) -> (Duration, Answer)>;
type Service = Box<dyn FnMut(Moment) -> (Duration, ProbeOutcome)>;

/// One machine, and a registry and a service that answer after a time of their own.
struct World {
    machine: Machine,
    rng: StdRng,
    now: Moment,
    registry: Registry,
    service: Service,
    call: Option<(Moment, Answer)>,
    probe: Option<(Moment, ProbeOutcome)>,
    calls: Vec<(Moment, Call)>,
    probes: Vec<Moment>,
    events: Vec<(Moment, Event)>,
    exited: Option<Moment>,
}

impl World {
    fn new(seed: u64, settings: Settings) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        // Not zero: a moment is relative to whatever the driver chose.
        let now = seconds(1_000);
        Self {
            machine: Machine::new(Arc::new(settings), now, &mut rng),
            rng,
            now,
            registry: Box::new(|_, call| {
                let answer = match call.action.kind() {
                    Kind::Register | Kind::Beat => granted(),
                    Kind::Drain | Kind::Deregister => Answer::Done,
                };
                (millis(3), answer)
            }),
            service: Box::new(|_| (millis(2), ProbeOutcome::healthy())),
            call: None,
            probe: None,
            calls: Vec::new(),
            probes: Vec::new(),
            events: Vec::new(),
            exited: None,
        }
    }

    fn registry(mut self, registry: impl FnMut(Moment, &Call) -> (Duration, Answer) + 'static) -> Self {
        self.registry = Box::new(registry);
        self
    }

    fn service(mut self, service: impl FnMut(Moment) -> (Duration, ProbeOutcome) + 'static) -> Self {
        self.service = Box::new(service);
        self
    }

    /// Time since the start.
    fn at(moment: Moment) -> Duration {
        moment - seconds(1_000)
    }

    fn run(&mut self, time: Duration) -> &mut Self {
        let end = self.now + time;
        let mut steps_at_this_moment = 0;
        loop {
            self.carry_out();
            let next = [
                self.call.as_ref().map(|(at, _)| *at),
                self.machine.call_deadline(),
                self.probe.as_ref().map(|(at, _)| *at),
                self.machine.wake(),
            ];
            let next = next.into_iter().flatten().min().unwrap_or(end);
            if self.exited.is_some() || next > end {
                self.now = end;
                return self;
            }
            steps_at_this_moment = if next > self.now { 0 } else { steps_at_this_moment + 1 };
            assert!(steps_at_this_moment < 50, "a busy loop at {:?}", Self::at(self.now));
            self.now = self.now.max(next);
            self.report();
        }
    }

    fn carry_out(&mut self) {
        for step in 0.. {
            assert!(step < 50, "poll never comes to an end");
            match self.machine.poll(self.now) {
                None => return,
                Some(Effect::Log(event)) => self.events.push((Self::at(self.now), event)),
                Some(Effect::Probe) => {
                    assert!(self.probe.is_none(), "two probes at a time");
                    self.probes.push(Self::at(self.now));
                    let (time, outcome) = (self.service)(Self::at(self.now));
                    self.probe = Some((self.now + time, outcome));
                }
                Some(Effect::Call(call)) => {
                    assert!(self.call.is_none(), "two calls at a time");
                    let (time, answer) = (self.registry)(Self::at(self.now), &call);
                    self.calls.push((Self::at(self.now), call));
                    self.call = Some((self.now + time, answer));
                }
                Some(Effect::Exit) => {
                    self.exited.get_or_insert(Self::at(self.now));
                    return;
                }
            }
        }
    }

    fn report(&mut self) {
        if let Some((_, outcome)) = self.probe.take_if(|(at, _)| *at <= self.now) {
            self.machine.probed(self.now, outcome);
        }
        if let Some((_, answer)) = self.call.take_if(|(at, _)| *at <= self.now) {
            self.machine.answered(self.now, answer, &mut self.rng);
        } else if self.machine.call_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.call = None;
            let answer = Answer::unavailable("no answer in time");
            self.machine.answered(self.now, answer, &mut self.rng);
        }
    }

    fn shutdown(&mut self) -> &mut Self {
        self.machine.shutdown(self.now, "SIGTERM");
        self
    }

    fn kinds(&self) -> Vec<Kind> {
        self.calls.iter().map(|(_, call)| call.action.kind()).collect()
    }

    fn times(&self, kind: Kind) -> Vec<Duration> {
        let of_kind = |(at, call): &(Moment, Call)| (call.action.kind() == kind).then_some(*at);
        self.calls.iter().filter_map(of_kind).collect()
    }

    fn gaps(&self) -> Vec<Duration> {
        self.calls.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
    }

    fn logged(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|(_, event)| wanted(event)).count()
    }
}

fn status(call: &Call) -> Status {
    match &call.action {
        Action::Register { status, .. } | Action::Beat { status, .. } => *status,
        Action::Drain { .. } | Action::Deregister { .. } => panic!("{call:?} has no status"),
    }
}

fn output(call: &Call) -> Option<&str> {
    match &call.action {
        Action::Register { output, .. } | Action::Beat { output, .. } => {
            output.as_ref().map(registry_wire::Output::as_str)
        }
        Action::Drain { .. } | Action::Deregister { .. } => None,
    }
}

#[test]
fn waits_for_health_then_registers_then_beats() {
    let mut world = World::new(1, Settings::default()).service(|at| {
        let outcome = match at {
            at if at < seconds(12) => ProbeOutcome::unhealthy("connection refused"),
            _ => ProbeOutcome::healthy(),
        };
        (millis(1), outcome)
    });
    world.run(seconds(300));
    let first = &world.calls[0];
    assert_eq!(status(&first.1), Status::Passing);
    assert!(first.0 >= seconds(12) && first.0 <= seconds(18), "{:?}", first.0);
    assert_eq!(world.kinds()[0], Kind::Register);
    assert!(world.kinds()[1..].iter().all(|kind| *kind == Kind::Beat));
    assert_eq!(world.logged(|event| *event == Event::Ready), 1);
}

#[test]
fn probes_during_the_wait_pause_one_second_growing_to_ten() {
    let settings = Settings { initial_wait: seconds(200), ..Settings::default() };
    let mut world =
        World::new(1, settings).service(|_| (millis(1), ProbeOutcome::unhealthy("connection refused")));
    world.run(seconds(190));
    let gaps: Vec<_> = world.probes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[0] >= seconds(1) && gaps[0] < millis(1_100), "{gaps:?}");
    assert!(gaps.windows(2).all(|pair| pair[0] <= pair[1]), "{gaps:?}");
    let last = gaps[gaps.len() - 1];
    assert!(last >= seconds(10) && last < millis(10_100), "{gaps:?}");
    assert!(world.calls.is_empty());
}

#[test]
fn at_the_end_of_the_wait_it_registers_as_critical_even_while_a_probe_hangs() {
    for wait in [0, 1, 3, 7, 60] {
        let settings = Settings { initial_wait: seconds(wait), ..Settings::default() };
        let mut world = World::new(wait, settings)
            .service(|_| (seconds(2), ProbeOutcome::unhealthy("no answer within 2 s")));
        world.run(seconds(wait + 30));
        let (at, call) = &world.calls[0];
        assert_eq!(*at, seconds(wait), "exactly then");
        assert_eq!(status(call), Status::Critical);
        assert!(output(call).unwrap().starts_with("not healthy within"), "{call:?}");
        let later = world.probes.iter().filter(|at| **at > seconds(wait)).count();
        assert!(later >= 2, "it goes on probing");
    }
}

#[test]
fn a_service_that_was_late_is_passing_at_once() {
    let settings = Settings { initial_wait: seconds(5), ..Settings::default() };
    let mut world = World::new(1, settings).service(|at| {
        let outcome = match at {
            at if at < seconds(21) => ProbeOutcome::unhealthy("connection refused"),
            _ => ProbeOutcome::healthy(),
        };
        (millis(1), outcome)
    });
    world.run(seconds(33));
    let passing: Vec<_> = world.calls.iter().filter(|(_, call)| status(call) == Status::Passing).collect();
    let probe = world.probes.iter().find(|at| **at >= seconds(21)).unwrap();
    assert_eq!(passing[0].0, *probe + millis(1), "with the answer of the first good probe");
    assert_eq!(passing[0].1.action.kind(), Kind::Beat);
}

#[test]
fn a_dead_service_is_critical_after_three_probes_and_passing_with_the_first_good_one() {
    let mut world = World::new(1, Settings::default()).service(|at| {
        let dead = at > seconds(100) && at < seconds(200);
        let outcome = if dead { ProbeOutcome::unhealthy("HTTP 500") } else { ProbeOutcome::healthy() };
        (millis(1), outcome)
    });
    world.run(seconds(300));
    let critical: Vec<_> = world.calls.iter().filter(|(_, call)| status(call) == Status::Critical).collect();
    assert_eq!(output(&critical[0].1), Some("HTTP 500"));
    let bad: Vec<_> = world.probes.iter().filter(|at| **at > seconds(100)).take(3).collect();
    assert_eq!(critical[0].0, *bad[2] + millis(1));
    assert!(critical[0].0 - seconds(100) <= seconds(33), "L3: interval x failures + 3 s");
    let good = world.probes.iter().find(|at| **at >= seconds(200)).unwrap();
    let back =
        world.calls.iter().find(|(at, call)| *at > seconds(200) && status(call) == Status::Passing).unwrap();
    assert_eq!(back.0, *good + millis(1));
    assert_eq!(output(&back.1), None);
}

#[test]
fn two_failures_are_not_enough_and_do_not_add_up() {
    let mut count = 0;
    let mut world = World::new(1, Settings::default()).service(move |_| {
        count += 1;
        let outcome =
            if count % 3 == 0 { ProbeOutcome::healthy() } else { ProbeOutcome::unhealthy("HTTP 500") };
        (millis(1), outcome)
    });
    world.run(seconds(600));
    assert!(world.calls.len() > 10);
    assert!(world.calls.iter().all(|(_, call)| status(call) == Status::Passing));
}

#[test]
fn hanging_probes_add_their_time_out_once() {
    let mut world = World::new(1, Settings::default()).service(|at| match at {
        at if at < seconds(100) => (millis(1), ProbeOutcome::healthy()),
        _ => (seconds(2), ProbeOutcome::unhealthy("no answer within 2 s")),
    });
    world.run(seconds(200));
    let critical = world.calls.iter().find(|(_, call)| status(call) == Status::Critical).unwrap();
    assert!(critical.0 - seconds(100) <= seconds(30 + 2 + 1), "{:?}", critical.0);
}

#[test]
fn the_slowest_settings_that_tests_use_find_a_dead_service_within_six_seconds() {
    let settings = Settings {
        interval: seconds(1),
        health_interval: seconds(1),
        ttl: Ttl::try_from(3).unwrap(),
        ..Settings::default()
    };
    let mut world = World::new(1, settings).service(|at| match at {
        at if at < seconds(20) => (millis(1), ProbeOutcome::healthy()),
        _ => (seconds(2), ProbeOutcome::unhealthy("no answer within 2 s")),
    });
    world.run(seconds(60));
    let critical = world.calls.iter().find(|(_, call)| status(call) == Status::Critical).unwrap();
    assert!(critical.0 - seconds(20) <= seconds(3 + 3 + 2), "{:?}", critical.0);
}

#[test]
fn a_change_during_a_call_is_told_right_after_it() {
    // Each beat takes 5 s; the service dies while one is under way.
    let mut world =
        World::new(1, Settings::default()).registry(|_, _| (seconds(5), granted())).service(|at| match at {
            at if at < seconds(300) => (millis(1), ProbeOutcome::healthy()),
            _ => (millis(1), ProbeOutcome::unhealthy("HTTP 503")),
        });
    world.run(seconds(400));
    let bad = world.probes.iter().filter(|at| **at >= seconds(300)).nth(2).unwrap();
    let told = world.calls.iter().find(|(_, call)| status(call) == Status::Critical).unwrap().0;
    assert!(told >= *bad && told - *bad <= millis(5_010), "{bad:?} {told:?}");
}

#[test]
fn what_the_service_says_becomes_metadata_and_what_the_operator_says_wins() {
    let mut configured = Metadata::default();
    configured.insert("version", "7").unwrap();
    configured.insert("zone", "b").unwrap();
    let settings = Settings { metadata: configured, ..Settings::default() };
    let facts = Facts { version: Some("1.4".into()), status: Some("healthy".into()) };
    let mut world =
        World::new(1, settings).service(move |_| (millis(1), ProbeOutcome::Healthy(facts.clone())));
    world.run(seconds(10));
    let Action::Register { metadata, .. } = &world.calls[0].1.action else {
        panic!("{:?}", world.calls);
    };
    let pairs: Vec<_> = metadata.iter().collect();
    assert_eq!(pairs, [("status", "healthy"), ("version", "7"), ("zone", "b")]);
}

fn versions() -> impl FnMut(Moment) -> (Duration, ProbeOutcome) {
    |at| {
        let version = if at < seconds(100) { "1" } else { "2" };
        let facts = Facts { version: Some(version.into()), status: None };
        (millis(1), ProbeOutcome::Healthy(facts))
    }
}

#[test]
fn an_upgrade_of_the_service_is_registered_with_the_next_beat_in_the_same_session() {
    let mut world = World::new(1, Settings::default()).service(versions());
    world.run(seconds(400));
    let registrations = world.times(Kind::Register);
    assert_eq!(registrations.len(), 2, "{registrations:?}");
    assert!(registrations[1] >= seconds(100) && registrations[1] < seconds(142));
    assert!(world.gaps().iter().all(|gap| *gap <= seconds(30)), "the pace of beats is kept");
    let sessions: Vec<_> = world.calls.iter().map(|(_, call)| session(call)).collect();
    assert!(sessions.iter().all(|one| *one == sessions[0]));
}

#[test]
fn a_refused_upgrade_does_not_cost_the_lease() {
    for answer in [
        Answer::Refused { reason: "HTTP 422: no".into() },
        Answer::Overloaded { retry_after: Some(seconds(3_600)), reason: "HTTP 429".into() },
        refused_connection(),
    ] {
        let mut world = World::new(1, Settings::default()).service(versions()).registry(move |at, call| {
            match call.action.kind() {
                Kind::Register if at > seconds(50) => (millis(1), answer.clone()),
                _ => (millis(1), granted()),
            }
        });
        world.run(seconds(2_000));
        let mut beats = world.times(Kind::Beat);
        beats.push(seconds(2_000));
        let longest = beats.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(longest <= seconds(61), "two beats in each lease of 90 s: {longest:?}");
    }
}

fn session(call: &Call) -> String {
    match &call.action {
        Action::Register { session, .. }
        | Action::Beat { session, .. }
        | Action::Drain { session, .. }
        | Action::Deregister { session } => session.to_string(),
    }
}
