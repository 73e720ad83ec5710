//! Stands before the calls that cost more than a heartbeat or a read of one service: rates, load, and how many big
//! lists are made at a time. What it refuses is answered with 429, which no balancer takes to another node.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZero,
    sync::Arc,
    thread::available_parallelism,
    time::Duration,
};

use http::{Uri, request::Parts};
use registry_wire::limits;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    Failure, Node,
    auth::Access,
    caller::Peer,
    gate::operation,
    load::{Late, Shed, shed},
    rate::Rates,
    routes::Need,
    sending::Sending,
};
use crate::{
    clock::{self, Moment},
    config::Limits,
    metrics::{Operation, Refused},
};

/// A list is big if more entries than these may be looked at for it: those of a page.
const BIG: usize = limits::PAGE_DEFAULT;

/// Big lists that may wait for their turn.
const LISTS_WAITING: usize = 64;

/// How long one waits. nginx gives a read 1 s.
const LIST_PATIENCE: Duration = Duration::from_millis(500);

/// The guard of one node.
#[derive(Debug)]
pub struct Guard {
    by_token: Rates,
    by_address: Rates,
    limits: Limits,
    /// One for each core: each is made on a thread of its own, beside those that answer everything else.
    lists: Arc<Semaphore>,
    lists_waiting: Semaphore,
    pub(super) late: Late,
    pub(super) sending: Sending,
}

/// What a call must hold while it is answered.
pub(super) type Turn = Option<OwnedSemaphorePermit>;

impl Guard {
    /// With these bounds.
    pub fn new(limits: Limits) -> Self {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Self {
            by_token: Rates::new(limits.changes_per_token),
            by_address: Rates::new(limits.calls_per_address),
            limits,
            lists: Arc::new(Semaphore::new(cores)),
            lists_waiting: Semaphore::new(LISTS_WAITING),
            late: Late::default(),
            sending: Sending::default(),
        }
    }

    /// The bounds.
    pub(super) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Lets a call pass, with a turn where it is a big list, or refuses it. Heartbeats pass, and so do reads of one
    /// service or instance.
    pub(super) async fn pass(
        &self,
        node: &Node,
        need: Need,
        call: &Parts,
        peer: &Peer,
    ) -> Result<Turn, Failure> {
        let operation = operation(&call.method, call.uri.path());
        let changes = matches!(need, Need::Register(_));
        let lists = operation == Some(Operation::List);
        if !changes && !lists {
            return Ok(None);
        }
        let now = clock::now();
        if let Some(address) = peer.client(node, &call.headers) {
            self.rate_of_address(address, now)?;
        }
        if changes {
            self.rate_of_token(peer.access(), now)?;
        }
        let shed = shed(self.late.get(), node.leases.queue());
        if shed >= Shed::Registrations && operation == Some(Operation::Register) {
            return Err(busy(Refused::Registration, "This node is far behind and registers nobody now."));
        }
        if !lists || looked_at(node, &call.uri) <= BIG {
            return Ok(None);
        }
        if shed >= Shed::Lists {
            return Err(busy(Refused::List, "This node is behind and makes no big lists now."));
        }
        self.turn().await.map(Some)
    }

    fn rate_of_token(&self, access: &Access, now: Moment) -> Result<(), Failure> {
        let refuse = |wait| {
            let most = self.limits.changes_per_token;
            let detail = format!(
                "More changes come with this token than {most} a second (REGISTRY_MAX_CHANGES_PER_TOKEN at this \
                 node); heartbeats do not count. Try again later."
            );
            Failure::overloaded(detail, wait).because(Refused::Token)
        };
        self.by_token.take(now, &access.id()).map_err(refuse)
    }

    fn rate_of_address(&self, address: IpAddr, now: Moment) -> Result<(), Failure> {
        let refuse = |wait| {
            let most = self.limits.calls_per_address;
            let detail = format!(
                "More changes and lists come from your address than {most} a second \
                 (REGISTRY_MAX_CALLS_PER_ADDRESS at this node); heartbeats do not count. Try again later."
            );
            Failure::overloaded(detail, wait).because(Refused::Address)
        };
        self.by_address.take(now, &block(address)).map_err(refuse)
    }

    /// Waits a little for a turn to make a big list.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let many = || busy(Refused::List, "This node makes as many big lists as it makes at a time.");
        let waiting = self.lists_waiting.try_acquire().map_err(|_| many())?;
        let turn = timeout(LIST_PATIENCE, Arc::clone(&self.lists).acquire_owned()).await;
        drop(waiting);
        turn.ok().and_then(Result::ok).ok_or_else(many)
    }
}

/// Whom an address stands for: itself, or in IPv6 all of its /64, which is what one customer or host has.
pub(super) fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// How many entries a list may have to look at, at the most.
fn looked_at(node: &Node, uri: &Uri) -> usize {
    let query = uri.query().unwrap_or_default();
    let parameters = || url::form_urlencoded::parse(query.as_bytes());
    let of = |wanted: &str| parameters().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let limit = |without: usize| of("limit").and_then(|limit| limit.parse().ok()).unwrap_or(without);
    if uri.path() == "/services" {
        return node.view.services().min(limit(usize::MAX));
    }
    let there = match of("service").map(|service| service.parse()) {
        Some(Ok(service)) => node.view.counts(&service).1,
        Some(Err(_)) => 0,
        None => node.leases.len(),
    };
    let filtered = parameters().any(|(name, _)| name == "status" || name.starts_with("meta."));
    if filtered { there } else { there.min(limit(limits::PAGE_DEFAULT)) }
}

/// Comes back when the load may be over.
pub(super) fn busy(reason: Refused, why: &str) -> Failure {
    Failure::overloaded(format!("{why} Try again a little later."), Duration::ZERO).because(reason)
}

#[cfg(test)]
mod tests;
