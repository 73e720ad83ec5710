//! What operators and balancers ask.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use serde::Serialize;

use super::{Failure, Node, entry::json, hot::Whole, query::Query};
use crate::{
    clock,
    metrics::{Breaker, Gauges},
};

/// The process answers; the store is not asked, so that its outage restarts no container.
pub(super) async fn livez() -> Whole {
    json(StatusCode::OK, &Status { status: "alive" })
}

/// The process answers.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Alive"))]
pub(super) struct Status {
    status: &'static str,
}

pub(super) async fn readyz(State(node): State<Arc<Node>>, query: Query) -> Result<Whole, Failure> {
    let stale_ok = match query.get("stale")? {
        None => false,
        Some("ok") => true,
        Some(_) => return Err(registry_wire::FieldError::new("stale", "must be ok, or left out").into()),
    };
    let sighting = node.leases.sighting(clock::now());
    if node.stopping() {
        return Err(Failure::unavailable("this node is shutting down"));
    }
    if !sighting.loaded {
        return Err(Failure::unavailable("this node has not loaded its entries yet"));
    }
    if sighting.blind && !stale_ok {
        return Err(Failure::unavailable("this node cannot reach its store"));
    }
    let (census, _) = node.leases.census();
    Ok(json(StatusCode::OK, &Ready { status: "ready", held: census.held }))
}

/// The node answers.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Ready {
    status: &'static str,
    /// As in Health; left out when nothing is held. Ready all the same: the lists are whole, with those that are held among them.
    #[serde(skip_serializing_if = "is_zero")]
    #[cfg_attr(test, schemars(range(min = 1)))]
    held: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The state of a node.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Health<'a> {
    #[cfg_attr(test, schemars(extend("enum" = ["healthy", "degraded"])))]
    status: &'static str,
    node: &'a str,
    version: &'static str,
    /// It cannot see its store.
    blind: bool,
    sight_age_seconds: f64,
    store_reachable: bool,
    breaker: &'static str,
    services: usize,
    instances: usize,
    /// Too many instances are silent at once: none of them expires.
    brake_engaged: bool,
    /// Instances that have beaten, but not for two thirds of their TTL.
    silent: usize,
    /// Of those, the ones that are listed although their TTL is over.
    held: usize,
}

pub(super) async fn health(State(node): State<Arc<Node>>) -> Result<Whole, Failure> {
    let sighting = node.leases.sighting(clock::now());
    if !sighting.loaded {
        return Err(Failure::unavailable(
            "this node has not loaded its entries yet, so it can answer no list",
        ));
    }
    if sighting.blind && node.view.is_empty() {
        return Err(Failure::unavailable(
            "this node cannot reach its store and knows no entry, so it can answer no list",
        ));
    }
    let breaker = *node.breaker.borrow();
    let store_reachable = breaker == Breaker::Closed;
    let (census, brake_engaged) = node.leases.census();
    let holding = brake_engaged || census.held > 0;
    let healthy = !sighting.blind && store_reachable && !holding && !node.stopping();
    Ok(json(
        StatusCode::OK,
        &Health {
            status: if healthy { "healthy" } else { "degraded" },
            node: &node.node_id,
            version: env!("CARGO_PKG_VERSION"),
            blind: sighting.blind,
            sight_age_seconds: sighting.age().as_secs_f64(),
            store_reachable,
            breaker: breaker.as_str(),
            services: node.view.active_services(&sighting),
            instances: node.leases.len(),
            brake_engaged,
            silent: census.silent,
            held: census.held,
        },
    ))
}

pub(super) async fn metrics(State(node): State<Arc<Node>>) -> Response {
    let sighting = node.leases.sighting(clock::now());
    let (census, brake) = node.leases.census();
    let gauges = Gauges {
        active_services: node.view.active_services(&sighting),
        instances: node.leases.len(),
        silent: census.silent,
        held: census.held,
        brake,
        breaker: *node.breaker.borrow(),
        blind: sighting.blind,
        sight_age: sighting.loaded.then(|| sighting.age()),
    };
    match node.metrics.scrape(gauges) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json")).into_response()
}

/// Nothing on the page may load, run or embed anything.
const PAGE_POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) async fn page() -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, PAGE_POLICY)];
    (headers, include_str!("page.html")).into_response()
}
