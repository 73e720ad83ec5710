use std::sync::Arc;

use rand::Rng;
use registry_wire::{InstanceId, ServiceName};

use crate::{clock::Sighting, entry::Entry};

/// The instances of one service, sorted by id.
#[derive(Debug)]
pub struct Service {
    name: ServiceName,
    entries: Box<[Arc<Entry>]>,
}

impl Service {
    /// `entries` are sorted by instance id.
    pub(super) const fn new(name: ServiceName, entries: Box<[Arc<Entry>]>) -> Self {
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
        let place =
            self.entries.binary_search_by(|entry| entry.record.instance().cmp(instance.as_str())).ok()?;
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
