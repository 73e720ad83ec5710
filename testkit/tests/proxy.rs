//! The proxy does in each mode what its name says, with open connections and with new ones.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use testkit::{Proxy, ProxyMode};
use tokio::time::Instant;

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Long enough to see that nothing comes.
const SILENCE: Duration = Duration::from_millis(200);

/// Answers every byte with the same byte.
fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            });
        }
    });
    port
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn read(mut stream: &TcpStream) -> std::io::Result<u8> {
    let mut byte = [0];
    stream.read_exact(&mut byte).map(|()| byte[0])
}

fn ask(mut stream: &TcpStream, byte: u8) -> std::io::Result<u8> {
    stream.write_all(&[byte])?;
    read(stream)
}

#[test]
fn passes_on_and_counts() {
    let proxy = Proxy::start(echo());
    let (one, two) = (connect(&proxy), connect(&proxy));
    assert_eq!((ask(&one, 1).unwrap(), ask(&two, 2).unwrap()), (1, 2));
    assert_eq!(proxy.accepted(), 2);
    assert_eq!(proxy.mode(), ProxyMode::Pass);
}

#[test]
fn refuses_and_listens_again() {
    let proxy = Proxy::start(echo());
    let open = connect(&proxy);
    assert_eq!(ask(&open, 1).unwrap(), 1);
    for _ in 0..3 {
        proxy.set(ProxyMode::Refuse);
        let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        proxy.set(ProxyMode::Pass);
        assert_eq!(ask(&connect(&proxy), 2).unwrap(), 2);
    }
    assert_eq!(read(&open).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn resets_what_is_open_and_what_comes() {
    let proxy = Proxy::start(echo());
    let open = connect(&proxy);
    assert_eq!(ask(&open, 1).unwrap(), 1);
    proxy.set(ProxyMode::Reset);
    assert_eq!(read(&open).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(read(&connect(&proxy)).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn holds_back_and_loses_nothing() {
    let proxy = Proxy::start(echo());
    let mut open = connect(&proxy);
    assert_eq!(ask(&open, 1).unwrap(), 1);
    proxy.set(ProxyMode::BlackHole);
    let mut new = connect(&proxy);
    for stream in [&mut open, &mut new] {
        stream.write_all(&[7]).unwrap();
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        assert_eq!(read(stream).unwrap_err().kind(), ErrorKind::WouldBlock);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    proxy.set(ProxyMode::Pass);
    assert_eq!((read(&open).unwrap(), read(&new).unwrap()), (7, 7));
}

#[test]
fn resets_what_was_held_back() {
    let proxy = Proxy::start(echo());
    proxy.set(ProxyMode::BlackHole);
    let held = connect(&proxy);
    proxy.set(ProxyMode::Reset);
    // One that the proxy had not accepted is reset as a new one.
    assert_eq!(read(&held).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn delays_each_direction() {
    let proxy = Proxy::start(echo());
    let mut stream = connect(&proxy);
    assert_eq!(ask(&stream, 1).unwrap(), 1);
    let delay = Duration::from_millis(150);
    proxy.set(ProxyMode::Delay(delay));
    let start = Instant::now();
    stream.write_all(&[9]).unwrap();
    assert_eq!(read(&stream).unwrap(), 9);
    assert!(start.elapsed() >= 2 * delay, "{:?}", start.elapsed());
}

#[test]
fn ends_with_its_value() {
    let proxy = Proxy::start(echo());
    let open = connect(&proxy);
    assert_eq!(ask(&open, 1).unwrap(), 1);
    drop(proxy);
    assert_eq!(read(&open).unwrap_err().kind(), ErrorKind::ConnectionReset);
}
