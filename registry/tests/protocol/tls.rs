//! TLS on the node's port: versions, certificates of clients, renewal, and those who speak something else.

use std::{fs, io, path::PathBuf, time::Duration};

use registry_wire::ProblemType;
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::json;
use tempfile::TempDir;
use testkit::{Ca, Issued, Stopwatch, wait_until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::client::TlsStream;

use crate::{
    harness::{Answer, PATIENCE, path},
    program::{Program, command},
};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(8);

/// For a busy machine: sockets of slow clients are closed within 10 s.
const SLACK: Duration = Duration::from_secs(2);

/// A node with TLS, and what its certificate comes from.
struct Node {
    program: Program,
    ca: Ca,
    dir: TempDir,
}

impl Node {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With settings that name files in its directory by `@`.
    async fn start_with(more: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), more).await
    }

    async fn start_in(dir: TempDir, more: &[(&str, &str)]) -> Self {
        let ca = Ca::new();
        let [certificate, key] = ca.issue(&["localhost"]).write(dir.path(), "node");
        let mut settings = vec![
            ("REGISTRY_TLS_CERT", certificate.to_str().unwrap().to_owned()),
            ("REGISTRY_TLS_KEY", key.to_str().unwrap().to_owned()),
            ("REGISTRY_LOG", "info,registry=debug".to_owned()),
        ];
        let here = format!("{}/", dir.path().display());
        settings.extend(more.iter().map(|(name, value)| (*name, value.replace('@', &here))));
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Self { program: Program::listening(&settings).await, ca, dir }
    }

    fn port(&self) -> u16 {
        self.program.address().rsplit(':').next().unwrap().parse().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        self.ca.connect(self.port(), None).await.unwrap()
    }

    async fn ready(&self, shown: Option<&Issued>) {
        wait_until(PATIENCE, "the node is ready", async || {
            self.ca.get(self.port(), "/readyz", shown).await.is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// The sample of a metric; `None` if there is none.
    async fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.ca.get(self.port(), "/metrics", None).await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        Some(value.parse().unwrap())
    }

    /// What it shows to a new connection.
    async fn shown(&self) -> CertificateDer<'static> {
        shown(&self.connect().await)
    }

    fn healthcheck(&self, more: &[(&str, &str)]) -> (Option<i32>, String) {
        let mut command = command(self.dir.path());
        command.arg("healthcheck").env("REGISTRY_LISTEN", self.program.address());
        let output = Program::run_to_its_end(command.envs(more.iter().copied()));
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

fn der(issued: &Issued) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()
}

/// Reads one answer.
async fn answer(stream: &mut TlsStream<TcpStream>) -> io::Result<Answer> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(answer) = Answer::parse(&bytes) {
            return Ok(answer);
        }
        match timeout(PATIENCE, stream.read(&mut chunk)).await.expect("an answer in time")? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

/// One call on a connection that is kept.
async fn ask(stream: &mut TlsStream<TcpStream>, path: &str) -> io::Result<Answer> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await?;
    answer(stream).await
}

/// A registration of which a part is still to be sent.
fn registration() -> (String, String) {
    let body = json!({"endpoint": "http://h:1"}).to_string();
    let head = format!("PUT {} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n", path("web", "a"), body.len());
    (head + "content-type: application/json\r\n\r\n", body)
}

#[tokio::test]
async fn tls_1_2_and_1_3_with_http_1_1_and_nothing_else() {
    let node = Node::start().await;
    node.ready(None).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = node.ca.client(None, &[version]);
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut stream = node.ca.connect_with(node.port(), client).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
        ask(&mut stream, "/services").await.unwrap().ok();
    }
    let mut client = node.ca.client(None, rustls::ALL_VERSIONS);
    client.alpn_protocols = vec![b"h2".to_vec()];
    assert!(node.ca.connect_with(node.port(), client).await.is_err(), "HTTP/2 alone");
    assert!(Ca::new().connect(node.port(), None).await.is_err(), "another CA");
    assert_eq!(node.program.terminate().await, Some(0));
}

/// Sends bytes, and reads until the node closes.
async fn send(node: &Node, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(node.program.address()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end like any other.
    drop(timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it closes"));
    answer
}

/// A hello of TLS 1.1 (RFC 4346, section 7.4.1.2), with one cipher suite of its time.
fn hello_of_tls_1_1() -> Vec<u8> {
    let mut body = vec![3, 2];
    body.extend([7; 32]);
    // No session, one suite (TLS_RSA_WITH_AES_128_CBC_SHA), no compression.
    body.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let length = u8::try_from(body.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(body);
    record
}

#[tokio::test]
async fn what_is_no_tls_of_today_is_refused_and_makes_no_noise() {
    let node = Node::start().await;
    for bytes in [&b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"[..], b"\x00\x01\x02", b"SSH-2.0-x\r\n"] {
        let answer = send(&node, bytes).await;
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    let answer = send(&node, &hello_of_tls_1_1()).await;
    // A fatal alert: handshake_failure (40) or protocol_version (70).
    let refused = [40, 70].iter().any(|why| answer.ends_with(&[2, *why]));
    assert!(answer.first() == Some(&21) && refused, "{answer:?}");
    // It goes on, and has said what came on the level for that alone.
    node.ready(None).await;
    let log = node.program.log();
    let lines: Vec<_> = log.iter().filter(|line| line.contains("before it was served")).collect();
    assert!(lines.len() >= 4 && lines.iter().all(|line| line.contains("\"DEBUG\"")), "{log:?}");
    let loud = log.iter().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\""));
    assert_eq!(loud.count(), 0, "{log:?}");
    assert_eq!(node.program.terminate().await, Some(0));
}

#[tokio::test]
async fn a_slow_handshake_is_closed_and_holds_nobody_up() {
    let node = Node::start().await;
    node.ready(None).await;
    let slow = async |first: &[u8]| {
        let (begun, watch) = (Instant::now(), Stopwatch::start());
        send(&node, first).await;
        assert!(begun.elapsed() >= HANDSHAKE, "closed after {:?}", begun.elapsed());
        assert!(watch.elapsed() < HANDSHAKE + SLACK, "closed after {:?}", watch.elapsed());
    };
    let hello = hello_of_tls_1_1();
    let others = async {
        let begun = Instant::now();
        while begun.elapsed() < HANDSHAKE {
            let asked = Stopwatch::start();
            assert_eq!(node.ca.get(node.port(), "/livez", None).await.unwrap().0, 200);
            assert!(asked.elapsed() < SLACK, "{:?}", asked.elapsed());
        }
    };
    // Nothing at all, the beginning of a record, and all of one but its end.
    tokio::join!(slow(&[]), slow(&hello[..3]), slow(&hello[..hello.len() - 1]), others);
    assert_eq!(node.program.terminate().await, Some(0));
}

#[tokio::test]
async fn a_new_certificate_counts_on_sighup_and_no_request_is_lost() {
    let node = Node::start().await;
    node.ready(None).await;
    let first = node.shown().await;
    let mut kept = node.connect().await;
    ask(&mut kept, "/livez").await.unwrap();
    // A call that begins before and ends after.
    let mut open = node.connect().await;
    let (head, body) = registration();
    open.write_all((head + &body[..3]).as_bytes()).await.unwrap();

    let second = node.ca.issue_until(&["localhost"], 3000);
    second.write(node.dir.path(), "node");
    let changed = Instant::now();
    node.program.signal(Signal::HUP);
    wait_until(PATIENCE, "the new one is shown", async || node.shown().await == der(&second)).await;
    assert!(first != der(&second) && changed.elapsed() < PATIENCE);
    open.write_all(&body.as_bytes()[3..]).await.unwrap();
    assert_eq!(answer(&mut open).await.unwrap().status, 201);
    ask(&mut open, "/services/web").await.unwrap().ok();
    ask(&mut kept, "/services/web").await.unwrap().ok();
    assert_eq!(shown(&kept), first, "the same connection as before");
    let expires = "registry_tls_certificate_expires_timestamp_seconds";
    assert_eq!(node.metric(expires).await, Some(32_503_680_000.0), "1 January 3000");
    assert_eq!(node.metric("registry_tls_last_reload_successful").await, Some(1.0));
    assert_eq!(node.program.terminate().await, Some(0));
}

/// Without a signal a change takes two looks, a second apart.
#[tokio::test]
async fn sighup_waits_for_no_second_look() {
    let node = Node::start().await;
    // Before, SIGHUP would end it.
    node.ready(None).await;
    let mut took = Vec::new();
    // A busy machine may be late at times, and not always.
    while took.len() < 10 {
        let next = node.ca.issue(&["localhost"]);
        let begun = Instant::now();
        next.write(node.dir.path(), "node");
        node.program.signal(Signal::HUP);
        wait_until(PATIENCE, "the new one is shown", async || node.shown().await == der(&next)).await;
        took.push(begun.elapsed());
        if begun.elapsed() < Duration::from_millis(900) {
            return;
        }
    }
    panic!("it took {took:?}");
}

#[tokio::test]
async fn a_new_certificate_counts_without_a_signal_and_a_bad_one_never() {
    let node = Node::start().await;
    node.ready(None).await;
    let second = node.ca.issue(&["localhost"]);
    second.write(node.dir.path(), "node");
    wait_until(PATIENCE, "the new one is shown", async || node.shown().await == der(&second)).await;

    node.program.log();
    let mut log = Vec::new();
    let complaints = |log: &[String]| log.iter().filter(|line| line.contains("stays in force")).count();
    for (count, bad) in [node.ca.issue(&["x"]).key.as_str(), "", "no key"].into_iter().enumerate() {
        fs::write(node.file("node.key"), bad).unwrap();
        node.program.signal(Signal::HUP);
        wait_until(PATIENCE, "it complains", async || {
            log.extend(node.program.log());
            assert_eq!(node.shown().await, der(&second));
            complaints(&log) > count
        })
        .await;
        wait_until(PATIENCE, "it shows", async || {
            node.metric("registry_tls_last_reload_successful").await == Some(0.0)
        })
        .await;
        assert!(log.iter().any(|line| line.contains("REGISTRY_TLS_KEY: '")), "{log:?}");
    }
    // The node lives, and nobody restarts it for a file that it does not use.
    let (cert, key) = (node.file("node.pem"), node.file("node.key"));
    let tls = [("REGISTRY_TLS_CERT", cert.to_str().unwrap()), ("REGISTRY_TLS_KEY", key.to_str().unwrap())];
    assert_eq!(node.healthcheck(&tls), (Some(0), String::new()));
    second.write(node.dir.path(), "node");
    wait_until(PATIENCE, "all is well again", async || {
        node.metric("registry_tls_last_reload_successful").await == Some(1.0)
    })
    .await;
    log.extend(node.program.log());
    assert_eq!(complaints(&log), 3, "one line for each fault: {log:?}");
    assert_eq!(node.program.terminate().await, Some(0));
}

/// Whether a connection with this certificate is good for a call.
async fn may(node: &Node, shown: Option<&Issued>) -> bool {
    node.ca.get(node.port(), "/services", shown).await.is_some()
}

#[tokio::test]
async fn only_clients_with_a_certificate_of_the_right_ca_may_connect() {
    let (dir, clients, stranger) = (tempfile::tempdir().unwrap(), Ca::new(), Ca::new());
    fs::write(dir.path().join("clients.pem"), clients.pem()).unwrap();
    let node = Node::start_in(dir, &[("REGISTRY_TLS_CLIENT_CA", "@clients.pem")]).await;
    let (right, wrong) = (clients.issue(&["someone"]), stranger.issue(&["someone"]));
    node.ready(Some(&right)).await;
    let expired = clients.issue_until(&["someone"], 2020);
    // The node's own certificate opens nothing either, if it is of another CA.
    let own = node.ca.issue(&["localhost"]);
    for (shown, expected) in [
        (Some(&right), true),
        (None, false),
        (Some(&wrong), false),
        (Some(&expired), false),
        (Some(&own), false),
    ] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let client = node.ca.client(shown, &[version]);
            let called = async {
                let mut stream = node.ca.connect_with(node.port(), client).await?;
                ask(&mut stream, "/livez").await
            };
            assert_eq!(called.await.is_ok(), expected, "{version:?}");
        }
    }
    // The certificate is shown each time: no session is taken up again.
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = node.ca.client(Some(&right), &[version]);
        for _ in 0..2 {
            let mut stream = node.ca.connect_with(node.port(), client.clone()).await.unwrap();
            ask(&mut stream, "/livez").await.unwrap();
            let kind = stream.get_ref().1.handshake_kind();
            assert_eq!(kind, Some(rustls::HandshakeKind::Full), "{version:?}");
        }
    }
    // Without a certificate, by flags or by settings: the health check asks on another way.
    assert_eq!(node.healthcheck(&[]), (Some(0), String::new()));

    // Another CA counts for those who come after it.
    fs::write(node.file("clients.pem"), stranger.pem()).unwrap();
    node.program.signal(Signal::HUP);
    wait_until(PATIENCE, "the other may", async || may(&node, Some(&wrong)).await).await;
    assert!(!may(&node, Some(&right)).await);
    assert_eq!(node.program.terminate().await, Some(0));
}

#[tokio::test]
async fn the_way_of_the_health_check_leads_nowhere_else() {
    use std::os::{linux::net::SocketAddrExt, unix::net};

    let node = Node::start().await;
    node.ready(None).await;
    assert_eq!(node.healthcheck(&[]).0, Some(0));
    let name = net::SocketAddr::from_abstract_name(format!("vertice-registry/{}", node.program.address()));
    let call = |request: &str| {
        let mut stream = net::UnixStream::connect_addr(name.as_ref().unwrap()).unwrap();
        let head = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        io::read_to_string(stream).unwrap()
    };
    assert!(call("GET /livez").starts_with("HTTP/1.1 200 "));
    for request in
        ["GET /services", "GET /metrics", "PUT /services/web/instances/a", "DELETE /deregister/web"]
    {
        assert!(call(request).starts_with("HTTP/1.1 404 "), "{request}");
    }
    let address = node.program.address().to_owned();
    let (dir, tls) = (tempfile::tempdir().unwrap(), ("REGISTRY_TLS_CERT", "x"));
    assert_eq!(node.program.terminate().await, Some(0));
    for settings in [&[][..], &[tls, ("REGISTRY_TLS_KEY", "x")]] {
        let mut check = command(dir.path());
        check.arg("healthcheck").env("REGISTRY_LISTEN", &address).envs(settings.iter().copied());
        let output = Program::run_to_its_end(&mut check);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error.lines().count()), (Some(1), 1), "{error}");
        assert!(error.contains("not alive at"), "{error}");
    }
}

#[tokio::test]
async fn a_node_without_tls_says_nothing_of_it() {
    let program = Program::start(&[]).await;
    let metrics = program.get("/metrics").await.text;
    assert!(metrics.contains("registry_blind") && !metrics.contains("registry_tls"), "{metrics}");
    assert_eq!(program.terminate().await, Some(0));
}

/// What is said of a body holds behind TLS as well.
#[tokio::test]
async fn a_problem_is_a_document_behind_tls_too() {
    let node = Node::start_with(&[("REGISTRY_AUTH_TOKEN", "9f8e7d6c5b4a3210")]).await;
    node.ready(None).await;
    let mut stream = node.connect().await;
    let (head, body) = registration();
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    answer(&mut stream).await.unwrap().problem(ProblemType::Unauthorized);
    assert_eq!(node.program.terminate().await, Some(0));
}
