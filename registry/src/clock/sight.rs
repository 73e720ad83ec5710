use std::time::Duration;

use super::{AtomicMoment, Moment};

/// What this node can see of the store, and since when.
///
/// Sight is a moment on this node's own clock: the one before the last tick whose row the node wrote to the store and
/// read back. A node is blind while its sight is too old. Nothing sets a flag: blindness follows from sight and the
/// clock at each use, so a process that was paused is blind in its first instruction.
#[derive(Debug)]
pub struct Sight {
    mark: AtomicMoment,
    floor: AtomicMoment,
    /// Sight from before this moment counts for nothing.
    lost: AtomicMoment,
    blind_after: Duration,
    continuous: bool,
}

/// Ticks without sight after which a node is blind.
const BLIND_AFTER_TICKS: u32 = 3;

impl Sight {
    /// For a store that is shared: sight is what [`Sight::advance`] says.
    pub const fn ticking(tick: Duration) -> Self {
        Self {
            mark: AtomicMoment::new(Moment::NEVER),
            floor: AtomicMoment::new(Moment::NEVER),
            lost: AtomicMoment::new(Moment::NEVER),
            blind_after: tick.saturating_mul(BLIND_AFTER_TICKS),
            continuous: false,
        }
    }

    /// For a store that is this process's own: sight is now, unless the process was paused.
    pub const fn continuous(tick: Duration) -> Self {
        Self { continuous: true, ..Self::ticking(tick) }
    }

    /// Without sight for longer than this a node is blind: what any node knew before, every node that sees knows.
    pub const fn blind_after(&self) -> Duration {
        self.blind_after
    }

    /// How long ago a row of the beat log was written that has so many later ones of its writer: so long at least, as a
    /// writer writes one a tick. Within the bound of blindness it may be now, as two may be written in one tick.
    pub fn age_of_row(&self, later: u64) -> Duration {
        let ticks = later.saturating_sub(BLIND_AFTER_TICKS.into());
        (self.blind_after / BLIND_AFTER_TICKS).saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// What there is to say at `now`.
    pub fn at(&self, now: Moment) -> Sighting {
        // The mark before the floor: who sees a new mark also sees the floor that was set before it.
        let mark = self.mark.get();
        let floor = self.floor.get();
        let loaded = mark != Moment::NEVER;
        let blind = !loaded || mark <= self.lost.get() || now.since(mark) > self.blind_after;
        let sight = if self.continuous && !blind { now } else { mark };
        Sighting { now, sight, floor, loaded, blind }
    }

    /// Moves sight to `seen`, at `now`. Where the node was blind until now, every lease first gets a full TTL: it
    /// may have refused, or not heard of, beats of any instance. Returns whether it was blind and is not any more.
    ///
    /// The caller has read both logs to their ends first.
    pub fn advance(&self, seen: Moment, now: Moment) -> bool {
        let was_blind = self.at(now).blind;
        if was_blind {
            self.floor.advance(now);
        }
        self.mark.advance(seen);
        was_blind && !self.at(now).blind
    }

    /// What was seen until `now` was not true: the node is blind at once, until it has seen something later.
    pub fn lose(&self, now: Moment) {
        // What is loaded next may bring leases that count from long ago.
        self.floor.advance(now);
        self.lost.advance(now);
    }
}

/// [`Sight`] at one moment: taken once per request, so that one answer agrees with itself.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// The moment.
    pub now: Moment,
    /// What the node has seen reaches up to here.
    pub sight: Moment,
    /// No lease counts from before this moment.
    pub floor: Moment,
    /// Whether the node has loaded its entries at all.
    pub loaded: bool,
    /// Whether the node cannot claim to know.
    pub blind: bool,
}

impl Sighting {
    /// The age of what this node knows.
    pub fn age(&self) -> Duration {
        self.now.since(self.sight)
    }

    /// When a lease ends, if no other beat comes.
    pub fn deadline(&self, last_seen: Moment, ttl: Duration) -> Moment {
        last_seen.max(self.floor).plus(ttl)
    }

    /// Whether a lease has ended: sight, not now, lies a TTL after the last beat or the floor.
    pub fn ended(&self, last_seen: Moment, ttl: Duration) -> bool {
        self.sight >= self.deadline(last_seen, ttl)
    }

    /// Whether nobody has heard of the instance for a TTL, lease ended or not.
    pub fn stale(&self, last_seen: Moment, ttl: Duration) -> bool {
        self.now.since(last_seen) >= ttl
    }

    /// Whole seconds that are left of a lease, rounded up; 0 when stale.
    pub fn remaining(&self, last_seen: Moment, ttl: Duration) -> u32 {
        let left = ttl.saturating_sub(self.now.since(last_seen));
        u32::try_from(left.as_secs() + u64::from(left.subsec_millis() > 0)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests;
