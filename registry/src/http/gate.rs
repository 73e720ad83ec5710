use std::net::IpAddr;

use http::{HeaderMap, Method, Uri, header, request::Parts};
use registry_wire::{Problem, ProblemType, limits};

use super::{
    Failure, Node,
    auth::{self, Access},
    body,
    routes::{self, Route},
};
use crate::metrics::Operation;

/// Stands before every route: the size of the head, who may call, the length that the body says it has. Gives what the
/// call may do.
pub(super) fn admit(
    node: &Node,
    request: &Parts,
    route: Option<&Route>,
    peer: IpAddr,
) -> Result<Access, Failure> {
    let headers = &request.headers;
    // Request line: method, path and query, version and separators; each field: name, value and separators.
    let line = request.method.as_str().len() + length(&request.uri) + 12;
    let head =
        line + headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>();
    if head > limits::HEAD_MAX {
        let detail = format!("The request line and headers must have at most {} bytes.", limits::HEAD_MAX);
        return Err(Problem::new(ProblemType::HeadTooLarge, detail).into());
    }
    let need = route.map_or_else(|| routes::need_of_none(&request.method), |route| route.need);
    let access = auth::authorize(node, need, &request.uri, headers, peer)?;
    if declared_length(headers).is_some_and(|length| length > limits::BODY_MAX as u64) {
        return Err(body::too_large());
    }
    Ok(access)
}

/// How long a URI is as it was sent.
fn length(uri: &Uri) -> usize {
    let scheme = uri.scheme_str().map_or(0, |scheme| scheme.len() + "://".len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    let query = uri.query().map_or(0, |query| query.len() + "?".len());
    scheme + authority + uri.path().len() + query
}

/// How long the body is, where the head says it. Calls that read no body are held to its limit by this alone.
fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// The operation that a call is, by the names of existing dashboards; `None`: it is none of them.
pub(super) fn operation(method: &Method, path: &str) -> Option<Operation> {
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
