//! A seeded simulation of several nodes on one store, in virtual time and in one thread.
//!
//! The nodes are the real cores: leases, sight, the applier, the view, the buffer of beats, the batches of changes and
//! the decisions on them. What joins them in the real program (tasks, and calls of the store) is cut here at every
//! point at which the real one waits, so that anything can happen between any two steps: another node's commit, a
//! pause, the end of the process, the loss of a call or of its answer. The store is a model of the migrations. A judge
//! that knows true time and every beat compares each answer with what the invariants promise.
//!
//! In: a seed.
//! Owns: time, chance, the model of the store, the judge.
//! Out: a verdict, and the trace that leads to it.
//!
//! A seed is a schedule. `SIMULATION_SEED=n` runs that one alone, with its last events in words;
//! `SIMULATION_SCHEDULES=n` runs more of them.

mod judge;
mod network;
mod node;
mod ops;
mod plan;
mod sidecar;
mod steps;
mod store;
mod tests;
mod trace;
mod world;

use std::time::Duration;

/// Since the schedule began, by a clock that nobody in it can read.
type Time = Duration;

const TICK: Duration = Duration::from_secs(1);

/// A mistake that the judge must see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// Leases do not count anew after blindness.
    NoFloor,
    /// A lease ends when now, not sight, lies a TTL after its last beat: every tick counts as seen.
    EndsByNow,
    /// Beats that other nodes acknowledged are not applied.
    DeafToOthers,
    /// An expiry compares the beat count that its statement saw when it began, and so overlooks a batch of beats that
    /// was committed while it waited for the locks.
    OverlooksBatch,
    /// A registration is acknowledged before its commit.
    AcknowledgesEarly,
    /// A beat that the view does not know is answered 404 at once.
    NoLook,
    /// An entry whose beat was acknowledged while its row was removed is not put back.
    NoRevival,
    /// Beats are cleared when they are sent, not when they are known to be written.
    ForgetsBeats,
    /// Expired entries are never removed.
    NoExpiry,
    /// A node sees whatever it can read, although it cannot write.
    SightWithoutWriting,
    /// An ended entry is removed as soon as its beats were counted.
    NoGrace,
    /// A registration of an ended session is taken.
    TakesEndedSessions,
}

/// How a schedule went.
#[derive(Debug)]
struct Run {
    /// What was broken, if anything was.
    verdict: Option<String>,
    /// A hash of everything that happened.
    hash: u64,
    events: u64,
    /// Entries that had to be in an answer.
    required: u64,
    /// The last events; empty unless they were asked for.
    trace: String,
}

/// Runs a schedule, and keeps the last `words` lines of what happened.
fn run(seed: u64, bug: Option<Bug>, words: usize) -> Run {
    world::World::new(seed, bug, words).run()
}
