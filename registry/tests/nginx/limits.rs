//! Sizes and slowness.

use std::time::Duration;

use registry_wire::{Problem, ProblemType, limits::BODY_MAX};
use serde_json::json;
use testkit::{Nginx, Stopwatch};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{Answer, Client, SOON, Stub, start, unscaled};

/// What a request is answered with. `head`: its lines, each ended by CRLF; the empty line is added.
pub(crate) async fn raw(port: u16, head: &str) -> String {
    send(port, format!("{head}Host: x\r\nConnection: close\r\n\r\n").as_bytes()).await
}

/// What these bytes are answered with.
pub(crate) async fn send(port: u16, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // nginx may answer, and close, before everything was sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn assert_problem(answer: &str, kind: ProblemType) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    assert!(head.starts_with(&format!("HTTP/1.1 {} ", kind.status())), "{answer}");
    assert!(head.contains("\r\nContent-Type: application/problem+json\r\n"), "{answer}");
    let problem: Problem = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
    assert!(problem.is(kind) && problem.status == kind.status() && problem.title == kind.title(), "{answer}");
}

#[tokio::test]
async fn a_body_of_64_kib_passes_and_one_more_byte_does_not() {
    let cluster = start(unscaled()).await;
    let client = Client::new(cluster.nginx.port());
    let body = |length: usize| {
        let empty = json!({"endpoint": "http://127.0.0.1:9", "padding": ""}).to_string().len();
        json!({"endpoint": "http://127.0.0.1:9", "padding": "x".repeat(length - empty)})
    };
    let (path, largest) = ("/services/a/instances/b", body(BODY_MAX));
    assert_eq!(client.call("PUT", path, &largest).await.unwrap().status, 201);
    let reply = client.call("PUT", path, &body(BODY_MAX + 1)).await.unwrap();
    reply.is_problem(ProblemType::BodyTooLarge);
    assert_eq!(reply.body["field"], "body");
    for method in ["POST", "DELETE", "GET"] {
        let reply = client.call(method, "/services", &body(BODY_MAX + 1)).await.unwrap();
        reply.is_problem(ProblemType::BodyTooLarge);
    }

    // In chunks, the smallest as well: framing does not count.
    let head = format!("{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n");
    for size in [1, 1000] {
        let text = largest.to_string();
        let pieces = text
            .as_bytes()
            .chunks(size)
            .map(|piece| format!("{:x}\r\n{}\r\n", piece.len(), str::from_utf8(piece).unwrap()));
        let chunks: String = pieces.chain(["0\r\n\r\n".to_owned()]).collect();
        let put = format!("PUT {head}Content-Type: application/json\r\n\r\n{chunks}");
        let answer = send(cluster.nginx.port(), put.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "chunks of {size}: {answer}");
    }
    let long = format!("{:x}\r\n{}\r\n0\r\n\r\n", BODY_MAX + 1, "x".repeat(BODY_MAX + 1));
    for method in ["PUT", "GET"] {
        let answer = send(cluster.nginx.port(), format!("{method} {head}\r\n{long}").as_bytes()).await;
        assert_problem(&answer, ProblemType::BodyTooLarge);
    }
}

#[tokio::test]
async fn a_head_of_16_kib_passes_and_a_longer_one_does_not() {
    let cluster = start(unscaled()).await;
    let port = cluster.nginx.port();
    for length in [100, 15_000] {
        let answer = raw(port, &format!("GET /services HTTP/1.1\r\nX-Pad: {}\r\n", "x".repeat(length))).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{length}: {answer}");
    }
    // Some are refused by the node, some by nginx; nobody can tell.
    for length in [16_300, 16_400, 17_000, 20_000, 40_000, 200_000] {
        let pad = "x".repeat(length);
        let answer = raw(port, &format!("GET /services HTTP/1.1\r\nX-Pad: {pad}\r\n")).await;
        assert_problem(&answer, ProblemType::HeadTooLarge);
        let answer = raw(port, &format!("GET /services?{pad} HTTP/1.1\r\n")).await;
        assert_problem(&answer, ProblemType::HeadTooLarge);
        let many = format!("X-Pad: {}\r\n", "x".repeat(length / 10)).repeat(10);
        let answer = raw(port, &format!("PUT /services/a/instances/b HTTP/1.1\r\n{many}")).await;
        assert_problem(&answer, ProblemType::HeadTooLarge);
    }
}

#[tokio::test]
async fn what_is_not_http_is_refused_as_malformed() {
    let node = Stub::start(Answer::Status(200, "", "{}")).await;
    let nginx = Nginx::start(&[node.port]).await;
    for head in [
        "GET\r\n",
        "GET /services%00 HTTP/1.1\r\n",
        "GET /../../etc/passwd HTTP/1.1\r\n",
        "GET /% HTTP/1.1\r\n",
        "GET /services HTTP/9.9\r\n",
        "GET /services HTTP/1.1\r\nHost: a b\r\n",
        "PUT /x HTTP/1.1\r\nTransfer-Encoding: gzip\r\n",
        "PUT /x HTTP/1.1\r\nContent-Length: x\r\n",
        "PUT /x HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
    ] {
        assert_problem(&raw(nginx.port(), head).await, ProblemType::Malformed);
    }
    let chunked = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    for method in ["PUT", "GET"] {
        let answer = send(nginx.port(), format!("{method} /x {chunked}").as_bytes()).await;
        assert_problem(&answer, ProblemType::Malformed);
    }
    assert_problem(&raw(nginx.port(), "TRACE / HTTP/1.1\r\n").await, ProblemType::MethodNotAllowed);
    assert_eq!(node.calls(), 0);
}

#[tokio::test]
async fn a_silent_or_slow_client_is_let_go_within_10_s() {
    let node = Stub::start(Answer::Status(200, "", "{}")).await;
    let nginx = Nginx::start(&[node.port]).await;
    let begun = Stopwatch::start();
    let starts = ["", "GET /ser", "PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n12345"];
    let ends = starts.map(|start| {
        let port = nginx.port();
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.write_all(start.as_bytes()).await.unwrap();
            let _ = timeout(SOON, stream.read_to_end(&mut Vec::new())).await.unwrap();
        })
    });
    for end in ends {
        end.await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
    // A node never saw any of it.
    assert_eq!(node.calls(), 0);
}
