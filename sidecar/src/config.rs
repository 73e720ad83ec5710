//! What a sidecar is told to do.
//!
//! In: environment variables, or the fields one by one.
//! Owns: defaults, bounds, and the words for what is wrong.
//! Out: a [`Config`] that can be run, or a [`ConfigError`] of one line.

mod env;

use std::{net::SocketAddr, path::PathBuf};

use registry_wire::{HealthPath, InstanceId, ServiceName};
use secrecy::SecretString;
use url::Url;

use crate::{address::Host, machine::Settings, tls::TlsFiles};

pub use env::Source;

/// The port of a service that names none.
pub const DEFAULT_PORT: u16 = 8080;
/// The registry that is asked when none is named.
pub const DEFAULT_REGISTRY_URL: &str = "http://vertice-register-lb:8888";

/// How the service is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    #[default]
    Http,
    /// With TLS; needs the feature `tls`.
    Https,
}

impl Scheme {
    /// As it stands in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Everything that [`run`](crate::run) has to know. `Debug` does not show the token.
#[derive(Clone, Debug)]
pub struct Config {
    /// The service's name.
    pub service: ServiceName,
    /// The service's host, as readers reach it.
    pub host: Host,
    /// The service's port.
    pub port: u16,
    /// How the service is reached.
    pub scheme: Scheme,
    /// Where the service answers health checks.
    pub health_endpoint: HealthPath,
    /// The instance id; `HOST:PORT` when `None`.
    pub instance: Option<InstanceId>,
    /// The registry URLs, in the order in which they are tried. `http` or `https`, at least one; a path is a prefix.
    pub registries: Vec<Url>,
    /// The token that writes need.
    pub token: Option<SecretString>,
    /// The file that the token came from. It is read again when a registry refuses the token.
    pub token_file: Option<PathBuf>,
    /// Whom to trust as a registry with https, and what to show it.
    pub registry_tls: TlsFiles,
    /// Intervals, lease, metadata. [`Settings::registries`] is filled in by [`run`](crate::run).
    pub settings: Settings,
    /// Where status and metrics are served, if anywhere.
    pub listen: Option<SocketAddr>,
}

impl Config {
    /// A configuration with the default of everything that has one.
    pub fn new(service: ServiceName, host: Host, port: u16, registries: Vec<Url>) -> Self {
        Self {
            service,
            host,
            port,
            scheme: Scheme::default(),
            health_endpoint: HealthPath::default(),
            instance: None,
            registries,
            token: None,
            token_file: None,
            registry_tls: TlsFiles::default(),
            settings: Settings::default(),
            listen: None,
        }
    }

    /// What names this sidecar on its machine: the socket of its health check, and the lines of its log. Known before
    /// `SERVICE_HOST=auto` has found its address.
    pub fn name(&self) -> String {
        match &self.instance {
            Some(instance) => format!("{}/{instance}", self.service),
            None => format!("{}/{}:{}", self.service, self.host.as_str(), self.port),
        }
    }
}

/// Something in the configuration that cannot be run, as one line that names the variable, its value and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    /// A line for people.
    pub fn new(line: impl Into<String>) -> Self {
        Self(line.into())
    }
}

#[cfg(test)]
mod tests;
