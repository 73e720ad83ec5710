//! One HTTP/1.1 request at a time over a connection that is ours.
//!
//! In: an origin, a request.
//! Owns: resolving, connecting, TLS, the limits of an answer.
//! Out: a whole answer of at most 64 KiB, or a fault in a few words.
//!
//! Redirects are answers like any other here, proxies from the environment are not asked, and nothing is decompressed:
//! there is no code for it.

use std::{
    error::Error as _,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use registry_wire::limits;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Semaphore,
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};
use url::{Host, Url};

use crate::{
    machine::Text,
    reply,
    tls::{self, Tls},
};

/// How long one of several addresses of a host may take to connect, so that a dead one does not use up the time of the
/// others.
const ADDRESS_LIMIT: Duration = Duration::from_secs(2);

/// A plain or encrypted stream.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why there is no answer, in a few words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: Text,
    /// The connection ended before the first byte of an answer.
    pub(crate) silent: bool,
}

impl<T: Into<Text>> From<T> for Fault {
    fn from(reason: T) -> Self {
        Self { reason: reason.into(), silent: false }
    }
}

impl Fault {
    fn io(error: &io::Error) -> Self {
        let reason: Text = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".into(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "connection reset".into(),
            io::ErrorKind::HostUnreachable => "host unreachable".into(),
            io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
            io::ErrorKind::TimedOut => "connecting timed out".into(),
            io::ErrorKind::UnexpectedEof => "connection closed without an answer".into(),
            _ => tls::fault(error).unwrap_or_else(|| error.to_string().into()),
        };
        reason.into()
    }

    fn hyper(error: &hyper::Error) -> Self {
        if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            return "connection closed without a whole answer".into();
        }
        if error.is_parse() || error.is_parse_too_large() {
            return "the answer is not HTTP".into();
        }
        match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
            Some(error) => Self::io(error),
            None => error.to_string().into(),
        }
    }

    /// A fault from before the head of the answer.
    fn early(error: &hyper::Error) -> Self {
        Self { silent: !error.is_parse() && !error.is_parse_too_large(), ..Self::hyper(error) }
    }
}

/// Where a URL's server is.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) tls: bool,
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What goes into the `Host` header.
    pub(crate) authority: String,
    /// Whose turn it is to look the name up.
    turn: Turn,
}

/// Lets one at a time look a name up. Shared by all origins that are the same one.
pub(crate) type Turn = Arc<Semaphore>;

impl Origin {
    /// The origin of an `http` or `https` URL.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        Self::in_turn(url, Arc::new(Semaphore::new(1)))
    }

    /// The origin of a URL, for one that is made anew for each request.
    pub(crate) fn in_turn(url: &Url, turn: Turn) -> Option<Self> {
        let host = match url.host()? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let authority = match (url.host_str()?, url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        Some(Self { tls: url.scheme() == "https", host, port: url.port_or_known_default()?, authority, turn })
    }

    /// The addresses of its host.
    pub(crate) async fn resolve(&self) -> Result<Vec<SocketAddr>, Fault> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        // The system's resolver cannot be interrupted: while a name server is silent, each question keeps a thread for
        // many seconds, long after whoever asked has given up. So there is never more than one question.
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let target = (self.host.clone(), self.port);
        let lookup = spawn_blocking(move || {
            let _turn = turn;
            target.to_socket_addrs().map(Iterator::collect::<Vec<_>>)
        });
        let host = &self.host;
        match lookup.await {
            Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
            Ok(Ok(_)) => Err(format!("the name '{host}' has no address").into()),
            Ok(Err(error)) => Err(format!("the name '{host}' does not resolve: {}", plain(&error)).into()),
            Err(_) => Err(format!("the name '{host}' could not be looked up").into()),
        }
    }

    /// A TCP connection to the first address that takes one.
    pub(crate) async fn dial(&self) -> Result<TcpStream, Fault> {
        let addresses = self.resolve().await?;
        let mut last = Fault::from("the name has no address");
        for address in &addresses {
            let connecting = TcpStream::connect(address);
            let connected = if addresses.len() == 1 {
                connecting.await
            } else {
                let late = |_| Err(io::ErrorKind::TimedOut.into());
                timeout(ADDRESS_LIMIT, connecting).await.unwrap_or_else(late)
            };
            match connected {
                Ok(stream) => {
                    // A request is one write; without this its end would wait for an acknowledgement.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => last = Fault::io(&error),
            }
        }
        Err(last)
    }

    /// A connection that is ready for requests.
    pub(crate) async fn connect(&self, tls: &Tls) -> Result<Connection, Fault> {
        let stream = self.dial().await?;
        let stream: Box<dyn Stream> =
            if self.tls { tls.wrap(&self.host, stream).await? } else { Box::new(stream) };
        Connection::over(stream).await
    }
}

/// getaddrinfo's words without the frame that the standard library puts around them.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("failed to lookup address information: ");
    text.map_or_else(|| error.to_string(), str::to_owned)
}

/// Ends the connection's task with the last handle to it.
///
/// Its own end is the reason where a request only learns that the connection is closed: with TLS 1.3 a server refuses a
/// client's certificate after the handshake.
#[derive(Debug)]
struct Driver(JoinHandle<Option<Fault>>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
}

impl Connection {
    /// Speaks HTTP on a stream.
    async fn over(stream: Box<dyn Stream>) -> Result<Self, Fault> {
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(limits::BODY_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Fault::hyper(&error))?;
        let driver = tokio::spawn(async move { driver.await.err().map(|error| Fault::hyper(&error)) });
        Ok(Self { sender, driver: Driver(driver) })
    }

    /// Whether the server closed it, as far as is known.
    pub(crate) fn closed(&self) -> bool {
        self.sender.is_closed() || self.driver.0.is_finished()
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, Fault> {
        let sent = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        match sent.await {
            Ok(answer) => Reply::read(answer).await,
            Err(error) => {
                let mut fault = Fault::early(&error);
                // It has ended, or does at once: the request could not reach it any more.
                if (error.is_closed() || error.is_canceled())
                    && let Ok(Some(own)) = (&mut self.driver.0).await
                {
                    fault.reason = own.reason;
                }
                Err(fault)
            }
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    async fn read(answer: Response<Incoming>) -> Result<Self, Fault> {
        let (head, mut body) = answer.into_parts();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Fault::hyper(&error))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > limits::BODY_MAX {
                let kib = limits::BODY_MAX / 1024;
                return Err(format!("the answer is longer than {kib} KiB").into());
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Self { status: head.status.as_u16(), headers: head.headers, body: bytes.freeze() })
    }

    /// The pause that `Retry-After` asks for.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        reply::retry_after(self.headers.get(header::RETRY_AFTER)?.as_bytes())
    }
}

#[cfg(all(test, feature = "tls"))]
mod tests;
