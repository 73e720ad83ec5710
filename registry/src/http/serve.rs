use std::{convert::Infallible, error::Error, net::IpAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::{Node, app::App};

/// How long a head may take to arrive, and how long a kept connection may be silent.
const HEAD_DEADLINE: Duration = Duration::from_secs(8);

/// What hyper buffers of a head. Twice the limit, so that a head a little above it gets a problem document; from here
/// on hyper itself answers 431.
const HEAD_BUFFER: usize = 2 * registry_wire::limits::HEAD_MAX;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 12_000;

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

/// Accepts connections until `stop`, then gives open requests until `deadline` after it.
pub async fn serve(node: Arc<Node>, listener: TcpListener, stop: watch::Receiver<bool>, deadline: Duration) {
    serve_with(App::new(node), listener, stop, deadline).await;
}

/// [`serve`] with anything behind the same connections: what a node costs is measured against what does nothing.
pub async fn serve_with(
    answer: impl Answer,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
    deadline: Duration,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let place = Arc::clone(&places).acquire_owned();
        let accepted = tokio::select! {
            accepted = async { (place.await, listener.accept().await) } => accepted,
            () = stopped(&mut stop) => break,
        };
        match accepted {
            (Ok(place), Ok((stream, peer))) => {
                let (answer, stop) = (answer.clone(), stop.clone());
                connections.spawn(async move {
                    connection(answer, stream, peer.ip(), stop).await;
                    drop(place);
                });
            }
            (_, Err(error)) => {
                warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
            (Err(_), _) => break,
        }
    }
    drop(listener);
    let finished = timeout(deadline, async { while connections.join_next().await.is_some() {} }).await;
    if finished.is_err() {
        warn!(connections = connections.len(), "closed with requests still open");
    }
}

async fn connection(answer: impl Answer, stream: TcpStream, peer: IpAddr, mut stop: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection ended before it was served");
        return;
    }
    let answer = &answer;
    let service =
        service_fn(move |request| async move { Ok::<_, Infallible>(answer.answer(request, peer).await) });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended early");
    }
}

/// Waits for `true`, or for the end of who could say it.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}
