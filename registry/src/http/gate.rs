use std::{net::Ipv4Addr, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, header};
use registry_wire::{Problem, ProblemType, limits};

use super::{
    Failure, Node, auth, body,
    caller::Peer,
    routes::{self, Route},
};
use crate::{
    clock,
    metrics::{Ending, Operation},
};

/// Stands before every route: the size of the head, who may call, and the count of every answer.
pub(super) async fn gate(State(node): State<Arc<Node>>, mut request: Request, next: Next) -> Response {
    let begun = clock::now();
    let operation = operation(request.method(), request.uri().path());
    let route = routes::find(request.method(), request.uri().path());
    let mut response = match admit(&node, &mut request, route) {
        // What is not in the table does not exist, whatever the router knows.
        Ok(()) if route.is_none() => routes::none(request.uri().path()),
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    };
    if let Some(operation) = operation {
        let ending = Ending::of_status(response.status().as_u16());
        node.metrics.operation(operation, ending, clock::now().since(begun));
    }
    if node.stopping() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn admit(node: &Node, request: &mut Request, route: Option<&Route>) -> Result<(), Failure> {
    let headers = request.headers();
    // Request line: method, path and query, version and separators; each field: name, value and separators.
    let line = request.method().as_str().len() + request.uri().to_string().len() + 12;
    let head =
        line + headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>();
    if head > limits::HEAD_MAX {
        let detail = format!("The request line and headers must have at most {} bytes.", limits::HEAD_MAX);
        return Err(Problem::new(ProblemType::HeadTooLarge, detail).into());
    }
    let peer = request.extensions().get::<Peer>().map_or(Ipv4Addr::UNSPECIFIED.into(), Peer::address);
    let need = route.map_or_else(|| routes::need_of_none(request.method()), |route| route.need);
    let access = auth::authorize(node, need, request.uri(), headers, peer)?;
    if declared_length(headers).is_some_and(|length| length > limits::BODY_MAX as u64) {
        return Err(body::too_large());
    }
    if let Some(peer) = request.extensions_mut().get_mut::<Peer>() {
        peer.grant(access);
    }
    Ok(())
}

/// How long the body is, where the head says it. Calls that read no body are held to its limit by this alone.
fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// The operation that a call is, by the names of existing dashboards; `None`: it is none of them.
fn operation(method: &Method, path: &str) -> Option<Operation> {
    let mut parts = path.trim_start_matches('/').split('/');
    let parts = (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next());
    let instance = matches!(parts, (Some("services"), Some(_), Some("instances"), Some(_), ..));
    match (method.as_str(), parts) {
        ("PUT", (.., None, _)) if instance => Some(Operation::Register),
        ("PUT", (.., Some("heartbeat"), None)) if instance => Some(Operation::Heartbeat),
        ("DELETE", (.., None, _)) if instance => Some(Operation::Deregister),
        ("GET" | "HEAD", (.., None, _)) if instance => Some(Operation::Get),
        ("GET" | "HEAD", (Some("services"), Some(_), None, ..)) => Some(Operation::Get),
        ("GET" | "HEAD", (Some("services" | "instances"), None, ..)) => Some(Operation::List),
        ("POST", (Some("register"), None, ..)) => Some(Operation::Register),
        ("POST", (Some("heartbeat"), None, ..)) => Some(Operation::Heartbeat),
        ("DELETE", (Some("deregister"), Some(_), None, ..)) => Some(Operation::Deregister),
        _ => None,
    }
}
