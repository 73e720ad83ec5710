//! The two dialects over HTTP/1.1, and what operators ask: health, metrics, the page.
//!
//! In: connections.
//! Owns: the routes, who may call them, the mapping of outcomes to statuses and problem documents.
//! Out: calls of the `lease` handle; answers from the `view` and the metrics.

mod auth;
mod body;
mod caller;
mod entry;
mod flat;
mod gate;
mod operator;
mod problem;
mod query;
mod read;
mod sample;
mod serve;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    routing::{get, post, put},
};
use registry_wire::{Problem, ProblemType};
use tokio::sync::watch;

pub use self::{auth::Tokens, problem::Failure, sample::sample, serve::serve};
use crate::{
    config::Network,
    lease::Leases,
    metrics::{Breaker, Metrics},
    view::View,
};

/// What every handler works with.
#[derive(Debug)]
pub struct Node {
    /// The leases.
    pub leases: Arc<Leases>,
    /// The view.
    pub view: Arc<View>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The breaker before the store.
    pub breaker: watch::Receiver<Breaker>,
    /// Who may call.
    pub tokens: Tokens,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// This node's name, for people.
    pub node_id: String,
    /// Set once the node is asked to stop: not ready any more, and connections are closed after their next answer.
    pub stopping: AtomicBool,
}

impl Node {
    /// Whether the node was asked to stop.
    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// The paths that exist. `openapi.json` describes each.
pub const PATHS: [&str; 15] = [
    "/services/{service}/instances/{instance}",
    "/services/{service}/instances/{instance}/heartbeat",
    "/services/{service}/instances/{instance}/drain",
    "/services",
    "/services/{service}",
    "/instances",
    "/register",
    "/heartbeat",
    "/deregister/{service_name}",
    "/livez",
    "/readyz",
    "/health",
    "/metrics",
    "/openapi.json",
    "/",
];

/// The routes, without the gate before them.
fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route(PATHS[0], put(entry::register).delete(entry::deregister).get(read::instance))
        .route(PATHS[1], put(entry::heartbeat))
        .route(PATHS[2], put(entry::drain).delete(entry::undrain))
        .route(PATHS[3], get(read::services))
        .route(PATHS[4], get(read::service))
        .route(PATHS[5], get(read::instances))
        .route(PATHS[6], post(flat::register))
        .route(PATHS[7], post(flat::heartbeat))
        .route(PATHS[8], axum::routing::delete(flat::deregister))
        .route(PATHS[9], get(operator::livez))
        .route(PATHS[10], get(operator::readyz))
        .route(PATHS[11], get(operator::health))
        .route(PATHS[12], get(operator::metrics))
        .route(PATHS[13], get(operator::openapi))
        .route(PATHS[14], get(operator::page))
        .fallback(async || {
            Failure::from(Problem::new(
                ProblemType::NotFound,
                "There is no such path; /openapi.json lists them all.",
            ))
        })
        .method_not_allowed_fallback(async || {
            let detail = "This path does not have that method; the Allow header names those it has.";
            Failure::from(Problem::new(ProblemType::MethodNotAllowed, detail))
        })
        .with_state(node)
}
