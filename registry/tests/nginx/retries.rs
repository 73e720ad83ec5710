//! What goes to another node and what does not, and what the nodes are sent.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Nginx, wait_until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use crate::support::{Answer, Client, LONGEST, Reply, SOON, Stub};

const GOOD: Answer = Answer::Status(200, "Content-Type: application/json\r\n", "{\"from\":\"good\"}");

/// Every call that must not fail with a node.
fn calls() -> impl Iterator<Item = (&'static str, &'static str, Value)> {
    let writes = Client::writes().map(|(method, path, body, _)| (method, path, body));
    let more = [
        ("PUT", "/services/w/instances/one/drain", json!({"reason": "x"})),
        ("DELETE", "/services/w/instances/one/drain", Value::Null),
        ("DELETE", "/deregister/w", Value::Null),
        ("GET", "/services/w", Value::Null),
        ("HEAD", "/services", Value::Null),
        ("GET", "/events", Value::Null),
    ];
    writes.into_iter().chain(more)
}

#[tokio::test]
async fn every_failure_of_a_node_goes_to_another_one() {
    let failures = [
        Answer::Close,
        Answer::Status(502, "", ""),
        Answer::Status(503, "Retry-After: 1\r\n", "{}"),
        Answer::Status(504, "", ""),
    ];
    for failure in failures {
        let (bad, good) = (Stub::start(failure.clone()).await, Stub::start(GOOD).await);
        let nginx = Nginx::start(&[bad.port, good.port]).await;
        let client = Client::new(nginx.port());
        for round in 0..4 {
            for (method, path, body) in calls() {
                let reply = client.call(method, path, &body).await.unwrap();
                assert_eq!(reply.status, 200, "{failure:?} {round} {method} {path} {reply:?}");
            }
        }
        assert!(bad.calls() > 0, "{failure:?} was not met");
    }
}

#[tokio::test]
async fn a_node_that_takes_no_connection_costs_a_quarter_of_a_second() {
    // Once the queue of a listener that accepts nothing is full, the kernel drops what wants to connect, as a network
    // does that is cut.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
        assert!(queued.len() < 100, "the queue has no end");
    }
    let good = Stub::start(GOOD).await;
    let nginx = Nginx::start(&[address.port(), good.port]).await;
    let client = Client::new(nginx.port());
    let mut slowest = Duration::ZERO;
    for (method, path, body) in calls().chain(calls()) {
        let reply = client.call(method, path, &body).await.unwrap();
        assert_eq!(reply.status, 200, "{method} {path} {reply:?}");
        slowest = slowest.max(reply.took);
    }
    assert!((200..2000).contains(&slowest.as_millis()), "{slowest:?}");
}

#[tokio::test]
async fn too_much_and_a_bug_are_not_taken_to_another_node() {
    let problem = r#"{"type":"/problems/x","title":"t","status":0,"detail":"As the node wrote it."}"#;
    for status in [429, 500, 400, 401, 403, 404, 409, 413, 422, 431] {
        let headers = "Content-Type: application/problem+json\r\nRetry-After: 7\r\nAllow: PUT\r\n";
        let answer = Answer::Status(status, headers, problem);
        let (one, two) = (Stub::start(answer.clone()).await, Stub::start(answer).await);
        let nginx = Nginx::start(&[one.port, two.port]).await;
        let client = Client::new(nginx.port());
        for (count, (method, path, body)) in calls().enumerate() {
            let reply = client.call(method, path, &body).await.unwrap();
            assert_eq!(reply.status, status, "{method} {path} {reply:?}");
            assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{reply:?}");
            assert_eq!(one.calls() + two.calls(), count + 1, "{status} {method} {path}");
            // To a read no node says 400 or 413: nginx does.
            if [400, 413].contains(&status)
                && path.starts_with("/services")
                && ["GET", "HEAD"].contains(&method)
            {
                continue;
            }
            assert_eq!(reply.header("retry-after"), Some("7"), "{reply:?}");
            if method != "HEAD" {
                assert_eq!(reply.body["detail"], "As the node wrote it.", "{method} {path} {reply:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_by_all_reaches_the_client_as_the_nodes_wrote_it() {
    let headers = "Content-Type: application/problem+json\r\nRetry-After: 7\r\n";
    let answer = Answer::Status(503, headers, r#"{"detail":"As the node wrote it."}"#);
    let (one, two) = (Stub::start(answer.clone()).await, Stub::start(answer).await);
    let nginx = Nginx::start(&[one.port, two.port]).await;
    let client = Client::new(nginx.port());
    for (method, path, body) in calls() {
        let before = (one.calls(), two.calls());
        let reply = client.call(method, path, &body).await.unwrap();
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("7")), "{reply:?}");
        if method != "HEAD" {
            assert_eq!(reply.body["detail"], "As the node wrote it.", "{reply:?}");
        }
        // Once for each, and for a read once more.
        let each = if ["/services", "/services/w"].contains(&path) { 2 } else { 1 };
        assert_eq!((one.calls(), two.calls()), (before.0 + each, before.1 + each), "{method} {path}");
    }
}

#[tokio::test]
async fn a_late_write_is_waited_for_and_a_silent_node_is_not() {
    let late = Stub::start(Answer::Late(Duration::from_millis(1200))).await;
    let nginx = Nginx::start(&[late.port]).await;
    let client = Client::new(nginx.port());
    for (method, path, body, _) in Client::writes() {
        assert_eq!(client.call(method, path, &body).await.unwrap().status, 200);
    }
    assert_eq!(late.calls(), Client::writes().len(), "a write was sent twice");

    // More than there is time for.
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(Stub::start(Answer::Silence).await);
    }
    let ports: Vec<_> = silent.iter().map(|stub| stub.port).collect();
    let nginx = Nginx::start(&ports).await;
    let client = Client::new(nginx.port());
    for (method, path) in [("PUT", "/services/w/instances/one/heartbeat"), ("GET", "/services/w")] {
        let reply = client.call(method, path, &Value::Null).await.unwrap();
        reply.is_problem(registry_wire::ProblemType::Unavailable);
        assert!(reply.took < LONGEST, "{method} {reply:?}");
    }
}

#[tokio::test]
async fn nodes_are_sent_what_nginx_knows_and_not_what_the_client_says_of_itself() {
    let node = Stub::start(Answer::Status(503, "", "")).await;
    let nginx = Nginx::start(&[node.port]).await;
    let client = Client::new(nginx.port());
    let request = |method: Method, path: &str| {
        client
            .request(method, path)
            .header("cache-control", "no-cache, max-age=99")
            .header("x-forwarded-for", "203.0.113.9")
            .header("x-request-id", "forged")
            .header("x-registry-token", "the-token")
    };
    Reply::of(request(Method::GET, "/services/a%2Fb?all=true")).await.unwrap();
    Reply::of(request(Method::PUT, "/services/a/instances/b")).await.unwrap();
    let heads: Vec<_> = node.heads().iter().map(|head| head.to_ascii_lowercase()).collect();
    assert_eq!(heads.len(), 3, "{heads:?}");
    for head in &heads {
        assert!(head.contains("\r\nx-forwarded-for: 127.0.0.1\r\n"), "{head}");
        assert!(
            !head.contains("203.0.113.9") && !head.contains("forged") && !head.contains("max-age=99"),
            "{head}"
        );
        assert!(head.contains("\r\nx-registry-token: the-token\r\n"), "{head}");
        assert!(!head.contains("\r\nconnection:"), "{head}");
        assert!(head.lines().next().unwrap().ends_with("http/1.1"), "{head}");
    }
    // As it was sent: nothing decoded, nothing merged.
    assert!(heads[0].starts_with("get /services/a%2fb?all=true "), "{}", heads[0]);
    assert!(heads[0].contains("\r\ncache-control: max-age=3\r\n"), "{}", heads[0]);
    assert!(heads[1].starts_with("get /services/a%2fb?all=true "), "{}", heads[1]);
    assert!(!heads[1].contains("cache-control"), "{}", heads[1]);
    assert!(heads[2].starts_with("put ") && !heads[2].contains("cache-control"), "{}", heads[2]);
}

#[tokio::test]
async fn a_kept_connection_is_closed_by_nginx_before_the_node_does() {
    // A node closes after 8 s.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (done, idle) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4096];
        let mut calls = 0;
        let mut last = Instant::now();
        while stream.read(&mut buffer).await.unwrap() > 0 {
            calls += 1;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
            last = Instant::now();
        }
        done.send((calls, last.elapsed())).unwrap();
    });
    let nginx = Nginx::start(&[port]).await;
    // nginx has a pool for each of its processes; a client's connection stays with one.
    let client = Client::new(nginx.port());
    for _ in 0..3 {
        assert_eq!(client.get("/services").await.unwrap().status, 200);
    }
    let (calls, idle) = timeout(SOON, idle).await.unwrap().unwrap();
    assert_eq!(calls, 3, "the connection was not kept");
    assert!((3500..7500).contains(&idle.as_millis()), "closed after {idle:?}");
}

#[tokio::test]
async fn events_are_passed_on_as_they_come_also_after_a_silence() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (more, wanted) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(b"9\r\ndata: 1\n\n\r\n").await.unwrap();
        wanted.await.unwrap();
        // Longer than any other answer is waited for.
        sleep(Duration::from_secs(3)).await;
        stream.write_all(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n").await.unwrap();
    });
    let nginx = Nginx::start(&[port]).await;
    let client = Client::new(nginx.port());
    let mut response = client.request(Method::GET, "/events").send().await.unwrap();
    // The second event is sent only once the first was read.
    let first = timeout(SOON, response.chunk()).await.unwrap().unwrap().unwrap();
    assert_eq!(&first[..], b"data: 1\n\n");
    more.send(()).unwrap();
    let second = timeout(SOON, response.chunk()).await.unwrap().unwrap().unwrap();
    assert_eq!(&second[..], b"data: 2\n\n");
}

#[tokio::test]
async fn the_load_is_shared() {
    let stubs = [Stub::start(GOOD).await, Stub::start(GOOD).await, Stub::start(GOOD).await];
    let nginx = Nginx::start(&stubs.each_ref().map(|stub| stub.port)).await;
    let client = Client::new(nginx.port());
    for _ in 0..60 {
        client.get("/services").await.unwrap();
    }
    wait_until(SOON, "each node had its share", async || {
        stubs.iter().all(|stub| (15..=25).contains(&stub.calls()))
    })
    .await;
}
