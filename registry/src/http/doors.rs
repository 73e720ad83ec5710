//! Who gets a connection: so many at a time, and of them so many from one address.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

use super::guard::block;
use crate::{
    config::{Limits, Network},
    metrics::{Closed, Metrics},
};

/// The count of connections: pure. An address stands in it while it has one, so that it is as small as they are few.
#[derive(Debug)]
struct Doors {
    all: usize,
    each: usize,
    open: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Doors {
    fn new(all: usize, each: usize) -> Self {
        Self { all, each, open: 0, by_address: HashMap::new() }
    }

    /// Lets a connection in; `None`: from one whose connections are not counted by address.
    fn enter(&mut self, address: Option<IpAddr>) -> Result<(), Closed> {
        if self.open >= self.all {
            return Err(Closed::All);
        }
        if let Some(address) = address {
            let open = self.by_address.entry(address).or_default();
            if *open >= self.each {
                return Err(Closed::Address);
            }
            *open += 1;
        }
        self.open += 1;
        Ok(())
    }

    fn leave(&mut self, address: Option<IpAddr>) {
        self.open -= 1;
        if let Some(address) = address
            && let Some(open) = self.by_address.get_mut(&address)
        {
            *open -= 1;
            if *open == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

/// The entrance of a node, where connections are counted.
#[derive(Clone, Debug)]
pub struct Entrance {
    doors: Arc<Mutex<Doors>>,
    trusted: Arc<[Network]>,
    metrics: Arc<Metrics>,
}

/// The place of a connection, which its end gives back.
#[derive(Debug)]
pub(super) struct Place {
    entrance: Entrance,
    address: Option<IpAddr>,
}

impl Place {
    /// Where slowness is counted.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.entrance.metrics
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.entrance.doors.lock().leave(self.address);
        self.entrance.metrics.connection_ended();
    }
}

impl Entrance {
    /// With these bounds. Trusted proxies have no bound of their own, because each carries the connections of many;
    /// where none is named, nobody has, because every peer may be one.
    pub fn new(limits: &Limits, trusted: &[Network], metrics: Arc<Metrics>) -> Self {
        let doors = Doors::new(limits.connections as usize, limits.connections_per_address as usize);
        Self { doors: Arc::new(Mutex::new(doors)), trusted: trusted.into(), metrics }
    }

    /// Whether this peer speaks for others.
    pub(super) fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(peer))
    }

    /// Lets a connection in.
    pub(super) fn enter(&self, peer: IpAddr) -> Result<Place, Closed> {
        let counted = !self.trusted.is_empty() && !self.trusts(peer);
        let address = counted.then(|| block(peer));
        match self.doors.lock().enter(address) {
            Ok(()) => {
                self.metrics.connection_opened();
                Ok(Place { entrance: self.clone(), address })
            }
            Err(why) => {
                self.metrics.connection_refused(why);
                Err(why)
            }
        }
    }
}

#[cfg(test)]
mod tests;
