use std::{convert::Infallible, error::Error, io, net::IpAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::{Entrance, Failure, Node, app::App, stall::Unstalled};
use crate::{
    metrics::{Closed, Slow},
    tls::Tls,
};

/// How long a head may take to arrive, and how long a kept connection may be silent.
const HEAD_DEADLINE: Duration = Duration::from_secs(8);

/// How long nothing of an answer may be taken; nginx's `send_timeout` is the same. All of it must be taken in this time
/// and what its size adds (`stall.rs`).
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// What hyper buffers of a head. Twice the limit, so that a head a little above it gets a problem document; from here
/// on hyper itself answers 431.
const HEAD_BUFFER: usize = 2 * registry_wire::limits::HEAD_MAX;

/// Connections that are not served, but told so, at a time. More are closed without a word.
const TOLD_MAX: usize = 256;

/// How long such a client may take to hear it.
const TOLD_DEADLINE: Duration = Duration::from_secs(1);

/// Pause after the operating system refused a connection, for want of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What stands behind the connections.
pub trait Answer: Clone + Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    /// Answers a request that came from `peer`.
    fn answer(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// What is done with a connection before HTTP is spoken on it. A type for each way, so that plain HTTP has no cost of
/// TLS.
trait Begin: Clone + Send + Sync + 'static {
    /// What HTTP is spoken on.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send;

    /// Does it. Whoever calls has the deadline.
    fn begin(&self, stream: TcpStream) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// Nothing.
#[derive(Clone)]
struct Plain;

impl Begin for Plain {
    type Stream = TcpStream;

    async fn begin(&self, stream: TcpStream) -> io::Result<TcpStream> {
        Ok(stream)
    }
}

impl Begin for Arc<Tls> {
    type Stream = TlsStream<TcpStream>;

    async fn begin(&self, stream: TcpStream) -> io::Result<Self::Stream> {
        let late = |_| Err(io::ErrorKind::TimedOut.into());
        timeout(HEAD_DEADLINE, self.accept(stream)).await.unwrap_or_else(late)
    }
}

/// Accepts connections until `stop`, then gives open requests until `deadline` after it.
pub async fn serve(
    node: Arc<Node>,
    tls: Option<Arc<Tls>>,
    listener: TcpListener,
    stop: watch::Receiver<bool>,
    deadline: Duration,
) {
    let entrance = Entrance::new(node.guard.limits(), &node.trusted_proxies, Arc::clone(&node.metrics));
    let measured = Arc::clone(&node);
    let late = tokio::spawn(async move { measured.guard.late.watch().await });
    match tls {
        Some(tls) => serve_by(tls, App::new(node), entrance, listener, stop, deadline).await,
        None => serve_by(Plain, App::new(node), entrance, listener, stop, deadline).await,
    }
    late.abort();
}

/// [`serve`] with anything behind the same connections: what a node costs is measured against what does nothing.
pub async fn serve_with(
    answer: impl Answer,
    entrance: Entrance,
    listener: TcpListener,
    stop: watch::Receiver<bool>,
    deadline: Duration,
) {
    serve_by(Plain, answer, entrance, listener, stop, deadline).await;
}

async fn serve_by(
    begin: impl Begin,
    answer: impl Answer,
    entrance: Entrance,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
    deadline: Duration,
) {
    let told = Arc::new(Semaphore::new(TOLD_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, peer.ip()),
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match entrance.enter(peer) {
            Ok(place) => {
                let (begin, answer, stop) = (begin.clone(), answer.clone(), stop.clone());
                connections.spawn(async move {
                    if let Some(slow) = begun(begin, answer, stream, peer, stop).await {
                        place.metrics().slow_client(slow);
                    }
                    drop(place);
                });
            }
            // A balancer takes what is closed without an answer to another node, and a 429 to none.
            Err(Closed::All) if entrance.trusts(peer) => {}
            Err(why) => {
                if let Ok(turn) = Arc::clone(&told).try_acquire_owned() {
                    let begin = begin.clone();
                    connections.spawn(async move {
                        tell(begin, stream, why).await;
                        drop(turn);
                    });
                }
            }
        }
    }
    drop(listener);
    let finished = timeout(deadline, async { while connections.join_next().await.is_some() {} }).await;
    if finished.is_err() {
        warn!(connections = connections.len(), "closed with requests still open");
    }
}

/// Tells a client why it is not served, whatever it asks for.
async fn tell(begin: impl Begin, stream: TcpStream, why: Closed) {
    let why = match why {
        Closed::All => "This node has as many connections as it may have (REGISTRY_MAX_CONNECTIONS).",
        Closed::Address => {
            "Your address has as many connections as it may have (REGISTRY_MAX_CONNECTIONS_PER_ADDRESS)."
        }
    };
    let service = service_fn(move |_| async move {
        let answer = Failure::overloaded(format!("{why} Try again a little later."), Duration::ZERO);
        Ok::<_, Infallible>(answer.whole())
    });
    let told = async {
        let stream = TokioIo::new(begin.begin(stream).await.ok()?);
        let mut http = http1::Builder::new();
        http.keep_alive(false).max_buf_size(HEAD_BUFFER).serve_connection(stream, service).await.ok()
    };
    drop(timeout(TOLD_DEADLINE, told).await);
}

/// Returns what the client was too slow with, if it was let go for that.
async fn begun(
    begin: impl Begin,
    answer: impl Answer,
    stream: TcpStream,
    peer: IpAddr,
    mut stop: watch::Receiver<bool>,
) -> Option<Slow> {
    let ready = async {
        stream.set_nodelay(true)?;
        begin.begin(stream).await
    };
    let stream = tokio::select! {
        stream = ready => stream,
        // Nobody has asked for anything yet.
        () = stopped(&mut stop) => return None,
    };
    match stream {
        Ok(stream) => connection(answer, stream, peer, stop).await,
        Err(error) => {
            debug!(%peer, %error, "a connection ended before it was served");
            (error.kind() == io::ErrorKind::TimedOut).then_some(Slow::Head)
        }
    }
}

/// Speaks HTTP on a connection until it ends. Returns what the client was too slow with, if it was let go for that.
pub(super) async fn connection(
    answer: impl Answer,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    peer: IpAddr,
    mut stop: watch::Receiver<bool>,
) -> Option<Slow> {
    let answer = &answer;
    let service =
        service_fn(move |request| async move { Ok::<_, Infallible>(answer.answer(request, peer).await) });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BUFFER)
        .serve_connection(TokioIo::new(Unstalled::new(stream, ANSWER_DEADLINE)), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    let error = ended.err()?;
    debug!(%error, "a connection ended early");
    if error.is_timeout() {
        return Some(Slow::Head);
    }
    is_stalled(&error).then_some(Slow::Answer)
}

/// Whether a client took nothing, or too little, of its answer for too long.
fn is_stalled(error: &hyper::Error) -> bool {
    let error = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    error.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// Waits for `true`, or for the end of who could say it.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}
