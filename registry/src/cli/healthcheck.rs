use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};

use rustix::{net::sockopt::socket_peercred, process::geteuid};

use crate::{config::Settings, http::local_name};

/// How long each step may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// Asks `/livez` of the node that listens, by the same settings, on this machine: on its port, or where that speaks TLS
/// on the socket that the node has for it, so that neither a certificate nor its renewal decides whether it lives.
///
/// It never touches the store, so a container is not restarted because the store is away.
///
/// # Errors
/// Why the node does not count as alive, in one line.
pub(super) fn run(settings: &Settings) -> Result<(), String> {
    let mut address = settings.listen().map_err(|error| error.to_string())?;
    if address.ip().is_unspecified() {
        let loopback: IpAddr =
            if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    let tls = settings.tls_files().map_err(|error| error.to_string())?.is_some();
    let answer = ask(address, tls).map_err(|error| format!("not alive at {address}: {error}"))?;
    let line = answer.lines().next().unwrap_or_default();
    if line.split(' ').nth(1) == Some("200") {
        Ok(())
    } else {
        Err(format!("not alive at {address}: it answered '{}'", line.escape_debug()))
    }
}

/// The settings may have been flags of the node, which are not known here: a socket that is there is asked in any case.
fn ask(address: SocketAddr, tls: bool) -> io::Result<String> {
    match local(address) {
        Ok(stream) => {
            stream.set_read_timeout(Some(DEADLINE))?;
            stream.set_write_timeout(Some(DEADLINE))?;
            exchange(stream, address)
        }
        Err(error) if tls => Err(error),
        Err(_) => {
            let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
            stream.set_read_timeout(Some(DEADLINE))?;
            stream.set_write_timeout(Some(DEADLINE))?;
            exchange(stream, address)
        }
    }
}

/// The socket of the node there, if it is one of this user's; root takes any.
fn local(address: SocketAddr) -> io::Result<UnixStream> {
    let name = local_name(address)?;
    let stream = UnixStream::connect_addr(&name).map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => io::Error::other("no node with TLS runs there"),
        _ => error,
    })?;
    let own = geteuid();
    let owner = socket_peercred(&stream)?.uid;
    if own.is_root() || owner == own {
        Ok(stream)
    } else {
        Err(io::Error::other(format!("its socket is of user {}, not of this one", owner.as_raw())))
    }
}

fn exchange(mut stream: impl Read + Write, address: SocketAddr) -> io::Result<String> {
    write!(stream, "GET /livez HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(16 * 1024).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
