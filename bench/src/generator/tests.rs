use std::{net::TcpListener, thread};

use super::*;

/// Answers every request on every connection, the head and the body in two pieces; every tenth with 404.
fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                let (mut count, mut buffer) = (0, [0; 1024]);
                while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
                    count += 1;
                    let status = if count % 10 == 0 { "404 Not Found" } else { "200 OK" };
                    let head = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n");
                    if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(b"ok")).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn every_request_is_sent_once_and_counted_by_its_answer() {
    let plan = Plan { address: server(), connections: 4, rate: 1000, duration: Duration::from_millis(400) };
    let mut numbers = Vec::new();
    let outcome = run(&plan, |number, out| {
        numbers.push(number);
        out.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
    })
    .unwrap();
    assert_eq!(numbers, (0..400).collect::<Vec<_>>());
    assert_eq!((outcome.sent, outcome.good + outcome.errors()), (400, 400));
    assert_eq!(outcome.bad.keys().copied().collect::<Vec<_>>(), [404]);
    assert!((36..=40).contains(&outcome.errors()), "{outcome:?}");
    assert!(outcome.latency(500) <= outcome.latency(1000) && outcome.latency(1000) > Duration::ZERO);
}

#[test]
fn an_answer_is_whole_when_its_body_is_there() {
    let head = b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(whole(&[head, &b"ab"[..]].concat()).unwrap(), None);
    assert_eq!(whole(&[head, &b"abc"[..]].concat()).unwrap(), Some(201));
    assert_eq!(whole(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap(), Some(204));
    assert_eq!(whole(b"HTTP/1.1 200 OK\r\n").unwrap(), None);
    assert!(whole(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "nobody knows where it ends");
}
