//! Thousands of connections that send nothing, or half of something, or that too slowly.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use bench::{
    generator::{Outcome, Plan, run},
    lab::{Lab, Server},
    population::Population,
};
use testkit::{Nginx, Stopwatch};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::sleep,
};

use crate::{P99, lab};

/// At a time.
const SOCKETS: usize = 5_000;

/// Each of them is gone after this time.
const GONE: Duration = Duration::from_secs(10);

/// What a socket sends at first, and whether it then sends a byte twice a second.
const SENT: [(&str, bool); 5] = [
    ("", false),
    ("", false),
    ("GET /services HTTP/1.1\r\nHost: x\r\nX-Pad: ", false),
    ("GET /services HTTP/1.1\r\nHost: x\r\nX-Pad: ", true),
    (
        "PUT /services/a/instances/b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: 1000\r\n\r\n{",
        false,
    ),
];

/// Connects at a time: a connection that finds the server's queue full would never be heard of again.
const CONNECTING: usize = 200;

/// Connects, sends and waits for the end. Returns how long after its beginning it came.
async fn hold(port: u16, (first, drips): (&'static str, bool), turns: Arc<Semaphore>) -> Duration {
    let turn = turns.acquire().await.expect("open");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("a connection");
    drop(turn);
    let watch = Stopwatch::start();
    stream.write_all(first.as_bytes()).await.expect("sent");
    let (mut read, mut write) = stream.into_split();
    let dripping = tokio::spawn(async move {
        while drips && write.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(500)).await;
        }
        // Not closed by this side.
        std::future::pending::<()>().await;
        drop(write);
    });
    // A reset is an end like any other.
    let _ = read.read_to_end(&mut Vec::new()).await;
    dripping.abort();
    watch.elapsed()
}

const KEPT: Population = Population { services: 10, instances: 10 };

/// Others beat at a server while thousands hold connections to it.
async fn attack(port: u16) -> (Outcome, Vec<Duration>, Stopwatch) {
    let plan = Plan {
        address: (Ipv4Addr::LOCALHOST, port).into(),
        connections: 16,
        rate: 200,
        duration: GONE + Duration::from_secs(2),
    };
    let watch = Stopwatch::start();
    let others = tokio::task::spawn_blocking(move || {
        run(&plan, |turn, out| {
            let (path, body) = KEPT.beat(usize::try_from(turn).expect("few") % KEPT.len());
            let length = body.len();
            let head = format!("PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
            out.extend_from_slice(head.as_bytes());
        })
    });
    let turns = Arc::new(Semaphore::new(CONNECTING));
    let mut held = JoinSet::new();
    for number in 0..SOCKETS {
        held.spawn(hold(port, SENT[number % SENT.len()], Arc::clone(&turns)));
    }
    let ends = held.join_all().await;
    (others.await.expect("sent").expect("sent"), ends, watch)
}

fn judge((others, ends, watch): &(Outcome, Vec<Duration>, Stopwatch)) {
    assert_eq!(others.errors(), 0, "{:?}", others.bad);
    let p99 = others.latency(990);
    assert!(p99 <= P99 + watch.longest_stall(), "{p99:?}");
    assert_eq!(ends.len(), SOCKETS);
    let last = ends.iter().max().expect("some");
    println!(
        "p99 of the others {p99:?}, longest stall of this machine {:?}, last socket gone {last:?}",
        watch.longest_stall()
    );
    assert!(*last < GONE, "{last:?}");
}

async fn node(lab: &Lab, settings: &[(&str, &str)]) -> Server {
    let database = format!("sqlite://{}/silent.db", lab.dir().display());
    let node = lab.node(&database, settings).await.expect("a node");
    KEPT.register(node.port()).await.expect("registered");
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_serves_others_while_thousands_are_silent() {
    let (_alone, lab) = lab().await;
    let node = node(&lab, &[]).await;
    judge(&attack(node.port()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_serves_others_while_thousands_are_silent() {
    let (_alone, lab) = lab().await;
    let node = node(&lab, &[("REGISTRY_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let nginx = Nginx::start(&[node.port()]).await;
    judge(&attack(nginx.port()).await);
}
