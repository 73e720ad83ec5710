//! The flat dialect of existing Vértice clients: the same calls without sessions, about instance `default` unless
//! they name another.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use registry_wire::{
    InstanceId, Problem, ProblemType, ServiceName,
    answer::Flat,
    request::{FlatHeartbeat, FlatRegister, Heartbeat},
};

use super::{
    Failure, Node,
    auth::Access,
    body::Body,
    caller::Unchecked,
    entry::json,
    hot::Whole,
    query::{Query, ServicePath},
};
use crate::{
    clock,
    entry::Key,
    lease::{Caller, Refusal},
};

/// Ids that a 404 names at the most.
const IDS_NAMED: usize = 20;

fn flat(status: StatusCode, message: &str, service: &ServiceName) -> Whole {
    json(status, &Flat { message: message.to_owned(), service_name: service.as_str().to_owned() })
}

/// As [`Failure::refused`], naming the instances that are there: a client that named none may mean one of them.
fn refused(node: &Node, refusal: &Refusal, key: &Key) -> Failure {
    if *refusal != Refusal::Unknown {
        return Failure::refused(refusal, key);
    }
    let sighting = node.leases.sighting(clock::now());
    let ids: Vec<String> = node.view.service(&key.service).map_or_else(Vec::new, |service| {
        let ids = service.listed(&sighting).map(|entry| format!("'{}'", entry.record.instance()));
        ids.take(IDS_NAMED).collect()
    });
    let there = if ids.is_empty() {
        "no instance of it is".to_owned()
    } else {
        format!("instance_id may be one of {}", ids.join(", "))
    };
    let detail =
        format!("Instance '{}' of service '{}' is not registered; {there}.", key.instance, key.service);
    Problem::new(ProblemType::UnknownInstance, detail).into()
}

pub(super) async fn register(
    State(node): State<Arc<Node>>,
    caller: Unchecked,
    Body(body): Body,
) -> Result<Whole, Failure> {
    let FlatRegister { service_name, instance_id, register } = FlatRegister::parse(&body)?;
    let caller = caller.about(&service_name)?;
    let key = Key { service: service_name, instance: instance_id };
    node.leases.register(&key, register, &caller).await.map_err(|refusal| refused(&node, &refusal, &key))?;
    Ok(flat(StatusCode::CREATED, "Service registered successfully", &key.service))
}

pub(super) async fn heartbeat(
    State(node): State<Arc<Node>>,
    Unchecked { address, access }: Unchecked,
    Body(body): Body,
) -> Result<Whole, Failure> {
    beat(&node, &body, access, || address).await
}

/// A beat; whence it came is asked where it becomes a change.
pub(super) async fn beat(
    node: &Node,
    body: &[u8],
    access: Access,
    address: impl FnOnce() -> Option<String>,
) -> Result<Whole, Failure> {
    let FlatHeartbeat { service_name, instance_id } = FlatHeartbeat::parse(body)?;
    let subject = access.about(&service_name)?.subject()?;
    let key = Key { service: service_name, instance: instance_id };
    let beat = Heartbeat::default();
    if node.leases.acknowledge(&key, &beat).is_none() {
        let caller = Caller { address: address(), subject };
        let heard = node.leases.heartbeat(&key, &beat, &caller).await;
        heard.map_err(|refusal| refused(node, &refusal, &key))?;
    }
    Ok(flat(StatusCode::OK, "Heartbeat received", &key.service))
}

pub(super) async fn deregister(
    State(node): State<Arc<Node>>,
    ServicePath(service): ServicePath,
    caller: Caller,
    query: Query,
) -> Result<Whole, Failure> {
    let instance = query.parse::<InstanceId>("instance_id")?.unwrap_or_default();
    let key = Key { service, instance };
    node.leases.deregister(&key, None, &caller).await.map_err(|refusal| refused(&node, &refusal, &key))?;
    Ok(flat(StatusCode::OK, "Service deregistered", &key.service))
}
