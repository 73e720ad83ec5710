use std::time::Duration;

use registry_wire::Ttl;
use secrecy::SecretString;
use url::Url;

use crate::{catalog::Catalog, clock};

/// A registry URL, and what answers there.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it is.
    pub url: Url,
    /// The node that answers, as faults name it; `None` for a balancer, whose answers may come from any.
    pub node: Option<u8>,
}

impl Target {
    /// One node, asked directly.
    pub const fn node(url: Url, node: u8) -> Self {
        Self { url, node: Some(node) }
    }

    /// A balancer before any number of nodes.
    pub const fn balancer(url: Url) -> Self {
        Self { url, node: None }
    }
}

/// What a fleet is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// The registry's URLs: 1 to 255.
    pub targets: Vec<Target>,
    /// The URLs that sidecars use, by their places in `targets`; empty: all. Each sidecar begins at another one.
    pub write_to: Vec<usize>,
    /// The URLs that readers use; empty: all.
    pub read_from: Vec<usize>,
    /// The names.
    pub catalog: Catalog,
    /// The lease of every instance.
    pub ttl: Ttl,
    /// The time between two beats; at least a second, and a third of the lease if that is less.
    pub interval: Duration,
    /// The tick of the registry's nodes (`REGISTRY_TICK_MS`), by which the judge's bounds scale.
    pub tick: Duration,
    /// The sidecars start evenly over this time. Zero: all at once.
    pub ramp: Duration,
    /// Reads of single services and instances in a second.
    pub reads_per_second: f64,
    /// Reads of whole lists in a second.
    pub lists_per_second: f64,
    /// Calls under way at once, sidecars and readers each.
    pub in_flight: usize,
    /// The token that writes need, and reads where no other is given.
    pub token: Option<SecretString>,
    /// What every random choice follows from.
    pub seed: u64,
    /// Bytes that the history may take; what comes after is not recorded.
    pub history_limit: usize,
}

impl Config {
    /// Ten instances of a fresh run with the protocol's own constants.
    pub fn new(targets: Vec<Target>) -> Self {
        let seed = clock::fresh_seed();
        Self {
            targets,
            write_to: Vec::new(),
            read_from: Vec::new(),
            catalog: Catalog { run: format!("{:x}", clock::fresh_seed()), services: 5, instances: 2 },
            ttl: Ttl::default(),
            interval: Duration::from_secs(30),
            tick: Duration::from_secs(1),
            ramp: Duration::ZERO,
            reads_per_second: 10.0,
            lists_per_second: 1.0,
            in_flight: 512,
            token: None,
            seed,
            history_limit: 2 << 30,
        }
    }
}
