//! The names of a fleet's services and instances, and the way back from a name to its number.

use registry_wire::{InstanceId, ServiceName};
use serde::{Deserialize, Serialize};

/// What every service of every fleet begins with.
pub const PREFIX: &str = "fleet-";

/// The number of an instance: service by service, from 0.
pub type Instance = u32;

/// The names of one run. A run has a label of its own, so that runs at one registry do not meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// Tells this run from others: letters and digits, at most 32.
    pub run: String,
    /// How many services.
    pub services: u32,
    /// How many instances each has.
    pub instances: u32,
}

impl Catalog {
    /// How many instances there are.
    pub const fn len(&self) -> u32 {
        self.services * self.instances
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The service of an instance, as a number from 0.
    pub const fn service_of(&self, instance: Instance) -> u32 {
        instance / self.instances
    }

    /// The instances of a service.
    pub const fn of_service(&self, service: u32) -> std::ops::Range<Instance> {
        service * self.instances..(service + 1) * self.instances
    }

    /// The name of a service.
    pub fn service(&self, service: u32) -> String {
        format!("{PREFIX}{}-{service}", self.run)
    }

    /// The id of an instance.
    pub fn instance(&self, instance: Instance) -> String {
        format!("i{}", instance % self.instances)
    }

    /// `service/instance`, for people.
    pub fn name(&self, instance: Instance) -> String {
        format!("{}/{}", self.service(self.service_of(instance)), self.instance(instance))
    }

    /// The number of a service; `None` for a name that is not of this run.
    pub fn service_number(&self, name: &str) -> Option<u32> {
        let number = name.strip_prefix(PREFIX)?.strip_prefix(&self.run)?.strip_prefix('-')?;
        number.parse().ok().filter(|number| *number < self.services && self.service(*number) == name)
    }

    /// The number of an instance; `None` for one that is not of this run.
    pub fn instance_number(&self, service: &str, instance: &str) -> Option<Instance> {
        let service = self.service_number(service)?;
        let number: u32 = instance.strip_prefix('i')?.parse().ok()?;
        (number < self.instances).then_some(service * self.instances + number)
    }

    /// Whether every name keeps the protocol's rules.
    pub fn is_valid(&self) -> bool {
        let plain = !self.run.is_empty()
            && self.run.len() <= 32
            && self.run.chars().all(|letter| letter.is_ascii_alphanumeric());
        let countable = self.services.checked_mul(self.instances).is_some_and(|count| count > 0);
        plain
            && countable
            && self.service(self.services - 1).parse::<ServiceName>().is_ok()
            && self.instance(self.len() - 1).parse::<InstanceId>().is_ok()
    }
}

#[cfg(test)]
mod tests;
