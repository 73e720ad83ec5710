//! The native dialect's calls about one instance.

use std::sync::Arc;

use axum::extract::State;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use registry_wire::{
    Session,
    answer::{Beaten, Registered},
    request::{Drain, Heartbeat, Register},
};

use super::{
    Failure, Node,
    body::Body,
    caller::Operator,
    hot::{NOSNIFF, Whole},
    query::Query,
};
use crate::{
    clock,
    entry::{Key, Record},
    lease::Caller,
    view,
};

/// Enough for what the router and the gate add.
const HEADERS: usize = 6;

/// An answer with a JSON body.
pub(super) fn json_text(status: StatusCode, body: impl Into<Bytes>) -> Whole {
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(NOSNIFF.0, NOSNIFF.1);
    let mut answer = Whole::new(body.into().into());
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// A body that is one of our own types, which can always be written as JSON.
pub(super) fn json(status: StatusCode, body: &impl serde::Serialize) -> Whole {
    match serde_json::to_vec(body) {
        Ok(bytes) => json_text(status, bytes),
        Err(_) => json_text(StatusCode::INTERNAL_SERVER_ERROR, Bytes::new()),
    }
}

pub(super) async fn register(
    State(node): State<Arc<Node>>,
    key: Key,
    caller: Caller,
    Body(body): Body,
) -> Result<Whole, Failure> {
    let register = Register::parse(&body)?;
    let (record, new) = node
        .leases
        .register(&key, register, &caller)
        .await
        .map_err(|refusal| Failure::refused(&refusal, &key))?;
    let registered = Registered {
        heartbeat_interval_seconds: record.ttl_seconds.heartbeat_interval(),
        instance: instance(&node, *record, &key),
    };
    Ok(json(if new { StatusCode::CREATED } else { StatusCode::OK }, &registered))
}

/// The instance as it stands after a change: the change's own record, with the times of the view.
fn instance(node: &Node, record: Record, key: &Key) -> registry_wire::answer::Instance {
    let now = clock::now();
    let unix_now = clock::unix_now(now);
    let sighting = node.leases.sighting(now);
    let last_seen = node.view.entry(key).map_or(now, |entry| entry.pulse.last_seen());
    view::instance(record, last_seen, &sighting, unix_now)
}

pub(super) async fn heartbeat(
    State(node): State<Arc<Node>>,
    key: Key,
    caller: Caller,
    Body(body): Body,
) -> Result<Whole, Failure> {
    beat(&node, &key, &body, || caller).await
}

/// A beat; who calls is asked where it becomes a change.
pub(super) async fn beat(
    node: &Node,
    key: &Key,
    body: &[u8],
    caller: impl FnOnce() -> Caller,
) -> Result<Whole, Failure> {
    let beat = Heartbeat::parse(body)?;
    let ttl = if let Some(ttl) = node.leases.acknowledge(key, &beat) {
        ttl
    } else {
        let heard = node.leases.heartbeat(key, &beat, &caller()).await;
        heard.map_err(|refusal| Failure::refused(&refusal, key))?
    };
    let beaten = Beaten { ttl_seconds: ttl.seconds(), heartbeat_interval_seconds: ttl.heartbeat_interval() };
    Ok(json(StatusCode::OK, &beaten))
}

pub(super) async fn deregister(
    State(node): State<Arc<Node>>,
    key: Key,
    caller: Caller,
    query: Query,
) -> Result<StatusCode, Failure> {
    let session: Option<Session> = query.parse("session")?;
    node.leases
        .deregister(&key, session, &caller)
        .await
        .map_err(|refusal| Failure::refused(&refusal, &key))?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn drain(
    State(node): State<Arc<Node>>,
    key: Key,
    caller: Caller,
    operator: Operator,
    Body(body): Body,
) -> Result<Whole, Failure> {
    let drain = Drain::parse(&body)?;
    operator.unless(drain.session.as_ref())?;
    let record =
        node.leases.drain(&key, drain, &caller).await.map_err(|refusal| Failure::refused(&refusal, &key))?;
    Ok(json(StatusCode::OK, &instance(&node, *record, &key)))
}

pub(super) async fn undrain(
    State(node): State<Arc<Node>>,
    key: Key,
    caller: Caller,
    operator: Operator,
    query: Query,
) -> Result<StatusCode, Failure> {
    let session: Option<Session> = query.parse("session")?;
    operator.unless(session.as_ref())?;
    node.leases.undrain(&key, session, &caller).await.map_err(|refusal| Failure::refused(&refusal, &key))?;
    Ok(StatusCode::NO_CONTENT)
}
