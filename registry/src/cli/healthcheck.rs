use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// How long each step may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// Asks `/livez` of the node that listens at `listen` on this machine.
///
/// It never touches the store, so a container is not restarted because the store is away.
///
/// # Errors
/// Why the node does not count as alive, in one line.
pub(super) fn run(listen: Option<&str>) -> Result<(), String> {
    let listen = listen.unwrap_or("127.0.0.1:8888");
    let mut address: SocketAddr = listen
        .parse()
        .map_err(|_| format!("REGISTRY_LISTEN must be an address and a port, but is '{listen}'"))?;
    if address.ip().is_unspecified() {
        let loopback: IpAddr =
            if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    let answer = ask(address).map_err(|error| format!("not alive at {address}: {error}"))?;
    let line = answer.lines().next().unwrap_or_default();
    if line.split(' ').nth(1) == Some("200") {
        Ok(())
    } else {
        Err(format!("not alive at {address}: it answered '{line}'"))
    }
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    write!(stream, "GET /livez HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(16 * 1024).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
