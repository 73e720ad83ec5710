//! Bodies of successful answers. Clients must ignore fields they do not know; serde does.

use serde::{Deserialize, Serialize};

use crate::{Endpoint, HealthPath, InstanceId, Metadata, ServiceName, Status};

/// One instance, as lists and single reads show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Instance {
    /// The service.
    pub service_name: ServiceName,
    /// The instance.
    pub instance_id: InstanceId,
    /// Where it answers.
    pub endpoint: Endpoint,
    /// Where it answers health checks.
    pub health_endpoint: HealthPath,
    /// What it says of itself.
    pub metadata: Metadata,
    /// When this session registered, in Unix seconds.
    pub registered_at: f64,
    /// How its last health check went.
    pub status: Status,
    /// The health check's text that came with the last change of status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::Output>"))]
    pub output: Option<String>,
    /// Listed, but not handed out.
    pub draining: bool,
    /// Why it drains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::Reason>"))]
    pub drain_reason: Option<String>,
    /// The address that the registration came from, as the registry saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_address: Option<String>,
    /// The lease, in seconds.
    #[cfg_attr(feature = "schema", schemars(with = "crate::Ttl"))]
    pub ttl_seconds: u32,
    /// No beat for a lease's length, and still listed because nobody can say that it is gone.
    pub stale: bool,
    /// What is left of the lease, in seconds; 0 when stale.
    #[cfg_attr(feature = "schema", schemars(range(max = crate::limits::TTL_MAX)))]
    pub ttl_remaining: u32,
    /// The last beat, in Unix seconds.
    pub last_heartbeat: f64,
}

/// The answer to `PUT /services/{service}/instances/{instance}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Registered {
    /// The instance as it now stands.
    #[serde(flatten)]
    pub instance: Instance,
    /// Seconds between two beats.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::HeartbeatInterval"))]
    pub heartbeat_interval_seconds: u32,
}

/// The answer to `PUT /services/{service}/instances/{instance}/heartbeat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Beaten {
    /// The lease, in seconds.
    #[cfg_attr(feature = "schema", schemars(with = "crate::Ttl"))]
    pub ttl_seconds: u32,
    /// Seconds between two beats.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::HeartbeatInterval"))]
    pub heartbeat_interval_seconds: u32,
}

/// The answer to every flat call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Flat {
    /// For people.
    pub message: String,
    /// The service.
    #[cfg_attr(feature = "schema", schemars(with = "ServiceName"))]
    pub service_name: String,
}
