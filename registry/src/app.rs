//! The composition root: makes every stage and joins them. It imports everything; nobody imports it.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::Rng;
use registry_wire::ServiceName;
use secrecy::ExposeSecret;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use crate::{
    clock::{self, Moment, Sight},
    config::Config,
    fanout::{Applier, Follower, Listener},
    files,
    flush::{Flush, Tasks},
    http::{self, Guard, Node, Tokens},
    lease::{Bounds, Leases, Looks},
    lifecycle,
    metrics::Metrics,
    store::{Store, StoreError, UrlError},
    view::View,
};

/// Why a node did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The database URL names no store.
    #[error("DATABASE_URL: {0}")]
    Url(#[from] UrlError),
    /// The store can never be used as it is.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The port cannot be listened on.
    #[error("REGISTRY_LISTEN: cannot listen on {address}: {error}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the operating system says.
        error: io::Error,
    },
    /// SIGHUP cannot be listened to.
    #[error("SIGHUP cannot be listened to: {0}")]
    Signal(io::Error),
    /// The metrics cannot be made: a bug.
    #[error("the metrics cannot be made: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Listens where the configuration says.
///
/// # Errors
/// The port is taken, or may not be used.
pub fn bind(address: SocketAddr) -> Result<TcpListener, RunError> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // As the standard library does: a node that is restarted takes its port back at once.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|error| RunError::Listen { address, error })
}

/// Connections that wait to be accepted, as many as the kernel allows by default: thousands may come in one second, and
/// one that finds no place is not refused, but hangs.
const BACKLOG: u32 = 4096;

/// Runs one node on a listener until `stop` completes, then shuts it down in order.
///
/// A Postgres that is away does not end it: the node comes up not ready and keeps trying.
///
/// # Errors
/// The store can never be used as it is.
pub async fn run(
    config: Config,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let store = Arc::new(Store::open_parsed(&config.database_url.expose_secret().parse()?).await?);
    let parts = Parts::start(&config, &store)?;
    let (close, closed) = watch::channel(false);
    let local = match (&config.tls, listener.local_addr()) {
        (Some(_), Ok(address)) => Some(tokio::spawn(http::serve_local(address, closed.clone()))),
        _ => None,
    };
    let (node, tls) = (Arc::clone(&parts.node), config.tls.clone());
    let server = tokio::spawn(http::serve(node, tls, listener, closed, lifecycle::REQUESTS));
    let mut follower = parts.follower;
    let failed = tokio::select! {
        () = stop => None,
        ended = &mut follower => match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(error) => Some(StoreError::Unusable(format!("the reader of the logs ended: {error}"))),
        },
    };
    let node = parts.node;
    node.stopping.store(true, Ordering::Release);
    if failed.is_none() {
        info!("stopping: not ready any more, serving {} ms longer", lifecycle::LAME.as_millis());
        sleep(lifecycle::LAME).await;
    }
    close.send_replace(true);
    if server.await.is_err() {
        error!("the server ended by a panic");
    }
    parts.stop_flush.send_replace(true);
    drop(node);
    finish(parts.tasks).await;
    follower.abort();
    parts.files.iter().chain(&local).for_each(JoinHandle::abort);
    store.close(lifecycle::CLOSE).await;
    info!("stopped");
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// The last beats are written, the last changes committed.
async fn finish(tasks: Tasks) {
    let all = async { tokio::join!(tasks.beats, tasks.expiries, tasks.commits) };
    if timeout(lifecycle::FLUSH, all).await.is_err() {
        warn!("stopped before everything was written; other nodes and the sidecars make up for it");
    }
}

/// The stages, joined and running.
struct Parts {
    node: Arc<Node>,
    tasks: Tasks,
    follower: JoinHandle<Result<(), StoreError>>,
    /// Who look at files that may change.
    files: Vec<JoinHandle<()>>,
    stop_flush: watch::Sender<bool>,
}

impl Parts {
    fn start(config: &Config, store: &Arc<Store>) -> Result<Self, RunError> {
        let metrics = Arc::new(Metrics::new()?);
        let sight =
            if store.is_shared() { Sight::ticking(config.tick) } else { Sight::continuous(config.tick) };
        let (look, looks) = Looks::new();
        let view = Arc::new(View::default());
        let counted = Arc::clone(&view);
        let count = Arc::new(move |service: &ServiceName| counted.counts(service));
        let bounds = Bounds::new(config.limits, config.changes_waiting, count);
        let (submit, submissions) = mpsc::channel(config.changes_waiting + OWN_CHANGES_WAITING);
        let leases = Leases::new(sight, look, submit.clone(), config.default_ttl, bounds);
        let applier = Arc::new(Applier::new(Arc::clone(&leases), Arc::clone(&view)));
        let (own_row, own_rows) = watch::channel((0, Moment::NEVER));
        let (stop_flush, stopped) = watch::channel(false);
        let writer = clock::rng().random();
        if store.is_shared() {
            let url = config.database_listen_url.as_ref().unwrap_or(&config.database_url);
            tokio::spawn(Listener::new(url.clone(), looks.asker()).run());
        }
        let follower = Follower {
            store: Arc::clone(store),
            applier: Arc::clone(&applier),
            leases: Arc::clone(&leases),
            writer,
            tick: config.tick,
            own_row: own_rows,
            looks,
            metrics: Arc::clone(&metrics),
        };
        let flush = Flush {
            store: Arc::clone(store),
            leases: Arc::clone(&leases),
            apply: Arc::new(move |changes| applier.committed(changes, clock::now())),
            own_row: Arc::new(own_row),
            writer,
            tick: config.tick,
            metrics: Arc::clone(&metrics),
        };
        let loaded = Arc::clone(&leases);
        let tasks = flush.start(submissions, &submit, stopped);
        tokio::spawn(announce_ready(loaded));
        let node = Arc::new(Node {
            leases,
            view,
            metrics,
            breaker: store.breaker(),
            tokens: Tokens::new(config),
            trusted_proxies: config.trusted_proxies.clone(),
            guard: Guard::new(config.limits),
            node_id: config.node_id.clone(),
            stopping: AtomicBool::new(false),
        });
        let mut files = Vec::new();
        if let Some(verifier) = config.signed_tokens.clone() {
            let watch = files::watch(move |at_once| verifier.refresh(at_once)).map_err(RunError::Signal)?;
            files.push(tokio::spawn(watch));
        }
        if let Some(tls) = config.tls.clone() {
            files.push(tokio::spawn(tls.watch(node.metrics.tls()?).map_err(RunError::Signal)?));
        }
        Ok(Self { node, tasks, follower: tokio::spawn(follower.run()), files, stop_flush })
    }
}

/// Changes of status that beats bring, and changes of the node's own, that may wait for their commit beside those that
/// clients ask for. More of them wait for a place.
const OWN_CHANGES_WAITING: usize = 20_000;

/// How often to look whether the node has become ready, for the log line alone.
const READY_POLL: Duration = Duration::from_millis(20);

async fn announce_ready(leases: Arc<Leases>) {
    while leases.sighting(clock::now()).blind {
        sleep(READY_POLL).await;
    }
    info!(entries = leases.len(), "ready");
}
