//! The judge: whether a registry kept its promises during a run. Pure: a [`History`] in, a [`Judgement`] out.
//!
//! What is uncertain speaks for the registry. A write that timed out or failed may have been carried out; a beat that a
//! node acknowledged shortly before it was killed or cut off may be lost; a list says what its node knew `Age` ago,
//! which is rounded down; an answer is given at some moment between the start and the end of its call. Only what is
//! wrong for every one of these possibilities is found.
//!
//! It judges the instances of its own run. Of others it only knows how many were listed, because the registry's brake
//! counts them too. Whoever drains or deregisters an instance of a running fleet by hand makes the judge wrong.

mod absent;
mod brake;
mod empty;
mod explain;
mod faults;
mod life;
mod silence;
mod zombie;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::history::{At, Header, History, Operation};
use faults::Faults;
use life::Life;
use silence::Silence;

/// What a registry can be found guilty of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Charge {
    /// An instance whose beat was acknowledged less than a TTL ago is missing from a list, or answered 404.
    FalseExpiry,
    /// A registration was acknowledged, and a beat gets 404, or a list omits the instance before its first beat.
    LostAck,
    /// An instance is listed too long after its last beat, or too long without `stale`.
    Zombie,
    /// A list of everything holds nothing, or fewer than half, while more than half live.
    EmptyAnswer,
    /// More than the threshold fell silent at once, and one of them left the answers before its hold ended.
    Brake,
}

impl Charge {
    /// Every charge.
    pub const ALL: [Self; 5] =
        [Self::FalseExpiry, Self::LostAck, Self::Zombie, Self::EmptyAnswer, Self::Brake];

    /// Its name, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FalseExpiry => "false expiry",
            Self::LostAck => "lost ack",
            Self::Zombie => "zombie",
            Self::EmptyAnswer => "empty answer",
            Self::Brake => "brake",
        }
    }
}

/// How much the judge allows, from the constants of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The lease.
    pub ttl: Duration,
    /// A change is in the answers of all nodes after this: one tick.
    pub change: Duration,
    /// A beat counts on all nodes after this, and a node that was cut off knows it after this: three ticks.
    pub beat: Duration,
    /// An instance without beats is gone this long after its TTL: 7 s, whatever the tick.
    pub gone: Duration,
    /// How long after its last sign of trouble a node may still have been about to count all leases anew.
    pub settle: Duration,
    /// How long after the end of its TTL an instance is held when too many are silent: two TTLs.
    pub hold: Duration,
}

impl Bounds {
    /// The bounds of a run.
    pub fn of(header: &Header) -> Self {
        let ttl = header.ttl.duration();
        Self {
            ttl,
            change: header.tick,
            beat: header.tick * 3,
            gone: Duration::from_secs(7),
            settle: Duration::from_secs(5),
            hold: ttl * 2,
        }
    }

    /// How long before a call a change must have been acknowledged to be in its answer. `Age` is rounded down.
    fn known(&self, age: u32) -> Duration {
        self.change.max(Duration::from_secs(u64::from(age) + 1))
    }

    /// After this long without a beat an instance is silent.
    fn silent(&self) -> Duration {
        self.ttl * 2 / 3
    }
}

/// Something that a registry that keeps its promises does not do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which promise is broken.
    pub charge: Charge,
    /// What was expected, and what came, in words.
    pub what: String,
    /// The operations that prove it, by their places in [`History::operations`]; the last one is the wrong answer.
    pub proof: Vec<usize>,
}

/// Findings of one charge that are kept in full; more are counted.
const KEPT: usize = 20;

/// What came of one charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The charge.
    pub charge: Charge,
    /// How often; 0: innocent.
    pub count: usize,
    /// The first findings.
    pub findings: Vec<Finding>,
}

/// What came of all charges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// One for each charge.
    pub verdicts: Vec<Verdict>,
    /// The history was full at this moment: what came later was not judged.
    pub full: Option<At>,
}

impl Judgement {
    fn new(full: Option<At>) -> Self {
        let verdict = |charge| Verdict { charge, count: 0, findings: Vec::new() };
        Self { verdicts: Charge::ALL.map(verdict).into(), full }
    }

    /// Whether nothing was found.
    pub fn innocent(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.count == 0)
    }

    /// Whether something was found of this kind.
    pub fn guilty_of(&self, charge: Charge) -> bool {
        self.verdicts.iter().any(|verdict| verdict.charge == charge && verdict.count > 0)
    }

    fn find(&mut self, charge: Charge, finding: impl FnOnce() -> (String, Vec<usize>)) {
        if let Some(verdict) = self.verdicts.iter_mut().find(|verdict| verdict.charge == charge) {
            verdict.count += 1;
            if verdict.findings.len() < KEPT {
                let (what, proof) = finding();
                verdict.findings.push(Finding { charge, what, proof });
            }
        }
    }
}

/// What all charges are judged by.
struct Case<'a> {
    history: &'a History,
    bounds: Bounds,
    faults: Faults,
    lives: Vec<Life>,
    silence: Silence,
    /// Answers after this are not judged: writes that were under way then are not in the history.
    until: At,
}

/// No call takes longer.
const CALL_LIMIT: Duration = Duration::from_secs(10);

impl<'a> Case<'a> {
    fn new(history: &'a History) -> Self {
        let bounds = Bounds::of(&history.header);
        let faults = Faults::new(history, &bounds);
        let lives = life::all(history, &bounds, &faults);
        let silence = Silence::new(history, &bounds, &lives);
        let until = history.full.map_or(At::NEVER, |full| full.minus(CALL_LIMIT));
        Self { history, bounds, faults, lives, silence, until }
    }

    fn catalog(&self) -> &crate::Catalog {
        &self.history.header.catalog
    }

    fn life(&self, instance: u32) -> Option<&Life> {
        self.lives.get(usize::try_from(instance).ok()?)
    }

    /// The answers that are judged, with their places.
    fn operations(&self) -> impl Iterator<Item = (usize, &'a Operation)> {
        let judged = |operation: &Operation| {
            operation.end <= self.until && !self.faults.left_out(operation.start, operation.end)
        };
        self.history.operations.iter().enumerate().filter(move |(_, operation)| judged(operation))
    }
}

/// Judges a run.
pub fn judge(history: &History) -> Judgement {
    let case = Case::new(history);
    let mut judgement = Judgement::new(history.full);
    absent::judge(&case, &mut judgement);
    zombie::judge(&case, &mut judgement);
    empty::judge(&case, &mut judgement);
    brake::judge(&case, &mut judgement);
    judgement
}

#[cfg(test)]
mod tests;
