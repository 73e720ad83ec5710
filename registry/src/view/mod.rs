//! What readers see: an immutable snapshot of each service, rebuilt when its membership changes, with the beats as
//! atomics beside it.
//!
//! In: changes from `fanout`, already in order of revision for each key.
//! Owns: the services and their instances, the texts that reads write their answers from, and what is remembered of
//! those that are gone.
//! Out: answers for `http`, from memory: a read never waits for the store, nor long for a writer.

mod gone;
mod render;
mod service;
mod services;
mod text;
mod texts;

use std::sync::Arc;

use parking_lot::RwLock;
use registry_wire::{InstanceId, ServiceName};

pub use self::{
    gone::{Gone, GoneInstance},
    render::instance,
    service::Service,
    text::{ReadAt, Text, write_instance},
};
use self::{services::Services, texts::Texts};
pub use crate::entry::Entry;
use crate::{
    clock::Sighting,
    entry::{Key, Revision},
};

/// Names read in one hold of the lock, so that a list of a million names keeps no writer waiting.
const NAMES_PER_LOCK: usize = 1000;

/// The view of one node.
#[derive(Debug, Default)]
pub struct View {
    services: RwLock<Services>,
    gone: RwLock<Gone>,
    texts: Texts,
}

/// What one key becomes.
#[derive(Debug)]
pub enum Update {
    /// The key holds this entry.
    Put(Arc<Entry>),
    /// The key holds nothing; what is remembered of it.
    Remove(Key, Box<GoneInstance>),
}

impl Update {
    fn service(&self) -> &ServiceName {
        match self {
            Self::Put(entry) => entry.record.service(),
            Self::Remove(key, _) => &key.service,
        }
    }
}

impl View {
    /// Applies updates; each service is rebuilt once, however many of its keys are among them. One caller at a time
    /// (`fanout`), or updates are lost.
    pub fn apply(&self, mut updates: Vec<Update>) {
        // In the order in which they came for each service. No list of its own for each: at start there are very many.
        updates.sort_by(|one, other| one.service().cmp(other.service()));
        let mut updates = updates.into_iter().peekable();
        while let Some(first) = updates.next() {
            let known = self.service(first.service());
            let name =
                known.as_ref().map_or_else(|| first.service().clone(), |service| service.name().clone());
            let mut entries = known.as_ref().map_or_else(Vec::new, |service| service.entries().to_vec());
            self.update(&mut entries, first);
            while let Some(next) = updates.next_if(|next| *next.service() == name) {
                self.update(&mut entries, next);
            }
            let mut services = self.services.write();
            let before = if entries.is_empty() {
                services.remove(&name)
            } else {
                services.insert(Arc::new(Service::new(name, entries.into())))
            };
            drop(services);
            // Not under the lock: a large service takes a while to let go of.
            drop((known, before));
        }
    }

    fn update(&self, service: &mut Vec<Arc<Entry>>, update: Update) {
        let instance = match &update {
            Update::Put(entry) => entry.record.instance(),
            Update::Remove(key, _) => key.instance.as_str(),
        };
        let place = service.binary_search_by(|entry| entry.record.instance().cmp(instance));
        match (update, place) {
            (Update::Put(entry), Ok(place)) => service[place] = entry,
            (Update::Put(entry), Err(place)) => service.insert(place, entry),
            (Update::Remove(key, gone), place) => {
                if let Ok(place) = place {
                    service.remove(place);
                }
                self.gone.write().remember(key, *gone);
            }
        }
    }

    /// A service's snapshot, entries whose lease has ended included.
    pub fn service(&self, name: &(impl AsRef<str> + ?Sized)) -> Option<Arc<Service>> {
        self.services.read().get(name.as_ref()).cloned()
    }

    /// What answers about a service say whatever the time.
    pub fn text(&self, service: &Arc<Service>) -> Arc<Text> {
        self.texts.of(service)
    }

    /// An entry, lease ended or not.
    pub fn entry(&self, key: &Key) -> Option<Arc<Entry>> {
        self.service(&key.service)?.entry(&key.instance).cloned()
    }

    /// The revision of the entry that a key holds.
    pub fn revision(&self, key: &Key) -> Option<Revision> {
        self.entry(key).map(|entry| entry.revision)
    }

    /// What is remembered of an instance that is gone; `unix_now` by the wall clock.
    pub fn gone(&self, key: &Key, unix_now: f64) -> Option<GoneInstance> {
        self.gone.read().of_instance(key, unix_now).cloned()
    }

    /// The revision at which the last entry of a key that is remembered went.
    pub fn left(&self, key: &Key) -> Option<Revision> {
        self.gone.read().revision(key)
    }

    /// What is remembered of the instance of a service that went last.
    pub fn last_gone(&self, service: &ServiceName, unix_now: f64) -> Option<(InstanceId, GoneInstance)> {
        self.gone.read().last_of(service, unix_now)
    }

    /// Takes up what was remembered of instances that are gone before this node started.
    pub fn remember_gone(&self, gone: impl IntoIterator<Item = (Key, GoneInstance)>) {
        let mut memory = self.gone.write();
        for (key, instance) in gone {
            memory.remember(key, instance);
        }
    }

    /// Snapshots in order of name, after `after`, as long as `more` says so.
    pub fn each_service(&self, after: Option<&ServiceName>, mut more: impl FnMut(&Arc<Service>) -> bool) {
        let mut last = after.cloned();
        loop {
            let batch: Vec<Arc<Service>> = {
                let services = self.services.read();
                let after = services.after(last.as_ref()).take(NAMES_PER_LOCK);
                after.map(|(_, service)| Arc::clone(service)).collect()
            };
            let whole = batch.len() == NAMES_PER_LOCK;
            for service in &batch {
                if !more(service) {
                    return;
                }
            }
            if !whole {
                return;
            }
            last = batch.last().map(|service| service.name().clone());
        }
    }

    /// Names with an instance whose lease has not ended, whatever its status.
    pub fn names(&self, sighting: &Sighting, after: Option<&ServiceName>, limit: usize) -> Vec<ServiceName> {
        let mut names = Vec::new();
        self.each_service(after, |service| {
            if names.len() < limit && service.listed(sighting).next().is_some() {
                names.push(service.name().clone());
            }
            names.len() < limit
        });
        names
    }

    /// How many names [`View::names`] would give.
    pub fn active_services(&self, sighting: &Sighting) -> usize {
        let mut count = 0;
        self.each_service(None, |service| {
            count += usize::from(service.listed(sighting).next().is_some());
            true
        });
        count
    }

    /// How many services there are; leases ended or not.
    pub fn services(&self) -> usize {
        self.services.read().len()
    }

    /// How many services there are, and how many instances of this one; leases ended or not.
    pub fn counts(&self, name: &ServiceName) -> (usize, usize) {
        let services = self.services.read();
        (services.len(), services.get(name.as_str()).map_or(0, |service| service.entries().len()))
    }

    /// Whether there is no entry at all, lease ended or not.
    pub fn is_empty(&self) -> bool {
        self.services.read().is_empty()
    }
}

#[cfg(test)]
mod tests;
