use std::{collections::HashMap, fmt, sync::Arc};

use registry_wire::ServiceName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::config::Limits;

/// What a change takes of the queue for each so many bytes that a client sent with it.
const PIECE: usize = 1024;

/// How many services there are, and how many instances of one of them.
pub type Count = Arc<dyn Fn(&ServiceName) -> (usize, usize) + Send + Sync>;

/// What is full, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// The registry.
    Instances(u32),
    /// The registry, of services.
    Services(u32),
    /// The service.
    InstancesOfService(u32),
}

/// How many there are where one is to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Instances of all services.
    pub instances: usize,
    /// Services.
    pub services: usize,
    /// Instances of the service that it is to be added to.
    pub of_service: usize,
}

impl Counts {
    /// Whether another instance of that service may be added.
    ///
    /// # Errors
    /// What is full.
    pub fn room(&self, limits: &Limits) -> Result<(), Cap> {
        let full = |count: usize, limit: u32| u32::try_from(count).unwrap_or(u32::MAX) >= limit;
        if full(self.instances, limits.instances) {
            return Err(Cap::Instances(limits.instances));
        }
        if full(self.of_service, limits.instances_per_service) {
            return Err(Cap::InstancesOfService(limits.instances_per_service));
        }
        if self.of_service == 0 && full(self.services, limits.services) {
            return Err(Cap::Services(limits.services));
        }
        Ok(())
    }
}

/// What bounds the entries of a node and the changes that wait for their commit.
#[derive(Clone)]
pub struct Bounds {
    pub(super) limits: Limits,
    pub(super) count: Count,
    places: Arc<Semaphore>,
    all_places: usize,
}

impl Bounds {
    /// These caps, counted by `count`, and so many places in the queue.
    pub fn new(limits: Limits, places: usize, count: Count) -> Self {
        Self { limits, count, places: Arc::new(Semaphore::new(places)), all_places: places }
    }

    /// None.
    pub fn none() -> Self {
        Self::new(Limits::NONE, u32::MAX as usize, Arc::new(|_| (0, 0)))
    }

    /// Places in the queue for a change with which so many bytes came, as long as it is held. `None`: it is full.
    pub(super) fn place(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let pieces = (bytes / PIECE + 1).min(self.all_places);
        let places = Arc::clone(&self.places).try_acquire_many_owned(u32::try_from(pieces).ok()?);
        places.map_err(|error| debug_assert_eq!(error, TryAcquireError::NoPermits)).ok()
    }

    /// How many places there are in the queue, and how many of them are taken.
    pub(super) fn queue(&self) -> (usize, usize) {
        (self.all_places, self.all_places - self.places.available_permits().min(self.all_places))
    }
}

impl fmt::Debug for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounds").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What a batch adds to what there is: its registrations are not in the lease yet when the next of them is decided.
#[derive(Debug)]
pub struct Room<'a> {
    bounds: &'a Bounds,
    instances: usize,
    services: usize,
    added: HashMap<ServiceName, usize>,
}

impl<'a> Room<'a> {
    /// Beside so many instances.
    pub(super) fn new(bounds: &'a Bounds, instances: usize) -> Self {
        Self { bounds, instances, services: 0, added: HashMap::new() }
    }

    /// Takes a place for a new instance of this service.
    ///
    /// # Errors
    /// What is full; nothing is taken then.
    pub fn take(&mut self, service: &ServiceName) -> Result<(), Cap> {
        let (services, there) = (self.bounds.count)(service);
        let added = self.added.get(service).copied().unwrap_or_default();
        let counts = Counts {
            instances: self.instances,
            services: services + self.services,
            of_service: there + added,
        };
        counts.room(&self.bounds.limits)?;
        self.instances += 1;
        self.services += usize::from(counts.of_service == 0);
        *self.added.entry(service.clone()).or_default() += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
