use std::{ops::Deref, sync::Arc};

use registry_wire::Ttl;

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
        self.life().orphaned()
    }

    /// How long it lasts.
    pub fn life(&self) -> Life<&Pulse> {
        Life { pulse: &self.pulse, ttl: self.record.ttl_seconds, orphaned: self.orphaned }
    }

    /// [`Life::ended_at`]
    pub fn ended_at(&self, sighting: &Sighting) -> Moment {
        self.life().ended_at(sighting)
    }

    /// [`Life::ended`]
    pub fn ended(&self, sighting: &Sighting) -> bool {
        self.life().ended(sighting)
    }
}

/// How long an entry lasts: what decides whether readers see it, apart from what they see of it.
#[derive(Clone, Copy, Debug)]
pub struct Life<P> {
    pulse: P,
    ttl: Ttl,
    orphaned: Moment,
}

impl Life<&Pulse> {
    /// The same, with a share of the pulse.
    pub const fn sharing(self, pulse: Arc<Pulse>) -> Life<Arc<Pulse>> {
        Life { pulse, ttl: self.ttl, orphaned: self.orphaned }
    }
}

impl<P: Deref<Target = Pulse>> Life<P> {
    fn orphaned(&self) -> Option<Moment> {
        Some(self.orphaned).filter(|at| *at != Moment::NEVER)
    }

    /// Its last beat.
    pub fn last_seen(&self) -> Moment {
        self.pulse.last_seen()
    }

    /// When its lease ended, where it has.
    pub fn ended_at(&self, sighting: &Sighting) -> Moment {
        self.orphaned().map_or_else(
            || self.pulse.ended_at(),
            |orphaned| sighting.deadline(orphaned, self.ttl.duration()),
        )
    }

    /// Whether its lease has ended: it is gone for readers, whether or not it was removed already.
    pub fn ended(&self, sighting: &Sighting) -> bool {
        let ttl = self.ttl.duration();
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
        self.orphaned().is_some() || sighting.stale(self.pulse.last_seen(), self.ttl.duration())
    }

    /// Whole seconds that are left of its lease, rounded up; 0 when stale.
    pub fn remaining(&self, sighting: &Sighting) -> u32 {
        if self.orphaned().is_some() {
            return 0;
        }
        sighting.remaining(self.pulse.last_seen(), self.ttl.duration())
    }
}
