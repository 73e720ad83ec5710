//! Where `sidecar healthcheck` asks: an abstract Unix socket, which is no file and no port.
//!
//! In: the sidecar's name, a connection.
//! Owns: the socket's name and the one line that goes over it.
//! Out: whether the sidecar is in order, and why.

use std::{
    collections::hash_map::DefaultHasher,
    convert::Infallible,
    hash::{Hash, Hasher},
    io::{self, Read},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    time::Duration,
};

use tokio::time::sleep;
use tracing::warn;

use crate::machine::Report;

/// An abstract name holds 107 bytes.
const NAME_MAX: usize = 107;
const PREFIX: &str = "registry-sidecar/";
/// How long `healthcheck` waits for its line.
const ASK_LIMIT: Duration = Duration::from_secs(3);
/// How long until another try when another process holds the name, as while one sidecar replaces another.
const BIND_PAUSE: Duration = Duration::from_secs(5);

fn address(name: &str) -> io::Result<SocketAddr> {
    let mut socket = format!("{PREFIX}{name}");
    if socket.len() > NAME_MAX {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        socket = format!("{PREFIX}{:016x}", hasher.finish());
    }
    SocketAddr::from_abstract_name(socket)
}

fn bind(name: &str) -> io::Result<tokio::net::UnixListener> {
    let listener = UnixListener::bind_addr(&address(name)?)?;
    listener.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(listener)
}

/// Answers every connection with one line, for ever. Any process in the same network namespace may ask; the line holds
/// no secret.
pub(crate) async fn serve(name: &str, report: impl Fn() -> Report) -> Infallible {
    let mut warned = false;
    let listener = loop {
        match bind(name) {
            Ok(listener) => break listener,
            Err(error) => {
                if !warned {
                    warn!(%error, "the socket of the health check is taken; is another sidecar of this instance running?");
                    warned = true;
                }
                sleep(BIND_PAUSE).await;
            }
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let report = report();
                let word = if report.healthy { "ok" } else { "failed" };
                let line = format!("{word} {}\n", report.why);
                // An empty socket buffer takes a line at once; who does not read it loses it.
                if stream.writable().await.is_ok() {
                    let _ = stream.try_write(line.as_bytes());
                }
            }
            // Out of file descriptors, for one: nothing that haste would mend.
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
    }
}

/// Asks the running sidecar of this name. `Ok` is why it is in order, `Err` why it is not.
pub(crate) fn ask(name: &str) -> Result<String, String> {
    let no_sidecar = |error: &io::Error| match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            format!("no sidecar of {name} is running here")
        }
        _ => format!("the sidecar of {name} does not answer: {error}"),
    };
    let read = || {
        let stream = UnixStream::connect_addr(&address(name)?)?;
        stream.set_read_timeout(Some(ASK_LIMIT))?;
        let mut line = String::new();
        stream.take(4096).read_to_string(&mut line)?;
        Ok(line)
    };
    let line: String = read().map_err(|error: io::Error| no_sidecar(&error))?;
    match line.trim_end().split_once(' ') {
        Some(("ok", why)) => Ok(why.to_owned()),
        Some((_, why)) => Err(why.to_owned()),
        None => Err(format!("the sidecar of {name} said nothing")),
    }
}
