//! How many connections there may be, and what becomes of those whose clients take nothing.

use std::{net::SocketAddr, time::Duration};

use registry_wire::ProblemType;
use testkit::{Stopwatch, wait_until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{
    harness::{Answer, PATIENCE},
    program::Program,
};

const ASK: &[u8] = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";

/// Connects from an address of this machine and asks. Returns the connection and the answer; no answer where it was
/// closed without one.
async fn ask(to: SocketAddr, from: &str) -> (TcpStream, Option<Answer>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let answer = again(&mut stream).await;
    (stream, answer)
}

/// A connection that is let in, as soon as there is room: the one before, of the harness, may be counted for a moment
/// after its end.
async fn enter(to: SocketAddr, from: &str) -> TcpStream {
    let mut entered = None;
    wait_until(PATIENCE, "it is let in", async || {
        let (stream, answer) = ask(to, from).await;
        entered = answer.filter(|answer| answer.status == 200).map(|_| stream);
        entered.is_some()
    })
    .await;
    entered.expect("it was let in")
}

/// Asks on a connection that is there.
async fn again(stream: &mut TcpStream) -> Option<Answer> {
    // It may be closed already.
    drop(stream.write_all(ASK).await);
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match timeout(PATIENCE, stream.read(&mut chunk)).await.unwrap() {
            Ok(count) if count > 0 => bytes.extend_from_slice(&chunk[..count]),
            _ => return None,
        }
        if let Some(answer) = Answer::parse(&bytes) {
            return Some(answer);
        }
    }
}

/// A node whose only connections are those of the test.
async fn node(settings: &[(&str, &str)]) -> (Program, SocketAddr) {
    let mut program = Program::start(settings).await;
    // What the harness kept open is closed with its client.
    program.client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    let address = program.address().parse().unwrap();
    wait_until(PATIENCE, "nobody else is connected", async || connections(&program).await == 1).await;
    (program, address)
}

/// The connections that the node counts, the one that asks among them.
async fn connections(program: &Program) -> u64 {
    figure(program, "registry_connections ").await
}

async fn figure(program: &Program, name: &str) -> u64 {
    let text = program.get("/metrics").await.text;
    let line =
        text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// A 429 that says which setting, and the end of the connection.
async fn told((mut stream, answer): (TcpStream, Option<Answer>), setting: &str) {
    let answer = answer.expect("an answer");
    let body = answer.problem(ProblemType::Overloaded);
    assert!(body["detail"].as_str().unwrap().contains(setting), "{answer:?}");
    assert_eq!(answer.header("connection"), "close");
    assert!(again(&mut stream).await.is_none(), "closed");
}

#[tokio::test]
async fn so_many_connections_and_not_one_more() {
    let (program, address) = node(&[("REGISTRY_MAX_CONNECTIONS", "4")]).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(enter(address, "127.0.0.1").await);
    }
    for _ in 0..3 {
        told(ask(address, "127.0.0.1").await, "REGISTRY_MAX_CONNECTIONS)").await;
        told(ask(address, "127.0.0.2").await, "REGISTRY_MAX_CONNECTIONS)").await;
    }
    // Those who are in are served on.
    for stream in &mut open {
        assert_eq!(again(stream).await.unwrap().status, 200);
    }
    drop(open.split_off(2));
    drop(enter(address, "127.0.0.1").await);
    drop(open);
    wait_until(PATIENCE, "all have gone", async || connections(&program).await == 1).await;
    assert!(figure(&program, "registry_connections_refused_total{reason=\"all\"}").await >= 6);
    assert_eq!(figure(&program, "registry_connections_refused_total{reason=\"address\"}").await, 0);
}

#[tokio::test]
async fn an_address_has_its_share_and_a_proxy_all_there_are() {
    let settings = [
        ("REGISTRY_MAX_CONNECTIONS", "8"),
        ("REGISTRY_MAX_CONNECTIONS_PER_ADDRESS", "3"),
        ("REGISTRY_TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let (program, address) = node(&settings).await;
    let mut open = Vec::new();
    for from in ["127.0.0.2", "127.0.0.2", "127.0.0.2"] {
        open.push(enter(address, from).await);
    }
    told(ask(address, "127.0.0.2").await, "REGISTRY_MAX_CONNECTIONS_PER_ADDRESS)").await;
    assert_eq!(figure(&program, "registry_connections_refused_total{reason=\"address\"}").await, 1);
    wait_until(PATIENCE, "the scrape has gone", async || connections(&program).await == 4).await;
    // Another address, and a proxy with as many as are left.
    for from in ["127.0.0.3", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1"] {
        open.push(enter(address, from).await);
    }
    // What a proxy brings when all are taken is closed without an answer: it goes to another node then.
    let (_, answer) = ask(address, "127.0.0.1").await;
    assert!(answer.is_none(), "{answer:?}");
    told(ask(address, "127.0.0.3").await, "REGISTRY_MAX_CONNECTIONS)").await;
    // Who leaves gives the place back to the address.
    drop(open.remove(0));
    enter(address, "127.0.0.2").await;
}

/// A client that asks and asks and reads nothing: the node keeps neither it nor what it was to get.
#[tokio::test]
async fn who_does_not_take_an_answer_is_let_go() {
    let (program, address) = node(&[]).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let watch = Stopwatch::start();
    // 40 KB each: together far more than the kernel keeps for a connection.
    let asked = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(600);
    stream.write_all(&asked).await.unwrap();
    wait_until(PATIENCE, "it is connected", async || connections(&program).await == 2).await;
    wait_until(PATIENCE, "it is let go", async || connections(&program).await == 1).await;
    assert!(watch.elapsed() < Duration::from_secs(13), "{:?}", watch.elapsed());
    assert_eq!(figure(&program, "registry_slow_clients_total{what=\"answer\"}").await, 1);
}
