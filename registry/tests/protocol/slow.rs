//! Clients that send slowly or nothing: they are answered or closed in time, and nobody else waits for them.

use std::time::Duration;

use registry_wire::ProblemType;
use testkit::Stopwatch;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::harness::{Answer, Node, PATIENCE, Store, WITH_BODY, minimal};

both!(slow_clients_are_not_waited_for);

/// How long a body may take.
const BODY: Duration = Duration::from_secs(5);

/// How long a head may take, and a connection be silent.
const HEAD: Duration = Duration::from_secs(8);

/// For a busy machine. Sockets of P23 are closed within 10 s.
const SLACK: Duration = Duration::from_secs(2);

/// Sends `first` and then `drip` twice a second until the node closes. Returns what it answered, and when it closed.
async fn drip(node: &Node, first: &str, drip: &str) -> (String, Took) {
    let (begun, watch) = (Instant::now(), Stopwatch::start());
    let stream = TcpStream::connect(node.address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let first = first.to_owned();
    let drip = drip.to_owned();
    let writing = tokio::spawn(async move {
        // It fails once the node has closed, which is what is waited for.
        let mut sent = write.write_all(first.as_bytes()).await;
        while sent.is_ok() {
            sleep(Duration::from_millis(500)).await;
            sent = write.write_all(drip.as_bytes()).await;
        }
    });
    let mut answer = Vec::new();
    // A reset is an end like any other.
    drop(timeout(PATIENCE, read.read_to_end(&mut answer)).await.expect("the node closes"));
    writing.abort();
    let took = Took { at_least: begun.elapsed(), promised: watch.elapsed() };
    (String::from_utf8(answer).unwrap(), took)
}

/// How long the node waited.
#[derive(Clone, Copy, Debug)]
struct Took {
    at_least: Duration,
    /// While this machine ran.
    promised: Duration,
}

#[track_caller]
fn within(took: Took, deadline: Duration, what: &str) {
    assert!(took.at_least >= deadline, "{what}: closed after {took:?}");
    assert!(took.promised < deadline + SLACK, "{what}: closed after {took:?}");
}

async fn slow_body(node: &Node, method: &str, path: &str) {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{{");
    let (answer, took) = drip(node, &head, " ").await;
    within(took, BODY, &format!("{method} {path}"));
    let answer = Answer::parse(answer.as_bytes()).expect("a whole answer");
    answer.problem(ProblemType::BodyTimeout);
}

async fn slow_clients_are_not_waited_for(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &minimal()).await;
    let before = node.state().await;
    let bodies =
        futures_util::future::join_all(WITH_BODY.map(|(method, path)| slow_body(&node, method, path)));
    let head = async {
        let (answer, took) = drip(&node, "GET /services HTTP/1.1\r\nhost: x\r\nx-pad: ", "x").await;
        within(took, HEAD, "a slow head");
        assert_eq!(answer, "", "there is no request to answer");
    };
    let silent = async {
        let (answer, took) = drip(&node, "", "").await;
        within(took, HEAD, "a silent connection");
        assert_eq!(answer, "");
    };
    let kept = async {
        let (answer, took) = drip(&node, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", "").await;
        within(took, HEAD, "a connection that is silent after its first request");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    };
    // Others are served all the while.
    let others = async {
        let begun = Instant::now();
        while begun.elapsed() < BODY {
            let asked = Stopwatch::start();
            node.get("/services/web").await.ok();
            assert!(asked.elapsed() < SLACK, "{:?}", asked.elapsed());
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::join!(bodies, head, silent, kept, others);
    assert_eq!(node.state().await, before);
}
