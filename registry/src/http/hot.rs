//! The calls that are almost all of the load, without the router: a beat in either dialect, and a read of a service.
//!
//! The router answers them by the same functions. It gets what does not look as these calls usually do: names that must
//! be decoded, a query, another method.

use std::{net::IpAddr, sync::LazyLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Uri, header};
use http_body_util::Full;
use registry_wire::{InstanceId, ServiceName};

use super::{
    Failure, Node,
    auth::Access,
    body::{self, Arriving},
    caller::address,
    entry, flat, read,
    routes::{self, Route},
};
use crate::{clock::Moment, entry::Key, lease::Caller, metrics::Operation};

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
    /// Whether a call is one of them. `None`: for the router.
    pub(super) fn of(method: &Method, uri: &'a Uri) -> Option<Self> {
        if uri.query().is_some() {
            return None;
        }
        let path = uri.path();
        match *method {
            Method::GET => Some(Self::Service(as_it_stands(path.strip_prefix("/services/")?)?)),
            Method::PUT => {
                let (service, rest) = path.strip_prefix("/services/")?.split_once('/')?;
                let instance = rest.strip_prefix("instances/")?.strip_suffix("/heartbeat")?;
                Some(Self::Heartbeat(as_it_stands(service)?, as_it_stands(instance)?))
            }
            Method::POST if path == "/heartbeat" => Some(Self::FlatHeartbeat),
            _ => None,
        }
    }

    /// What the table says of it, without going through the table each time.
    pub(super) fn route(self) -> &'static Route {
        static ROUTES: LazyLock<[&Route; 3]> = LazyLock::new(|| {
            let calls = [
                (Method::GET, "/services/s"),
                (Method::PUT, "/services/s/instances/i/heartbeat"),
                (Method::POST, "/heartbeat"),
            ];
            calls.map(|(method, path)| {
                routes::find(&method, path).unwrap_or_else(|| unreachable!("{method} {path} is in the table"))
            })
        });
        let [service, heartbeat, flat_heartbeat] = *ROUTES;
        match self {
            Self::Service(_) => service,
            Self::Heartbeat(..) => heartbeat,
            Self::FlatHeartbeat => flat_heartbeat,
        }
    }

    /// What [`super::gate::operation`] says of its path.
    pub(super) const fn operation(self) -> Operation {
        match self {
            Self::Service(_) => Operation::Get,
            Self::Heartbeat(..) | Self::FlatHeartbeat => Operation::Heartbeat,
        }
    }

    /// The answer to a call that came from `peer` at `begun` and may do what `access` says.
    pub(super) async fn answer<B: Arriving>(
        self,
        node: &Node,
        access: Access,
        headers: &HeaderMap,
        body: B,
        (peer, begun): (IpAddr, Moment),
    ) -> Whole {
        let address = || Some(address(node, headers, peer));
        let answered = match self {
            Self::Service(name) => read::one_service(node, name, headers, false, begun),
            Self::Heartbeat(service, instance) => {
                heartbeat(node, (service, instance), (&access, address), headers, body).await
            }
            Self::FlatHeartbeat => match body::read(headers, body).await {
                Ok(body) => flat::beat(node, &body, access, address).await,
                Err(failure) => Err(failure),
            },
        };
        answered.unwrap_or_else(Failure::whole)
    }
}

/// A part of a path that is a name as it stands: one part, and nothing to decode.
fn as_it_stands(part: &str) -> Option<&str> {
    (!part.is_empty() && !part.bytes().any(|byte| matches!(byte, b'/' | b'%'))).then_some(part)
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
