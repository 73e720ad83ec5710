//! Rounds: each server is loaded in turn, in one order and then in the other.

use crate::{
    Result,
    lab::{Lab, Server},
    usage, wrk,
};

/// One server under load in one round.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// What the client saw.
    pub report: wrk::Report,
    /// The server's CPU for a call, in microseconds.
    pub cpu: f64,
    /// The CPU of the Postgres behind it for a call, in microseconds; 0 where none is.
    pub store: f64,
}

/// The limit and the registry in one round.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// The server that does nothing else.
    pub limit: Load,
    /// The node.
    pub node: Load,
}

impl Pair {
    /// The node's throughput as a part of the limit's.
    pub fn throughput(&self) -> f64 {
        self.node.report.rate / self.limit.report.rate
    }

    /// The node's CPU for a call as a multiple of the limit's.
    pub fn cpu(&self) -> f64 {
        self.node.cpu / self.limit.cpu
    }
}

/// Loads a server with the requests of a file in random order. `store` is the process of its Postgres.
///
/// # Errors
/// See [`wrk::run`].
pub async fn load(
    lab: &Lab,
    server: &Server,
    store: Option<u32>,
    requests: &str,
    length: std::time::Duration,
) -> Result<Load> {
    let used = || -> Result<_> {
        let store = store.map(usage::cpu_with_children).transpose()?;
        Ok((usage::cpu(server.pid())?, store.unwrap_or_default()))
    };
    let before = used()?;
    let report = wrk::run(lab, server.port(), "random.lua", &[requests], length).await?;
    let after = used()?;
    let of_call = |before: std::time::Duration, after: std::time::Duration| {
        after.saturating_sub(before).as_secs_f64() * 1e6 / report.calls
    };
    Ok(Load { report, cpu: of_call(before.0, after.0), store: of_call(before.1, after.1) })
}

/// Loads the limit and the node, the limit first in every other round.
///
/// # Errors
/// See [`load`].
pub async fn pair(
    lab: &Lab,
    round: usize,
    limit: &Server,
    node: &Server,
    store: Option<u32>,
    requests: &str,
) -> Result<Pair> {
    let length = lab.rounds().length;
    if round.is_multiple_of(2) {
        let limit = load(lab, limit, None, requests, length).await?;
        Ok(Pair { limit, node: load(lab, node, store, requests, length).await? })
    } else {
        let node = load(lab, node, store, requests, length).await?;
        Ok(Pair { limit: load(lab, limit, None, requests, length).await?, node })
    }
}
