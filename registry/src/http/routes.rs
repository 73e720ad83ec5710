//! The table of calls: what there is, what right each needs, who answers it.
//!
//! The router is made from it and the gate asks it, so a call that does not say what it needs cannot be written here, and
//! one that was added to the router beside it is never reached.

use std::sync::Arc;

use axum::{Router, routing};
use http::{HeaderValue, Method, header};
use registry_wire::{Problem, ProblemType};

use super::{Failure, Node, entry, flat, hot::Whole, operator, read};

/// Which service a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// All there are.
    All,
    /// The one that the second part of its path names.
    Path,
    /// The one that `service` of its query names, or all.
    Query,
    /// The one that its body names. The gate cannot see it, and the handler must have it compared before it can write.
    Body,
}

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: probes of balancers, and what holds no data.
    Nothing,
    /// To read anything, where reads need a token and the peer is neither this machine nor a trusted proxy.
    ReadFromElsewhere,
    /// To read, where reads need a token.
    Read(About),
    /// To register, where writes need a token.
    Register(About),
    /// To register, with the leeway that heartbeats have after a token's expiry.
    Beat(About),
    /// To do everything. Nothing needs it but what there is not.
    Admin,
}

/// A call that there is.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its method. `GET` stands for `HEAD` too.
    pub method: Method,
    /// Its name in `openapi.json`.
    pub name: &'static str,
    /// Its path; a part in braces stands for any one that is not empty.
    pub path: &'static str,
    /// What it needs.
    pub need: Need,
}

macro_rules! routes {
    ($($method:ident $path:literal $name:literal: $need:expr => $router:ident($handler:path);)*) => {
        /// Every call that there is. `openapi.json` is made from it.
        pub const ROUTES: &[Route] =
            &[$(Route { method: Method::$method, name: $name, path: $path, need: $need }),*];

        /// The routes, without the gate before them.
        pub(super) fn router(node: Arc<Node>) -> Router {
            Router::new()$(.route($path, routing::$router($handler)))*
                // Where the router does not know what the gate has let through.
                .fallback(async || no_such_path())
                .with_state(node)
        }
    };
}

routes! {
    PUT "/services/{service}/instances/{instance}/heartbeat" "heartbeat": Need::Beat(About::Path) => put(entry::heartbeat);
    PUT "/services/{service}/instances/{instance}" "register": Need::Register(About::Path) => put(entry::register);
    DELETE "/services/{service}/instances/{instance}" "deregister": Need::Register(About::Path) => delete(entry::deregister);
    GET "/services/{service}/instances/{instance}" "getInstance": Need::Read(About::Path) => get(read::instance);
    // An operator's drain needs more: the handlers ask `Operator`.
    PUT "/services/{service}/instances/{instance}/drain" "drain": Need::Register(About::Path) => put(entry::drain);
    DELETE "/services/{service}/instances/{instance}/drain" "undrain": Need::Register(About::Path) => delete(entry::undrain);
    GET "/services" "listServices": Need::Read(About::All) => get(read::services);
    GET "/services/{service}" "getService": Need::Read(About::Path) => get(read::service);
    GET "/instances" "listInstances": Need::Read(About::Query) => get(read::instances);
    POST "/register" "flatRegister": Need::Register(About::Body) => post(flat::register);
    POST "/heartbeat" "flatHeartbeat": Need::Beat(About::Body) => post(flat::heartbeat);
    DELETE "/deregister/{service_name}" "flatDeregister": Need::Register(About::Path) => delete(flat::deregister);
    GET "/livez" "livez": Need::Nothing => get(operator::livez);
    GET "/readyz" "readyz": Need::Nothing => get(operator::readyz);
    GET "/health" "health": Need::ReadFromElsewhere => get(operator::health);
    GET "/metrics" "metrics": Need::ReadFromElsewhere => get(operator::metrics);
    GET "/openapi.json" "openapi": Need::Nothing => get(operator::openapi);
    GET "/" "page": Need::Nothing => get(operator::page);
}

/// What a call that is not in the table needs: it is refused in any case, and who has no right learns nothing of it.
pub(super) fn need_of_none(method: &Method) -> Need {
    if reads(method) { Need::Read(About::All) } else { Need::Admin }
}

fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// The call that a request is.
pub(super) fn find(method: &Method, path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| has_method(route, method) && matches(route.path, path))
}

fn has_method(route: &Route, method: &Method) -> bool {
    route.method == *method || route.method == Method::GET && *method == Method::HEAD
}

fn matches(pattern: &str, path: &str) -> bool {
    let mut parts = path.split('/');
    let fits = pattern.split('/').all(|expected| {
        parts
            .next()
            .is_some_and(|part| if expected.starts_with('{') { !part.is_empty() } else { part == expected })
    });
    fits && parts.next().is_none()
}

/// The answer to a request that is no call.
pub(super) fn none(path: &str) -> Whole {
    let mut allowed = Vec::new();
    for route in ROUTES.iter().filter(|route| matches(route.path, path)) {
        allowed.push(route.method.as_str());
        if route.method == Method::GET {
            allowed.push("HEAD");
        }
    }
    if allowed.is_empty() {
        return no_such_path().whole();
    }
    let detail = "This path does not have that method; the Allow header names those it has.";
    let mut answer = Failure::from(Problem::new(ProblemType::MethodNotAllowed, detail)).whole();
    // Methods are tokens, so the list is a header.
    if let Ok(value) = HeaderValue::from_str(&allowed.join(",")) {
        answer.headers_mut().insert(header::ALLOW, value);
    }
    answer
}

fn no_such_path() -> Failure {
    Problem::new(ProblemType::NotFound, "There is no such path; /openapi.json lists them all.").into()
}

#[cfg(test)]
mod tests;
