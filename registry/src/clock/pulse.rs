use std::time::Duration;

use super::{AtomicMoment, Moment, Sighting};

/// What time has done to one entry, shared by the lease, which moves it, and the view, which reads it without a lock.
///
/// Whether a lease has ended is decided in one place, by the lease's core, which knows what the brake on mass death
/// says. Readers see the mark that it leaves here, and a later beat outdates that mark by itself.
#[derive(Debug)]
pub struct Pulse {
    last_seen: AtomicMoment,
    /// How far this node had seen when it judged the lease to have ended.
    ended_at: AtomicMoment,
    /// When the lease would have ended, had it not been held.
    held_since: AtomicMoment,
}

impl Pulse {
    /// Of an instance that was seen at this moment.
    pub const fn new(seen: Moment) -> Self {
        Self {
            last_seen: AtomicMoment::new(seen),
            ended_at: AtomicMoment::new(Moment::NEVER),
            held_since: AtomicMoment::new(Moment::NEVER),
        }
    }

    /// The last beat, from whichever node it came.
    pub fn last_seen(&self) -> Moment {
        self.last_seen.get()
    }

    /// A beat; an earlier one than the last changes nothing.
    pub fn beat(&self, seen: Moment) {
        self.last_seen.advance(seen);
    }

    /// The lease would have ended at `since`, and is held.
    pub fn hold(&self, since: Moment) {
        self.held_since.advance(since);
    }

    /// The lease has ended for a node that has seen up to `sight`, which lies a TTL after the last beat.
    pub fn end(&self, sight: Moment) {
        self.ended_at.advance(sight);
    }

    /// How far this node had seen when it last judged the lease to have ended; [`Moment::NEVER`] if it never did.
    pub fn ended_at(&self) -> Moment {
        self.ended_at.get()
    }

    /// Whether the lease has ended: it was judged so by what can be seen in this sighting, and neither a time of
    /// blindness came after, nor word of a beat for which the judgement would have been too early. Such a beat need not
    /// be later than the judgement: it may have waited elsewhere for the store.
    pub fn ended(&self, sighting: &Sighting, ttl: Duration) -> bool {
        let ended_at = self.ended_at.get();
        ended_at >= self.counted_from(sighting).plus(ttl) && ended_at <= sighting.sight
    }

    /// How long it has been held, up to the end of its lease or to now. `None`: it was not held since its last beat.
    pub fn held_for(&self, sighting: &Sighting, ttl: Duration) -> Option<Duration> {
        let (end, since, ended_at) =
            (self.counted_from(sighting).plus(ttl), self.held_since.get(), self.ended_at.get());
        let until = if ended_at >= end { ended_at } else { sighting.now };
        (since >= end).then(|| until.since(since))
    }

    /// The moment from which the lease counts.
    pub fn counted_from(&self, sighting: &Sighting) -> Moment {
        self.last_seen.get().max(sighting.floor)
    }
}

#[cfg(test)]
mod tests;
