use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::extract::FromRequestParts;
use http::{HeaderMap, request::Parts};
use registry_wire::{ServiceName, Session};

use super::{Failure, Node, auth::Access, query::segment};
use crate::{config::Network, lease::Caller};

/// The address at the other end of the connection, and what the gate lets the call do.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    address: IpAddr,
    access: Access,
}

impl Peer {
    pub(super) const fn new(address: IpAddr, access: Access) -> Self {
        Self { address, access }
    }

    pub(super) const fn access(&self) -> &Access {
        &self.access
    }

    /// The client's address where it tells clients apart.
    pub(super) fn client(&self, node: &Node, headers: &HeaderMap) -> Option<IpAddr> {
        apart(node, headers, self.address)
    }
}

/// The client's address where it tells clients apart. `None`: no trusted proxy is named, so that every client may have
/// the address of one; or it is the proxy's own.
pub(super) fn apart(node: &Node, headers: &HeaderMap, peer: IpAddr) -> Option<IpAddr> {
    let trusted = &node.trusted_proxies;
    if trusted.is_empty() {
        return None;
    }
    let (client, peer) = (client(peer, headers, trusted), peer.to_canonical());
    (client != peer || !trusted.iter().any(|network| network.contains(peer))).then_some(client)
}

/// Who calls with a body that names the service, which nobody has looked at yet.
#[derive(Debug)]
pub(super) struct Unchecked {
    pub(super) address: Option<String>,
    pub(super) access: Access,
}

impl Unchecked {
    fn of(parts: &Parts, node: &Node) -> Self {
        let peer = parts.extensions.get::<Peer>();
        let address = peer.map(|peer| address(node, &parts.headers, peer.address));
        Self { address, access: peer.map(|peer| peer.access.clone()).unwrap_or_default() }
    }

    /// Who calls, if they may write about this service.
    pub(super) fn about(self, service: &ServiceName) -> Result<Caller, Failure> {
        let access = self.access.about(service)?;
        Ok(Caller { address: self.address, subject: access.subject()? })
    }
}

impl FromRequestParts<Arc<Node>> for Unchecked {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, Failure> {
        Ok(Self::of(parts, node))
    }
}

/// Only where the gate has seen the name of the service.
impl FromRequestParts<Arc<Node>> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, Failure> {
        let Unchecked { address, access } = Unchecked::of(parts, node);
        Ok(Self { address, subject: access.subject()? })
    }
}

/// Whether the caller may act as an operator on the service that the path names.
#[derive(Debug)]
pub(super) struct Operator(Result<(), Failure>);

impl Operator {
    /// What names a session acts for that process; what names none is an operator's.
    pub(super) fn unless(self, session: Option<&Session>) -> Result<(), Failure> {
        if session.is_some() { Ok(()) } else { self.0 }
    }
}

impl FromRequestParts<Arc<Node>> for Operator {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Node>) -> Result<Self, Failure> {
        let access = parts.extensions.get::<Peer>().map(|peer| peer.access.clone()).unwrap_or_default();
        let service = segment::<ServiceName>(&parts.uri, 1, ServiceName::FIELD).ok();
        Ok(Self(access.operator(service.as_ref())))
    }
}

/// The client's address in words.
pub(super) fn address(node: &Node, headers: &HeaderMap, peer: IpAddr) -> String {
    client(peer, headers, &node.trusted_proxies).to_string()
}

/// The client's address: the peer, or, where the peer is a trusted proxy, the last address of `X-Forwarded-For` that
/// is not one. What stands further to the left was written by whoever sent it.
fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    let forwarded = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
    for hop in hops.into_iter().rev() {
        if !is_trusted(client) {
            break;
        }
        let Some(address) = address_of(hop) else { break };
        client = address.to_canonical();
    }
    client
}

/// The address of a hop. Some proxies write its port behind it, and then brackets around IPv6.
fn address_of(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|hop| hop.ip()))
}

#[cfg(test)]
mod tests;
