//! Where `registry healthcheck` asks a node whose port speaks TLS: an abstract Unix socket, which is no file and no port.
//!
//! Who asks needs no certificate for it, and none is checked: the kernel says whose process is at the other end. It
//! answers `/livez` alone, so that it is no way past TLS.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{linux::net::SocketAddrExt, unix::net as unix},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{
    net::UnixListener,
    sync::{Semaphore, watch},
    time::sleep,
};
use tracing::{debug, warn};

use super::serve::{Answer, connection};

/// Who may ask at a time; more wait. Only this user's processes and root's are listened to.
const ASKING_MAX: usize = 16;

/// Until another try where another process holds the name, as one does while it stops.
const PAUSE: Duration = Duration::from_secs(1);

/// The name of the socket of a node that listens at `address`; every address stands for loopback.
///
/// # Errors
/// None that is known: the name is short.
pub fn local_name(mut address: SocketAddr) -> io::Result<unix::SocketAddr> {
    if address.ip().is_unspecified() {
        let loopback: IpAddr =
            if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    unix::SocketAddr::from_abstract_name(format!("vertice-registry/{address}"))
}

/// Says that the process lives, and nothing else.
#[derive(Clone)]
struct Alive;

impl Answer for Alive {
    type Body = Full<Bytes>;

    async fn answer(&self, request: Request<Incoming>, _: IpAddr) -> Response<Full<Bytes>> {
        let (status, text) = match request.uri().path() {
            "/livez" => (StatusCode::OK, "alive\n"),
            _ => (StatusCode::NOT_FOUND, "only /livez is answered here\n"),
        };
        let mut answer = Response::new(Full::from(text));
        *answer.status_mut() = status;
        answer
    }
}

/// Answers on the socket of the node at `address` until `stop`.
pub async fn serve_local(address: SocketAddr, mut stop: watch::Receiver<bool>) {
    let ending = stop.clone();
    tokio::select! {
        () = serve(address, ending) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn serve(address: SocketAddr, stop: watch::Receiver<bool>) {
    let mut warned = false;
    let listener = loop {
        match bind(address) {
            Ok(listener) => break listener,
            Err(error) if !warned => {
                warn!(%error, "the socket of 'registry healthcheck' cannot be had yet; it is tried again");
                warned = true;
            }
            Err(_) => {}
        }
        sleep(PAUSE).await;
    };
    let own = rustix::process::geteuid().as_raw();
    let places = Arc::new(Semaphore::new(ASKING_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                if !stream.peer_cred().is_ok_and(|peer| [own, 0].contains(&peer.uid())) {
                    debug!("another user's process asked on the socket of 'registry healthcheck'");
                    continue;
                }
                let stop = stop.clone();
                tokio::spawn(async move {
                    connection(Alive, stream, Ipv4Addr::LOCALHOST.into(), stop).await;
                    drop(place);
                });
            }
            // For want of descriptors, as a rule.
            Err(_) => sleep(PAUSE).await,
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<UnixListener> {
    let listener = unix::UnixListener::bind_addr(&local_name(address)?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}
