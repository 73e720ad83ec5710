use std::collections::{HashMap, VecDeque};

use registry_wire::{InstanceId, ServiceName};

use crate::entry::{Change, Key, Revision};

/// How many instances that are gone are remembered.
const MAX: usize = 10_000;

/// How long, in seconds.
const MEMORY_SECONDS: f64 = 24.0 * 3600.0;

/// What is remembered of an instance that is gone.
#[derive(Clone, Debug, PartialEq)]
pub struct GoneInstance {
    /// The change that removed it.
    pub revision: Revision,
    /// `deregistered` or `expired`.
    pub state: &'static str,
    /// When, in Unix seconds of the store.
    pub at: f64,
    /// Its last beat, in Unix seconds.
    pub last_seen: Option<f64>,
    /// Why, for people.
    pub reason: String,
}

impl GoneInstance {
    /// What a removal leaves behind.
    pub fn of(change: &Change) -> Self {
        let state = if change.kind == crate::entry::Kind::Expire { "expired" } else { "deregistered" };
        Self {
            revision: change.revision,
            state,
            at: change.at,
            last_seen: change.body.last_seen,
            reason: change.reason.clone().unwrap_or_else(|| state.to_owned()),
        }
    }
}

/// The instances that went lately: the last 10,000 of the last 24 hours.
#[derive(Debug, Default)]
pub struct Gone {
    instances: HashMap<Key, GoneInstance>,
    last_of_service: HashMap<ServiceName, InstanceId>,
    /// In the order in which they went; those that went again stand here twice.
    order: VecDeque<(Key, Revision)>,
}

impl Gone {
    /// Remembers a removal, and forgets what is too old or too much.
    pub fn remember(&mut self, key: Key, gone: GoneInstance) {
        let now = gone.at;
        self.order.push_back((key.clone(), gone.revision));
        // A removal of this node's own may be applied before an older one of another node is read.
        let last = self.last_of_service.get(&key.service);
        let last = last.map(|instance| Key { service: key.service.clone(), instance: instance.clone() });
        let last = last.and_then(|key| self.instances.get(&key)).map(|gone| gone.revision);
        if last.is_none_or(|last| last <= gone.revision) {
            self.last_of_service.insert(key.service.clone(), key.instance.clone());
        }
        self.instances.insert(key, gone);
        while let Some((key, revision)) = self.order.front() {
            let known = self.instances.get(key).filter(|gone| gone.revision == *revision);
            let keep = known.is_some_and(|gone| now - gone.at <= MEMORY_SECONDS) && self.order.len() <= MAX;
            if keep {
                break;
            }
            if known.is_some() {
                self.instances.remove(key);
                if self.last_of_service.get(&key.service) == Some(&key.instance) {
                    self.last_of_service.remove(&key.service);
                }
            }
            self.order.pop_front();
        }
    }

    /// An instance that is gone; `unix_now` by the wall clock.
    pub fn of_instance(&self, key: &Key, unix_now: f64) -> Option<&GoneInstance> {
        self.instances.get(key).filter(|gone| unix_now - gone.at <= MEMORY_SECONDS)
    }

    /// The change that removed the last entry of a key.
    pub fn revision(&self, key: &Key) -> Option<Revision> {
        self.instances.get(key).map(|gone| gone.revision)
    }

    /// The instance of a service that went last.
    pub fn last_of(&self, service: &ServiceName, unix_now: f64) -> Option<(InstanceId, GoneInstance)> {
        let instance = self.last_of_service.get(service)?;
        let key = Key { service: service.clone(), instance: instance.clone() };
        Some((instance.clone(), self.of_instance(&key, unix_now)?.clone()))
    }
}
