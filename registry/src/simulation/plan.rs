//! What a seed stands for: the nodes and their clocks, the faults, the sidecars.

use std::time::Duration;

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use super::{TICK, Time};

/// One thing that goes wrong for a while.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) what: Wrong,
    /// `None`: all of them.
    pub(super) node: Option<usize>,
    pub(super) from: Time,
    pub(super) to: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// SIGSTOP, then SIGCONT.
    Paused,
    /// SIGKILL, then a new process.
    Down,
    /// Nothing gets through to the store.
    CutOff,
    /// Calls are carried out, and their answers are lost.
    AnswersLost,
    /// The store is read-only, full or locked.
    WritesFail,
    /// The store takes writes and answers no read.
    ReadsFail,
    /// Each call may be lost, on its way or on the way back.
    Lossy,
    /// Calls take as long as they may, and longer.
    Slow,
}

impl Wrong {
    pub(super) const ALL: [Self; 8] = [
        Self::Paused,
        Self::Down,
        Self::CutOff,
        Self::AnswersLost,
        Self::WritesFail,
        Self::ReadsFail,
        Self::Lossy,
        Self::Slow,
    ];
}

/// How one sidecar behaves.
#[derive(Clone, Debug)]
pub(super) struct Sidecar {
    /// Its instance: one of [`Plan::ttls`]. Two sidecars may claim the same.
    pub(super) key: usize,
    pub(super) start: Time,
    /// Between beats, before jitter.
    pub(super) interval: Duration,
    pub(super) end: End,
    pub(super) end_at: Time,
    /// Sends its session. A curl does not.
    pub(super) sessions: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Beats until the schedule ends.
    Never,
    /// `kill -9`.
    Dies,
    /// Deregisters.
    Leaves,
    /// `kill -9`, and a new process of the same instance soon after.
    Restarts,
}

/// A schedule, but for the random numbers drawn on the way.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// What each node's clock starts from, and how fast it goes.
    pub(super) clocks: Vec<(Duration, f64)>,
    /// The lease of each instance.
    pub(super) ttls: Vec<u32>,
    pub(super) sidecars: Vec<Sidecar>,
    pub(super) faults: Vec<Fault>,
    /// Until then things go wrong.
    pub(super) chaos: Time,
    /// The share of notifications that is lost.
    pub(super) hint_loss: f64,
    /// The longest time that a healthy call takes each way.
    pub(super) latency: Duration,
    /// Log rows read in one call at the most.
    pub(super) page: usize,
    /// Whether log rows are removed.
    pub(super) trims: bool,
    /// When the store's wall clock is set forward, and by how much.
    pub(super) clock_set: Option<(Time, Duration)>,
}

pub(super) fn ticks(ticks: f64) -> Duration {
    TICK.mul_f64(ticks)
}

impl Plan {
    pub(super) fn draw(rng: &mut StdRng) -> Self {
        let nodes = *[2, 2, 3, 3, 4].choose(rng).expect("not empty");
        let drifting = rng.random_bool(0.5);
        let clock = |rng: &mut StdRng| {
            let rate = if drifting { rng.random_range(0.9..1.1) } else { 1.0 };
            (ticks(rng.random_range(10.0..5000.0)), rate)
        };
        let clocks: Vec<_> = (0..nodes).map(|_| clock(rng)).collect();
        let ttls: Vec<u32> = (0..rng.random_range(1..=2)).map(|_| rng.random_range(9..=12)).collect();
        let chaos = ticks(rng.random_range(20.0..45.0));
        let sidecars = (0..ttls.len() + usize::from(rng.random_bool(0.3)))
            .map(|number| sidecar(rng, number % ttls.len(), &ttls, chaos))
            .collect();
        let faults = (0..rng.random_range(0..=5)).map(|_| fault(rng, nodes, chaos)).collect();
        Self {
            clocks,
            sidecars,
            faults,
            chaos,
            ttls,
            hint_loss: *[0.0, 0.0, 0.3, 1.0].choose(rng).expect("not empty"),
            latency: *[ticks(0.01), ticks(0.01), ticks(0.1)].choose(rng).expect("not empty"),
            page: *[1, 3, 1000, 1000].choose(rng).expect("not empty"),
            trims: rng.random_bool(0.3),
            clock_set: rng
                .random_bool(0.2)
                .then(|| (chaos.mul_f64(rng.random_range(0.0..1.0)), Duration::from_secs(3600))),
        }
    }

    /// Whether a fault touches this node within a span of time.
    pub(super) fn faulty(&self, node: usize, from: Time, to: Time) -> bool {
        self.faults
            .iter()
            .any(|fault| fault.node.is_none_or(|of| of == node) && fault.from <= to && fault.to >= from)
    }

    /// What is wrong for this node now.
    pub(super) fn wrong(&self, node: usize, now: Time) -> impl Iterator<Item = Wrong> {
        let of_node = move |fault: &&Fault| fault.node.is_none_or(|of| of == node);
        self.faults
            .iter()
            .filter(of_node)
            .filter(move |fault| fault.from <= now && now < fault.to)
            .map(|fault| fault.what)
    }

    pub(super) fn slowest_clock(&self) -> f64 {
        self.clocks.iter().map(|(_, rate)| *rate).fold(1.0, f64::min)
    }

    pub(super) fn fastest_clock(&self) -> f64 {
        self.clocks.iter().map(|(_, rate)| *rate).fold(1.0, f64::max)
    }
}

fn sidecar(rng: &mut StdRng, key: usize, ttls: &[u32], chaos: Time) -> Sidecar {
    let share = *[0.33, 0.33, 0.33, 0.5, 0.9].choose(rng).expect("not empty");
    let ends = [End::Never, End::Never, End::Dies, End::Leaves, End::Restarts];
    Sidecar {
        key,
        start: ticks(rng.random_range(0.0..8.0)),
        interval: ticks(f64::from(ttls[key]) * share),
        end: *ends.choose(rng).expect("not empty"),
        end_at: chaos.mul_f64(rng.random_range(0.2..1.0)),
        sessions: rng.random_bool(0.9),
    }
}

fn fault(rng: &mut StdRng, nodes: usize, chaos: Time) -> Fault {
    let what = *Wrong::ALL.choose(rng).expect("not empty");
    let node = rng.random_bool(0.7).then(|| rng.random_range(0..nodes));
    let length = match rng.random_range(0..4) {
        0 => rng.random_range(0.1..3.0),
        1 | 2 => rng.random_range(2.0..8.0),
        _ => rng.random_range(8.0..20.0),
    };
    let from = chaos.mul_f64(rng.random_range(0.05..0.95));
    Fault { what, node, from, to: (from + ticks(length)).min(chaos) }
}
