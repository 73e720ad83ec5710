use std::sync::Arc;

use rand::Rng;
use registry_wire::{InstanceId, ServiceName};

use super::render::Rendered;
use crate::{
    clock::{Moment, Pulse, Sighting},
    entry::{EntryId, Record, Revision},
    seeded::{Bug, seeded, wall_clock},
};

/// An instance as readers see it. Only its pulse changes.
#[derive(Debug)]
pub struct Entry {
    /// Its number.
    pub id: EntryId,
    /// The change that made it what it is.
    pub revision: Revision,
    /// What it is.
    pub record: Record,
    /// Its beats and the end of its lease, moved by the lease.
    pub pulse: Arc<Pulse>,
    /// When this node learned that the store had lost it, without a row that says why: stale from then on, and listed
    /// for one TTL. It has no lease.
    pub orphaned: Option<Moment>,
    pub(super) rendered: Rendered,
}

impl Entry {
    /// An entry; what does not change of its JSON is written here, once.
    pub fn new(id: EntryId, revision: Revision, record: Record, pulse: Arc<Pulse>) -> Self {
        let rendered = Rendered::new(&record);
        Self { id, revision, record, pulse, orphaned: None, rendered }
    }

    /// This entry, lost by the store at `now`.
    #[must_use]
    pub fn orphan(&self, now: Moment) -> Self {
        let orphan = Self::new(self.id, self.revision, self.record.clone(), Arc::clone(&self.pulse));
        Self { orphaned: Some(now), ..orphan }
    }

    /// When its lease ended, where it has.
    pub fn ended_at(&self, sighting: &Sighting) -> Moment {
        self.orphaned.map_or_else(
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
        self.orphaned
            .map_or_else(|| self.pulse.ended(sighting, ttl), |orphaned| sighting.ended(orphaned, ttl))
    }

    /// Whether nobody has heard of it for a TTL, or the store has lost it.
    pub fn stale(&self, sighting: &Sighting) -> bool {
        self.orphaned.is_some() || sighting.stale(self.pulse.last_seen(), self.record.ttl_seconds.duration())
    }

    /// Whole seconds that are left of its lease, rounded up; 0 when stale.
    pub fn remaining(&self, sighting: &Sighting) -> u32 {
        if self.orphaned.is_some() {
            return 0;
        }
        sighting.remaining(self.pulse.last_seen(), self.record.ttl_seconds.duration())
    }
}

/// The instances of one service, sorted by id.
#[derive(Debug)]
pub struct Service {
    name: ServiceName,
    entries: Vec<Arc<Entry>>,
}

impl Service {
    /// `entries` are sorted by instance id.
    pub(super) const fn new(name: ServiceName, entries: Vec<Arc<Entry>>) -> Self {
        Self { name, entries }
    }

    /// Its name.
    pub const fn name(&self) -> &ServiceName {
        &self.name
    }

    /// Every entry, lease ended or not.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// An entry, lease ended or not.
    pub fn entry(&self, instance: &InstanceId) -> Option<&Arc<Entry>> {
        let place = self.entries.binary_search_by(|entry| entry.record.instance_id.cmp(instance)).ok()?;
        self.entries.get(place)
    }

    /// Entries whose lease has not ended, whatever their status.
    pub fn listed<'a>(&'a self, sighting: &'a Sighting) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().map(Arc::as_ref).filter(|entry| !entry.ended(sighting))
    }

    /// Picks the instance that `curl … | jq -r .endpoint` gets: a random one of those that are usable and not stale,
    /// else of all that are usable.
    pub fn pick<'a>(&'a self, sighting: &'a Sighting, rng: &mut impl Rng) -> Option<&'a Entry> {
        let usable = || self.listed(sighting).filter(|entry| entry.record.usable());
        let fresh = usable().filter(|entry| !entry.stale(sighting)).count();
        if fresh > 0 {
            return usable().filter(|entry| !entry.stale(sighting)).nth(rng.random_range(0..fresh));
        }
        let count = usable().count();
        if count == 0 { None } else { usable().nth(rng.random_range(0..count)) }
    }
}
