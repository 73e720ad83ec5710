//! The calls that are almost all of the load, without the router: a beat in either dialect, and a read of a service.
//!
//! The router answers them by the same functions. It gets what does not look as these calls usually do: names that must
//! be decoded, a query, another method.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Body as _;
use registry_wire::{InstanceId, ServiceName};

use super::{
    Failure, Node,
    auth::Access,
    body::{self, Arriving},
    caller::address,
    entry, flat, read,
    routes::Route,
};
use crate::{clock, entry::Key, lease::Caller, metrics::Operation};

/// An answer that is there as a whole.
pub(super) type Whole = Response<Full<Bytes>>;

/// What every answer says.
pub(super) const NOSNIFF: (HeaderName, HeaderValue) =
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

/// One of these calls, with the names as they stand in its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hot<'a> {
    /// `GET /services/{service}`
    Service(&'a str),
    /// `PUT /services/{service}/instances/{instance}/heartbeat`
    Heartbeat(&'a str, &'a str),
    /// `POST /heartbeat`
    FlatHeartbeat,
}

impl<'a> Hot<'a> {
    /// Whether a call of the table is one of them. `None`: for the router.
    pub(super) fn of(route: &Route, method: &Method, uri: &'a Uri) -> Option<Self> {
        let path = uri.path();
        if uri.query().is_some() || path.contains('%') || route.method != *method {
            return None;
        }
        let mut parts = path.split('/').skip(2);
        match route.path {
            "/services/{service}/instances/{instance}/heartbeat" => {
                Some(Self::Heartbeat(parts.next()?, parts.nth(1)?))
            }
            "/services/{service}" => Some(Self::Service(parts.next()?)),
            "/heartbeat" => Some(Self::FlatHeartbeat),
            _ => None,
        }
    }

    /// What [`super::gate::operation`] says of its path.
    pub(super) const fn operation(self) -> Operation {
        match self {
            Self::Service(_) => Operation::Get,
            Self::Heartbeat(..) | Self::FlatHeartbeat => Operation::Heartbeat,
        }
    }

    /// The answer to a call that may do what `access` says.
    pub(super) async fn answer<B: Arriving>(
        self,
        node: &Node,
        access: Access,
        headers: &HeaderMap,
        body: B,
        peer: IpAddr,
    ) -> Whole {
        let address = || Some(address(node, headers, peer));
        let answered = match self {
            Self::Service(name) => service(node, name, headers),
            Self::Heartbeat(service, instance) => {
                heartbeat(node, (service, instance), (&access, address), headers, body).await
            }
            Self::FlatHeartbeat => match body::read(headers, body).await {
                Ok(body) => flat::beat(node, &body, access, address).await,
                Err(failure) => Err(failure),
            },
        };
        let mut answer = answered.unwrap_or_else(Failure::whole);
        // Where the router puts it.
        let length = answer.body().size_hint().lower();
        answer.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        answer
    }
}

fn service(node: &Node, name: &str, headers: &HeaderMap) -> Result<Whole, Failure> {
    read::one_service(node, name, headers, false, clock::now())
}

async fn heartbeat<B: Arriving>(
    node: &Node,
    (service, instance): (&str, &str),
    (access, address): (&Access, impl FnOnce() -> Option<String>),
    headers: &HeaderMap,
    body: B,
) -> Result<Whole, Failure> {
    let key = Key { service: service.parse::<ServiceName>()?, instance: instance.parse::<InstanceId>()? };
    let subject = access.subject()?;
    let body = body::read(headers, body).await?;
    entry::beat(node, &key, &body, || Caller { address: address(), subject }).await
}

#[cfg(test)]
mod tests;
