//! When how many instances were silent: for certain, which puts the brake on, and perhaps, which excuses a hold.

use std::time::Duration;

use super::{Bounds, Life};
use crate::{
    catalog::Instance,
    history::{Act, At, History, Subject, What},
};

/// More than a third of all, but also more than this, are too many.
const THIRD_LEAST: i64 = 10;
/// More than half of all, but also more than this, are too many.
const HALF_LEAST: i64 = 2;

/// Whether so many silent ones put the brake on.
pub(super) const fn too_many(silent: i64, all: i64) -> bool {
    (silent > THIRD_LEAST && silent * 3 > all) || (silent > HALF_LEAST && silent * 2 > all)
}

/// A silence of one instance that is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Episode {
    pub(super) instance: Instance,
    /// It has been silent since this for certain.
    pub(super) from: At,
    /// Before this its lease cannot have ended.
    pub(super) lease: At,
    /// It may have been heard of again, or have left.
    pub(super) until: At,
    /// When its last beat was acknowledged, at the earliest.
    pub(super) last: At,
    /// That beat.
    pub(super) operation: usize,
}

/// All silences of a run.
pub(super) struct Silence {
    /// In the order of their beginnings.
    pub(super) episodes: Vec<Episode>,
    /// For each instance: from when to when the registry may hold an entry of it.
    entries: Vec<Vec<(At, At)>>,
    /// Times in which too many may have been silent. In order.
    held: Vec<(At, At)>,
    /// Entries of others.
    others: i64,
    starts: Vec<At>,
    ends: Vec<At>,
}

/// How long a hold may last, in TTLs: two until the first are let go, and seven until the last are, with some to spare.
const LONGEST: u32 = 12;

impl Silence {
    pub(super) fn new(history: &History, bounds: &Bounds, lives: &[Life]) -> Self {
        let longest = bounds.ttl * LONGEST + bounds.gone;
        let entries: Vec<_> = lives.iter().map(|life| entries(life, longest)).collect();
        let mut starts: Vec<At> = entries.iter().flatten().map(|(from, _)| *from).collect();
        let mut ends: Vec<At> = entries.iter().flatten().map(|(_, until)| *until).collect();
        starts.sort_unstable();
        ends.sort_unstable();
        let mut episodes: Vec<Episode> =
            (0..).zip(lives).flat_map(|(number, life)| episodes(number, life, bounds)).collect();
        episodes.sort_by_key(|episode| episode.from);
        let others = |of: fn(crate::history::Others) -> u32| {
            let lists = history.operations.iter().filter_map(|operation| match &operation.what {
                What::Read(read) if read.subject == Subject::Instances => Some(of(read.others)),
                _ => None,
            });
            i64::from(lists.max().unwrap_or_default())
        };
        let held = maybe_held(lives, bounds, longest, others(|others| others.stale));
        Self { episodes, entries, held, others: others(|others| others.listed), starts, ends }
    }

    /// How many entries there may have been at a moment, others' included.
    pub(super) fn all(&self, at: At) -> i64 {
        let before = |moments: &[At], at: At| moments.partition_point(|moment| *moment <= at);
        let count = before(&self.starts, at) - before(&self.ends, at);
        i64::try_from(count).unwrap_or(i64::MAX) + self.others
    }

    /// Whether there may be an entry of an instance.
    pub(super) fn maybe_entry(&self, instance: Instance, at: At) -> bool {
        let times = usize::try_from(instance).ok().and_then(|place| self.entries.get(place));
        times.is_some_and(|times| times.iter().any(|(from, until)| *from <= at && at < *until))
    }

    /// Whether a hold may have begun between these moments, or lasted on.
    pub(super) fn maybe_held(&self, from: At, until: At) -> bool {
        let place = self.held.partition_point(|(_, end)| *end < from);
        self.held.get(place).is_some_and(|(start, _)| *start <= until)
    }
}

/// From each first try to register until it has left, or has been silent for longer than any hold lasts.
fn entries(life: &Life, longest: Duration) -> Vec<(At, At)> {
    let mut times: Vec<(At, At)> = Vec::new();
    for pulse in &life.pulses {
        let until = pulse.latest.plus(longest);
        match times.last_mut().filter(|(_, until)| pulse.start <= *until) {
            Some((_, end)) => *end = until.max(*end),
            None => times.push((pulse.start, until)),
        }
    }
    times
}

/// The gaps between pulses in which an instance is silent for certain.
fn episodes(instance: Instance, life: &Life, bounds: &Bounds) -> Vec<Episode> {
    let mut found = Vec::new();
    let mut latest = At::default();
    let mut lasting: Option<(At, usize)> = None;
    let mut beaten = false;
    for (place, pulse) in life.pulses.iter().enumerate() {
        latest = latest.max(pulse.latest);
        if pulse.certain {
            // Who has not been renewed is not counted by the brake.
            beaten |= pulse.act == Act::Beat;
            lasting = Some((pulse.start, pulse.operation));
        }
        let next = life.pulses.get(place + 1).map_or(At::NEVER, |next| next.start);
        let left = life.left.iter().map(|(from, _)| *from).find(|from| *from >= pulse.start);
        let until = left.map_or(next, |left| left.min(next));
        let from = latest.plus(bounds.silent() + bounds.beat);
        if let Some((last, operation)) = lasting.filter(|_| beaten)
            && from < until
        {
            let lease = last.plus(bounds.ttl);
            found.push(Episode { instance, from, lease, until, last, operation });
        }
    }
    found
}

/// The times in which too many may have been silent: whoever was not certainly heard of counts, for as long as a hold
/// may last, and of all only those count that are certain to be there.
fn maybe_held(lives: &[Life], bounds: &Bounds, longest: Duration, others: i64) -> Vec<(At, At)> {
    let mut steps: Vec<(At, i64, i64)> = Vec::new();
    for life in lives {
        let certain: Vec<_> = life.pulses.iter().filter(|pulse| pulse.certain).collect();
        for (place, pulse) in certain.iter().enumerate() {
            let next = certain.get(place + 1).map_or(At::NEVER, |next| next.latest);
            let silent = pulse.start.plus(bounds.silent()).minus(bounds.beat);
            if silent < next {
                steps.push((silent, 1, 0));
                steps.push((next.min(pulse.latest.plus(longest)).max(silent), -1, 0));
            }
        }
        for span in &life.spans {
            steps.push((span.from, 0, 1));
            steps.push((span.until, 0, -1));
        }
    }
    steps.sort_unstable();
    let (mut silent, mut live) = (others, 0);
    let mut held: Vec<(At, At)> = Vec::new();
    let mut since = None;
    for (at, more_silent, more_live) in steps {
        silent += more_silent;
        live += more_live;
        // A silent one is there, too.
        match (too_many(silent, live.max(silent)), since) {
            (true, None) => since = Some(at),
            (false, Some(from)) => {
                held.push((from, at));
                since = None;
            }
            _ => {}
        }
    }
    held.extend(since.map(|from| (from, At::NEVER)));
    held
}
