//! What operators and balancers ask.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use serde::Serialize;

use super::{Failure, Node, entry::json, query::Query};
use crate::{clock, metrics::Gauges};

/// The process answers; the store is not asked, so that its outage restarts no container.
pub(super) async fn livez() -> Response {
    json(StatusCode::OK, &Status { status: "alive" })
}

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

pub(super) async fn readyz(State(node): State<Arc<Node>>, query: Query) -> Result<Response, Failure> {
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
    Ok(json(StatusCode::OK, &Status { status: "ready" }))
}

#[derive(Serialize)]
struct Health<'a> {
    status: &'static str,
    node: &'a str,
    version: &'static str,
    blind: bool,
    sight_age_seconds: f64,
    store_reachable: bool,
    services: usize,
    instances: usize,
}

pub(super) async fn health(State(node): State<Arc<Node>>) -> Result<Response, Failure> {
    let sighting = node.leases.sighting(clock::now());
    if !sighting.loaded {
        return Err(Failure::unavailable(
            "this node has not loaded its entries yet, so it can answer no list",
        ));
    }
    let store_reachable = node.metrics.store_reachable();
    let healthy = !sighting.blind && store_reachable && !node.stopping();
    Ok(json(
        StatusCode::OK,
        &Health {
            status: if healthy { "healthy" } else { "degraded" },
            node: &node.node_id,
            version: env!("CARGO_PKG_VERSION"),
            blind: sighting.blind,
            sight_age_seconds: sighting.age().as_secs_f64(),
            store_reachable,
            services: node.view.active_services(&sighting),
            instances: node.leases.len(),
        },
    ))
}

pub(super) async fn metrics(State(node): State<Arc<Node>>) -> Response {
    let sighting = node.leases.sighting(clock::now());
    let gauges = Gauges {
        active_services: node.view.active_services(&sighting),
        instances: node.leases.len(),
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
