use std::sync::Arc;

use super::{EntryId, Packed, Revision};
use crate::{
    clock::{Moment, Pulse, Sighting},
    seeded::{Bug, seeded, wall_clock},
};

/// An entry as a node holds it, shared by the lease and the view. Only its pulse changes: a change of membership makes
/// another.
#[derive(Debug)]
pub struct Entry {
    /// Its number.
    pub id: EntryId,
    /// The change that made it what it is.
    pub revision: Revision,
    /// What it is.
    pub record: Packed,
    /// Its beats and the end of its lease, moved by the lease.
    pub pulse: Arc<Pulse>,
    /// [`Moment::NEVER`], or when it was orphaned.
    orphaned: Moment,
}

impl Entry {
    /// An entry.
    pub const fn new(id: EntryId, revision: Revision, record: Packed, pulse: Arc<Pulse>) -> Self {
        Self { id, revision, record, pulse, orphaned: Moment::NEVER }
    }

    /// This entry, lost by the store at `now`.
    #[must_use]
    pub fn orphan(&self, now: Moment) -> Self {
        let orphan = Self::new(self.id, self.revision, self.record.clone(), Arc::clone(&self.pulse));
        Self { orphaned: now, ..orphan }
    }

    /// When this node learned that the store had lost it, without a row that says why: stale from then on, and listed
    /// for one TTL. It has no lease.
    pub fn orphaned(&self) -> Option<Moment> {
        Some(self.orphaned).filter(|at| *at != Moment::NEVER)
    }

    /// When its lease ended, where it has.
    pub fn ended_at(&self, sighting: &Sighting) -> Moment {
        self.orphaned().map_or_else(
            || self.pulse.ended_at(),
            |orphaned| sighting.deadline(orphaned, self.record.ttl_seconds.duration()),
        )
    }

    /// Whether its lease has ended: it is gone for readers, whether or not it was removed already.
    pub fn ended(&self, sighting: &Sighting) -> bool {
        let ttl = self.record.ttl_seconds.duration();
        if seeded(Bug::FreezeOff) {
            return sighting.now >= self.pulse.last_seen().plus(ttl);
        }
        if seeded(Bug::NowForSight) {
            return sighting.now >= self.pulse.counted_from(sighting).plus(ttl);
        }
        if seeded(Bug::WallClock) {
            return wall_clock(sighting.now) >= self.pulse.counted_from(sighting).plus(ttl);
        }
        self.orphaned()
            .map_or_else(|| self.pulse.ended(sighting, ttl), |orphaned| sighting.ended(orphaned, ttl))
    }

    /// Whether nobody has heard of it for a TTL, or the store has lost it.
    pub fn stale(&self, sighting: &Sighting) -> bool {
        self.orphaned().is_some()
            || sighting.stale(self.pulse.last_seen(), self.record.ttl_seconds.duration())
    }

    /// Whole seconds that are left of its lease, rounded up; 0 when stale.
    pub fn remaining(&self, sighting: &Sighting) -> u32 {
        if self.orphaned().is_some() {
            return 0;
        }
        sighting.remaining(self.pulse.last_seen(), self.record.ttl_seconds.duration())
    }
}
