//! The native dialect's calls about one instance.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use registry_wire::{
    Session,
    answer::{Beaten, Registered},
    request::{Drain, Heartbeat, Register},
};

use super::{Failure, Node, body::Body, caller::Operator, query::Query};
use crate::{
    clock,
    entry::{Key, Record},
    lease::Caller,
    view,
};

const JSON: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json")];

/// A body that is one of our own types, which can always be written as JSON.
pub(super) fn json(status: StatusCode, body: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, JSON, bytes).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

pub(super) async fn register(
    State(node): State<Arc<Node>>,
    key: Key,
    caller: Caller,
    Body(body): Body,
) -> Result<Response, Failure> {
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
) -> Result<Response, Failure> {
    let beat = Heartbeat::parse(&body)?;
    let ttl = node
        .leases
        .heartbeat(&key, &beat, &caller)
        .await
        .map_err(|refusal| Failure::refused(&refusal, &key))?;
    let beaten = Beaten { ttl_seconds: ttl.seconds(), heartbeat_interval_seconds: ttl.heartbeat_interval() };
    Ok(json(StatusCode::OK, &beaten))
}

pub(super) async fn deregister(
    State(node): State<Arc<Node>>,
    key: Key,
    caller: Caller,
    query: Query,
) -> Result<Response, Failure> {
    let session: Option<Session> = query.parse("session")?;
    node.leases
        .deregister(&key, session, &caller)
        .await
        .map_err(|refusal| Failure::refused(&refusal, &key))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn drain(
    State(node): State<Arc<Node>>,
    key: Key,
    caller: Caller,
    operator: Operator,
    Body(body): Body,
) -> Result<Response, Failure> {
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
) -> Result<Response, Failure> {
    let session: Option<Session> = query.parse("session")?;
    operator.unless(session.as_ref())?;
    node.leases.undrain(&key, session, &caller).await.map_err(|refusal| Failure::refused(&refusal, &key))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
