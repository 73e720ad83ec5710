//! Where the service is: its endpoint, its instance id and its health URL.
//!
//! In: the configured host, or `auto` and the registry URLs.
//! Owns: the address that `auto` turned out to be, from then on the same for this process.
//! Out: an [`Address`], or a sentence that says why there is none yet.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, OnceLock},
};

use registry_wire::{Endpoint, FieldError, HealthPath, InstanceId};
use url::Url;

use crate::{http::Origin, machine::Text};

/// Where the service's own address comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// This name or address.
    Named(String),
    /// The address of the interface towards the registry, found when the registry's name resolves. Only right when the
    /// sidecar shares its network with the service.
    Auto,
}

impl Host {
    /// As it is configured.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Named(name) => name,
            Self::Auto => "auto",
        }
    }
}

/// Where the service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The id that it is registered under.
    pub instance: InstanceId,
    /// Where readers are sent.
    pub endpoint: Endpoint,
    /// What is probed.
    pub health: Url,
}

impl Address {
    /// Puts it together from its parts; `HOST:PORT` is the instance id when none is given.
    ///
    /// # Errors
    /// A part breaks its rule; the error names the field.
    pub fn new(
        scheme: &str,
        host: &str,
        port: u16,
        health: &HealthPath,
        instance: Option<&InstanceId>,
    ) -> Result<Self, FieldError> {
        let endpoint = Endpoint::from_parts(scheme, host, port)?;
        let instance = match instance {
            Some(instance) => instance.clone(),
            None => format!("{host}:{port}").parse()?,
        };
        let health = Url::parse(&format!("{endpoint}{health}")).map_err(|error| {
            FieldError::new(HealthPath::FIELD, format!("must be a path of a URL: {error}"))
        })?;
        Ok(Self { instance, endpoint, health })
    }
}

/// Finds the address once.
#[derive(Debug)]
pub(crate) struct Finder {
    found: OnceLock<Arc<Address>>,
    scheme: &'static str,
    port: u16,
    health: HealthPath,
    instance: Option<InstanceId>,
    registries: Vec<Origin>,
}

impl Finder {
    pub(crate) fn new(config: &crate::Config) -> Result<Self, FieldError> {
        let finder = Self {
            found: OnceLock::new(),
            scheme: config.scheme.as_str(),
            port: config.port,
            health: config.health_endpoint.clone(),
            instance: config.instance.clone(),
            registries: config.registries.iter().filter_map(Origin::of).collect(),
        };
        if let Host::Named(host) = &config.host {
            finder.settle(host)?;
        }
        Ok(finder)
    }

    fn settle(&self, host: &str) -> Result<Arc<Address>, FieldError> {
        let address = Address::new(self.scheme, host, self.port, &self.health, self.instance.as_ref())?;
        Ok(Arc::clone(self.found.get_or_init(|| Arc::new(address))))
    }

    /// The address, if it is known.
    pub(crate) fn found(&self) -> Option<Arc<Address>> {
        self.found.get().cloned()
    }

    /// The address; looks for it first when that is still to be done.
    pub(crate) async fn find(&self) -> Result<Arc<Address>, Text> {
        if let Some(address) = self.found() {
            return Ok(address);
        }
        let mut reason = Text::Borrowed("no registry URL");
        for origin in &self.registries {
            let addresses = match origin.resolve().await {
                Ok(addresses) => addresses,
                Err(fault) => {
                    reason = fault.reason;
                    continue;
                }
            };
            for address in addresses {
                match towards(address) {
                    Ok(local) => {
                        return self
                            .settle(&local.to_string())
                            .map_err(|error| format!("SERVICE_HOST=auto: {error}").into());
                    }
                    Err(error) => reason = format!("no way to {}: {error}", address.ip()).into(),
                }
            }
        }
        Err(format!("SERVICE_HOST=auto found no address yet: {reason}").into())
    }
}

/// The address of the interface that packets to `target` leave by. Sends none: connecting a UDP socket only asks the
/// system for a route.
fn towards(target: SocketAddr) -> std::io::Result<IpAddr> {
    let any = match target {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests;
