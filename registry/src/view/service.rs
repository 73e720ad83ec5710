use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use parking_lot::Mutex;
use registry_wire::{InstanceId, ServiceName};

use super::Text;
use crate::{clock::Sighting, entry::Entry};

/// The instances of one service, sorted by id.
#[derive(Debug)]
pub struct Service {
    name: ServiceName,
    entries: Box<[Arc<Entry>]>,
    /// What [`super::Texts`] keeps of it.
    text: Mutex<Option<Arc<Text>>>,
    /// The turn of its last read that found no text, as [`super::Texts`] counts them; 0 before the first.
    missed: AtomicU32,
}

impl Service {
    /// `entries` are sorted by instance id.
    pub(super) const fn new(name: ServiceName, entries: Box<[Arc<Entry>]>) -> Self {
        Self { name, entries, text: Mutex::new(None), missed: AtomicU32::new(0) }
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

    /// Its text, where it is kept.
    pub(super) fn text(&self) -> Option<Arc<Text>> {
        self.text.lock().clone()
    }

    /// Notes that a read found no text, and when. Returns when that was so before.
    pub(super) fn missed(&self, turn: u32) -> Option<u32> {
        Some(self.missed.swap(turn, Relaxed)).filter(|before| *before != 0)
    }

    /// Keeps its text, or no longer.
    pub(super) fn keep_text(&self, text: Option<Arc<Text>>) {
        let before = std::mem::replace(&mut *self.text.lock(), text);
        // Not under the lock: a large one takes a while to let go of.
        drop(before);
    }
}
