//! The two dialects over HTTP/1.1, and what operators ask: health, metrics, the page.
//!
//! In: connections.
//! Owns: the routes, who may call them and how often, how many connections and how many bytes of answers there may be,
//! what is refused first under load, the mapping of outcomes to statuses and problem documents.
//! Out: calls of the `lease` handle; answers from the `view` and the metrics.

mod app;
mod auth;
mod body;
mod caller;
#[cfg(test)]
mod document;
mod doors;
mod entry;
mod flat;
mod gate;
mod guard;
mod hot;
mod load;
mod local;
mod operator;
mod problem;
mod query;
mod rate;
mod read;
mod routes;
mod sample;
mod sending;
mod serve;
mod stall;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;

pub use self::{
    app::{Answered, App},
    auth::Tokens,
    body::Arriving,
    doors::Entrance,
    guard::Guard,
    local::{local_name, serve_local},
    problem::Failure,
    routes::{About, Need, ROUTES, Route},
    sample::sample,
    sending::Sent,
    serve::{Answer, serve, serve_with},
};
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
    /// What it takes on at a time.
    pub guard: Guard,
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
