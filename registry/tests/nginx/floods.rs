//! Who asks for too much is refused by nginx, and nobody else.

use std::time::Duration;

use futures_util::future::{join_all, select_all};
use registry_wire::ProblemType;
use serde_json::Value;
use testkit::{ClusterOptions, Nginx};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};

use crate::support::{Answer, Client, SOON, Stub, keep, start, unscaled};

/// Calls sent at once.
const AT_ONCE: usize = 60;

/// Changes a second.
const RATE: usize = 10;

#[tokio::test]
async fn changes_of_an_address_have_a_rate_and_beats_and_reads_have_none() {
    let node = Stub::start(Answer::Status(200, "", "{}")).await;
    let nodes = format!("127.0.0.1:{}", node.port);
    let rate = RATE.to_string();
    let nginx = Nginx::start_with(&nodes, &[("REGISTRY_NGINX_CHANGES_PER_ADDRESS", &rate)]).await;
    let client = Client::new(nginx.port());
    for (method, path) in [
        ("PUT", "/services/a/instances/b"),
        ("PUT", "/services/a/instances/heartbeat"),
        ("PUT", "/services/a/instances/b/drain"),
        ("DELETE", "/deregister/heartbeat"),
        ("POST", "/register"),
    ] {
        let begun = Instant::now();
        let replies = join_all((0..AT_ONCE).map(|_| client.call(method, path, &Value::Null))).await;
        let given = usize::try_from(begun.elapsed().as_millis()).unwrap() * RATE / 1000 + 2;
        let refused: Vec<_> =
            replies.iter().map(|reply| reply.as_ref().unwrap()).filter(|reply| reply.status != 200).collect();
        for reply in &refused {
            reply.is_problem(ProblemType::Overloaded);
        }
        let passed = AT_ONCE - refused.len();
        assert!(passed <= RATE + given, "{method} {path}: {passed} passed");
        assert!(!refused.is_empty());
    }
    for (method, path) in [
        ("PUT", "/services/a/instances/b/heartbeat"),
        ("PUT", "/services/a/instances/b/%68eartbeat"),
        ("POST", "/heartbeat"),
        ("GET", "/services/a"),
        ("GET", "/services"),
    ] {
        let replies = join_all((0..AT_ONCE).map(|_| client.call(method, path, &Value::Null))).await;
        assert!(replies.iter().all(|reply| reply.as_ref().unwrap().status == 200), "{method} {path}");
    }
}

/// A change whose body does not come, from an address of this machine. Returns the connection.
async fn half_a_change(port: u16, from: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
    let head = b"PUT /services/a/instances/b HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1234";
    stream.write_all(head).await.unwrap();
    stream
}

/// What it is answered.
async fn read(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 4096];
    let read = stream.read(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

/// Whether it is answered long before its body is late, and with what.
async fn answered(stream: &mut TcpStream) -> Option<String> {
    timeout(Duration::from_millis(500), read(stream)).await.ok()
}

#[tokio::test]
async fn an_address_has_so_many_changes_under_way_and_not_one_more() {
    const MOST: usize = 8;
    let node = Stub::start(Answer::Status(200, "", "{}")).await;
    let nodes = format!("127.0.0.1:{}", node.port);
    let most = MOST.to_string();
    let nginx = Nginx::start_with(&nodes, &[("REGISTRY_NGINX_OPEN_CHANGES_PER_ADDRESS", &most)]).await;
    let client = Client::new(nginx.port());
    // Whichever nginx hears of last.
    let mut held = join_all((0..=MOST).map(|_| half_a_change(nginx.port(), "127.0.0.2"))).await;
    let first = select_all(held.iter_mut().map(|stream| Box::pin(read(stream))));
    let (answer, refused, _) = timeout(SOON, first).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
    let mut other = half_a_change(nginx.port(), "127.0.0.3").await;
    assert_eq!(answered(&mut other).await, None, "another address waits for its body");
    assert_eq!(client.beat("a", "b").await.unwrap().status, 200);
    assert_eq!(client.register("a", "b").await.unwrap().status, 200);
    // The others are let go for their slowness, and the address may come again.
    held.swap_remove(refused);
    for stream in &mut held {
        let mut rest = Vec::new();
        let _ = timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(!rest.starts_with(b"HTTP/1.1 429 "));
    }
    let mut again = half_a_change(nginx.port(), "127.0.0.2").await;
    assert_eq!(answered(&mut again).await, None);
}

/// What a node refuses, whatever it is, goes to no other node and says what the node said.
#[tokio::test]
async fn the_refusals_of_nodes_are_passed_on_as_they_are() {
    let options = ClusterOptions { nodes: 2, ..unscaled() }.setting("REGISTRY_MAX_INSTANCES", "1");
    let cluster = start(options).await;
    let client = Client::new(cluster.nginx.port());
    // A cap counts what the node that is asked has heard of.
    keep(&cluster, &client).await;
    let reply = client.register("kept", "two").await.unwrap();
    let detail = reply.is_problem(ProblemType::Full).body["detail"].as_str().unwrap();
    assert!(detail.contains("REGISTRY_MAX_INSTANCES"), "{detail}");
    let refused = cluster.metric("registry_refused_total{reason=\"cap_instances\"}").await;
    assert!((refused - 1.0).abs() < 0.1, "one node was asked: {refused}");
    assert_eq!(client.register("kept", "one").await.unwrap().status, 200);
    assert_eq!(client.beat("kept", "one").await.unwrap().status, 200);
}
