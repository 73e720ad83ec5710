//! The bounds on what clients may have a node hold and do.

use clap::Args;

use super::{ConfigError, bad};

/// The most of any of them: a rate of more could not be counted in nanoseconds.
const MOST: u32 = 1_000_000_000;

/// The bounds as they were given.
#[derive(Args, Clone, Debug, Default)]
pub struct LimitSettings {
    /// Instances that there may be, of all services [default: 1000000]
    #[arg(long, env = "REGISTRY_MAX_INSTANCES", value_name = "NUMBER", global = true)]
    pub max_instances: Option<String>,
    /// Services that there may be [default: 200000]
    #[arg(long, env = "REGISTRY_MAX_SERVICES", value_name = "NUMBER", global = true)]
    pub max_services: Option<String>,
    /// Instances that a service may have [default: 20000]
    #[arg(long, env = "REGISTRY_MAX_INSTANCES_PER_SERVICE", value_name = "NUMBER", global = true)]
    pub max_instances_per_service: Option<String>,
    /// Changes a second at this node with one token, heartbeats left out [default: 5000]
    #[arg(long, env = "REGISTRY_MAX_CHANGES_PER_TOKEN", value_name = "NUMBER", global = true)]
    pub max_changes_per_token: Option<String>,
    /// Changes and lists a second at this node from one address, heartbeats left out; counted only with trusted
    /// proxies [default: 2000]
    #[arg(long, env = "REGISTRY_MAX_CALLS_PER_ADDRESS", value_name = "NUMBER", global = true)]
    pub max_calls_per_address: Option<String>,
    /// Connections at a time [default: 12000]
    #[arg(long, env = "REGISTRY_MAX_CONNECTIONS", value_name = "NUMBER", global = true)]
    pub max_connections: Option<String>,
    /// Connections at a time from one address that is no trusted proxy; counted only with trusted proxies
    /// [default: 2000]
    #[arg(long, env = "REGISTRY_MAX_CONNECTIONS_PER_ADDRESS", value_name = "NUMBER", global = true)]
    pub max_connections_per_address: Option<String>,
}

/// The bounds, checked: each is 1 to 1,000,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Instances of all services.
    pub instances: u32,
    /// Services.
    pub services: u32,
    /// Instances of one service.
    pub instances_per_service: u32,
    /// Changes a second with one token.
    pub changes_per_token: u32,
    /// Changes and lists a second from one address.
    pub calls_per_address: u32,
    /// Connections at a time.
    pub connections: u32,
    /// Connections at a time from one address.
    pub connections_per_address: u32,
}

impl Limits {
    /// Where nothing is bounded.
    pub const NONE: Self = Self {
        instances: MOST,
        services: MOST,
        instances_per_service: MOST,
        changes_per_token: MOST,
        calls_per_address: MOST,
        connections: MOST,
        connections_per_address: MOST,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            instances: 1_000_000,
            services: 200_000,
            instances_per_service: 20_000,
            changes_per_token: 5_000,
            calls_per_address: 2_000,
            connections: 12_000,
            connections_per_address: 2_000,
        }
    }
}

impl LimitSettings {
    pub(super) fn limits(&self) -> Result<Limits, ConfigError> {
        let usual = Limits::default();
        let limit = |name: &str, given: &Option<String>, usual: u32| {
            let Some(text) = given else { return Ok(usual) };
            let number = text.parse().ok().filter(|number| (1..=MOST).contains(number));
            number.ok_or_else(|| bad(name, text, "must be a whole number of 1 to 1000000000"))
        };
        Ok(Limits {
            instances: limit("REGISTRY_MAX_INSTANCES", &self.max_instances, usual.instances)?,
            services: limit("REGISTRY_MAX_SERVICES", &self.max_services, usual.services)?,
            instances_per_service: limit(
                "REGISTRY_MAX_INSTANCES_PER_SERVICE",
                &self.max_instances_per_service,
                usual.instances_per_service,
            )?,
            changes_per_token: limit(
                "REGISTRY_MAX_CHANGES_PER_TOKEN",
                &self.max_changes_per_token,
                usual.changes_per_token,
            )?,
            calls_per_address: limit(
                "REGISTRY_MAX_CALLS_PER_ADDRESS",
                &self.max_calls_per_address,
                usual.calls_per_address,
            )?,
            connections: limit("REGISTRY_MAX_CONNECTIONS", &self.max_connections, usual.connections)?,
            connections_per_address: limit(
                "REGISTRY_MAX_CONNECTIONS_PER_ADDRESS",
                &self.max_connections_per_address,
                usual.connections_per_address,
            )?,
        })
    }
}
