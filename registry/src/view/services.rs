use std::{
    collections::{BTreeMap, btree_map, hash_map::RandomState},
    hash::BuildHasher,
    ops::Bound,
    sync::Arc,
};

use hashbrown::HashTable;
use registry_wire::ServiceName;

use super::Service;

/// The snapshots of all services, in order of name for lists, and by a hash of the name for reads: to find a name among
/// sorted ones, a dozen of them must be compared, each of which lies elsewhere in memory.
#[derive(Debug, Default)]
pub(super) struct Services {
    sorted: BTreeMap<ServiceName, Arc<Service>>,
    by_hash: HashTable<Arc<Service>>,
    hasher: RandomState,
}

impl Services {
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Service>> {
        self.by_hash.find(self.hasher.hash_one(name), |service| service.name().as_str() == name)
    }

    /// Puts a snapshot in the place of the one before, which is returned.
    pub(super) fn insert(&mut self, service: Arc<Service>) -> Option<Arc<Service>> {
        let Self { sorted, by_hash, hasher } = self;
        let name = service.name();
        let hash = hasher.hash_one(name);
        by_hash
            .entry(hash, |other| other.name() == name, |other| hasher.hash_one(other.name()))
            .insert(Arc::clone(&service));
        sorted.insert(name.clone(), service)
    }

    pub(super) fn remove(&mut self, name: &ServiceName) -> Option<Arc<Service>> {
        if let Ok(found) =
            self.by_hash.find_entry(self.hasher.hash_one(name), |service| service.name() == name)
        {
            found.remove();
        }
        self.sorted.remove(name)
    }

    /// Those after a name, in order.
    pub(super) fn after(
        &self,
        name: Option<&ServiceName>,
    ) -> btree_map::Range<'_, ServiceName, Arc<Service>> {
        let from = name.map_or(Bound::Unbounded, Bound::Excluded);
        self.sorted.range::<ServiceName, _>((from, Bound::Unbounded))
    }

    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> Arc<Service> {
        Arc::new(Service::new(name.parse().unwrap(), Box::default()))
    }

    #[test]
    fn both_orders_hold_the_same() {
        let mut services = Services::default();
        for round in 0..3 {
            for number in 0..200 {
                let before = services.insert(service(&format!("s{number:03}")));
                assert_eq!(before.is_some(), round > 0 && number % 3 != 0, "{round} {number}");
            }
            for number in (0..200).step_by(3) {
                let name = format!("s{number:03}").parse().unwrap();
                assert!(services.remove(&name).is_some() && services.remove(&name).is_none());
                assert!(services.get(&format!("s{number:03}")).is_none());
            }
            let sorted: Vec<_> = services.after(None).map(|(_, service)| Arc::clone(service)).collect();
            assert_eq!((sorted.len(), services.by_hash.len()), (133, 133));
            for service in &sorted {
                assert!(
                    services.get(service.name().as_str()).is_some_and(|found| Arc::ptr_eq(found, service))
                );
            }
            let names: Vec<_> =
                services.after(Some(&"s197".parse().unwrap())).map(|(name, _)| name).collect();
            assert_eq!(names, [&"s199".parse::<ServiceName>().unwrap()]);
        }
    }
}
