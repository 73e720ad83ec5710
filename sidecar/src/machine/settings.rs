use std::time::Duration;

use registry_wire::{Metadata, Ttl, limits};

/// What the machine has to know of the configuration. Share one among all machines that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The longest time between two beats; the registry may ask for less. Less than a second counts as a second.
    pub interval: Duration,
    /// The lease that a registration asks for. Less than three intervals makes the registry ask for quicker beats.
    pub ttl: Ttl,
    /// How long to wait for the service to become healthy before it is registered as critical.
    pub initial_wait: Duration,
    /// The time from one probe to the next once registered.
    pub health_interval: Duration,
    /// How many probes in a row must fail before the service is reported as critical. 0 counts as 1.
    pub health_failures: u32,
    /// How long to go on, drained, between the wish to leave and deregistering.
    pub drain: Duration,
    /// How many registry URLs there are. 0 counts as 1.
    pub registries: usize,
    /// What the operator says of the service; wins over what the service says of itself.
    pub metadata: Metadata,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(u64::from(limits::DEFAULT_HEARTBEAT_INTERVAL)),
            ttl: Ttl::default(),
            initial_wait: Duration::from_mins(1),
            health_interval: Duration::from_secs(10),
            health_failures: 3,
            drain: Duration::ZERO,
            registries: 1,
            metadata: Metadata::default(),
        }
    }
}
