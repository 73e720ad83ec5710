use std::{net::IpAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::Request, middleware};
use http::{HeaderName, HeaderValue, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::{Layer, ServiceExt};
use tower_http::set_header::SetResponseHeaderLayer;
use tracing::{debug, warn};

use super::{Node, caller::Peer, gate::gate, routes::router};

/// How long a head may take to arrive, and how long a kept connection may be silent.
const HEAD_DEADLINE: Duration = Duration::from_secs(8);

/// What hyper buffers of a head. Twice the limit, so that a head a little above it gets a problem document; from here
/// on hyper itself answers 431.
const HEAD_BUFFER: usize = 2 * registry_wire::limits::HEAD_MAX;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 12_000;

/// Pause after the operating system refused a connection, for want of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until `stop`, then gives open requests until `deadline` after it.
pub async fn serve(
    node: Arc<Node>,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
    deadline: Duration,
) {
    let routes = router(Arc::clone(&node));
    let service = gated(node, routes);
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
                let (service, stop) = (service.clone(), stop.clone());
                connections.spawn(async move {
                    connection(service, stream, peer.ip(), stop).await;
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

/// The gate before routes.
pub(super) fn gated(
    node: Arc<Node>,
    routes: Router,
) -> impl tower::Service<
    Request,
    Response = axum::response::Response,
    Error = std::convert::Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    let gated = middleware::from_fn_with_state(node, gate).layer(routes);
    SetResponseHeaderLayer::if_not_present(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    )
    .layer(gated)
}

async fn connection<S>(service: S, stream: TcpStream, peer: IpAddr, mut stop: watch::Receiver<bool>)
where
    S: tower::Service<Request, Response = axum::response::Response, Error = std::convert::Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection ended before it was served");
        return;
    }
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(Peer::new(peer));
        let service = service.clone();
        async move {
            let response: Result<Response<_>, std::convert::Infallible> = service.oneshot(request).await;
            response
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BUFFER)
        .serve_connection(TokioIo::new(stream), answer);
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
