//! A server, a registry and a service to run the real binary against, and the binary itself.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use testkit::Stopwatch;
use tokio::time::Instant;

/// Nothing in these tests takes that long unless it fails.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) at: Instant,
    /// Started at that moment.
    pub(crate) watch: Stopwatch,
    /// The number of the connection.
    pub(crate) connection: usize,
}

impl Seen {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or(serde_json::Value::Null)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let pairs = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let mut values = pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value)
    }

    pub(crate) fn is_register(&self) -> bool {
        self.method == "PUT" && self.path.contains("/instances/") && self.path.matches('/').count() == 4
    }

    pub(crate) fn is_beat(&self) -> bool {
        self.method == "PUT" && self.path.ends_with("/heartbeat")
    }

    pub(crate) fn is_drain(&self) -> bool {
        self.method == "PUT" && self.path.ends_with("/drain")
    }

    pub(crate) fn is_delete(&self) -> bool {
        self.method == "DELETE"
    }
}

/// What a server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Answer(u16, String),
    AnswerWith(u16, &'static str, String),
    /// These bytes, then the connection is closed.
    Raw(Vec<u8>),
    /// An answer, and then the connection is closed without a word about it.
    AnswerAndClose(u16, String),
    /// Bytes without end.
    Flood,
    /// A byte now and then, without end.
    Drip,
    Hang,
    Close,
}

type Handler = Arc<dyn Fn(&Seen) -> Act + Send + Sync>;

/// An HTTP server that also does what no HTTP server should.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    seen: Mutex<Vec<Seen>>,
    news: Condvar,
    stop: AtomicBool,
    connections: AtomicUsize,
    open: Mutex<HashMap<usize, TcpStream>>,
}

impl Server {
    pub(crate) fn start(handler: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), handler)
    }

    pub(crate) fn start_on(
        listener: TcpListener,
        handler: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            news: Condvar::new(),
            stop: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            open: Mutex::default(),
        });
        let (accepting, handler): (_, Handler) = (Arc::clone(&shared), Arc::new(handler));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.stop.load(Ordering::Relaxed) {
                    return;
                }
                let number = accepting.connections.fetch_add(1, Ordering::Relaxed);
                accepting.open.lock().unwrap().insert(number, stream.try_clone().unwrap());
                let (shared, handler) = (Arc::clone(&accepting), Arc::clone(&handler));
                thread::spawn(move || {
                    converse(&stream, &stream, number, &shared, &handler);
                    let _ = stream.shutdown(Shutdown::Both);
                    shared.open.lock().unwrap().remove(&number);
                });
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Waits until what was seen so far satisfies the condition.
    pub(crate) fn wait(&self, what: &str, condition: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        self.wait_for(SOON, what, condition)
    }

    pub(crate) fn wait_for(
        &self,
        time: Duration,
        what: &str,
        condition: impl Fn(&[Seen]) -> bool,
    ) -> Vec<Seen> {
        let seen = self.shared.seen.lock().unwrap();
        let (seen, late) = self.shared.news.wait_timeout_while(seen, time, |seen| !condition(seen)).unwrap();
        assert!(!late.timed_out(), "no {what} within {time:?}; seen: {seen:#?}");
        seen.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the accept loop, which then sees that it is to end.
        let _ = TcpStream::connect(self.address);
        for stream in self.shared.open.lock().unwrap().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Serves one connection, which may be encrypted.
fn converse(input: impl Read, mut output: impl Write, connection: usize, shared: &Shared, handler: &Handler) {
    let mut input = BufReader::new(input);
    while let Some(seen) = read_request(&mut input, connection) {
        // The handler first: who waits for the request may rely on what it did.
        let act = handler(&seen);
        shared.seen.lock().unwrap().push(seen);
        shared.news.notify_all();
        let kept = match act {
            Act::Answer(status, body) => output.write_all(&answer(status, "", &body)).is_ok(),
            Act::AnswerWith(status, header, body) => output.write_all(&answer(status, header, &body)).is_ok(),
            Act::AnswerAndClose(status, body) => {
                let _ = output.write_all(&answer(status, "", &body));
                false
            }
            Act::Raw(bytes) => {
                let _ = output.write_all(&bytes);
                false
            }
            Act::Flood => {
                let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
                let _ = output.write_all(head);
                while output.write_all(&[b' '; 4096]).is_ok() {}
                false
            }
            Act::Drip => {
                let _ = output.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n");
                while output.write_all(b" ").is_ok() {
                    thread::sleep(Duration::from_millis(100));
                }
                false
            }
            Act::Hang => {
                // Until the other side hangs up.
                let _ = input.read(&mut [0; 1]);
                false
            }
            Act::Close => false,
        };
        let _ = output.flush();
        if !kept {
            return;
        }
    }
}

fn answer(status: u16, header: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} Whatever\r\n{header}content-length: {length}\r\n\r\n{body}").into_bytes()
}

fn read_request(input: &mut BufReader<impl Read>, connection: usize) -> Option<Seen> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if input.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let watch = Stopwatch::start();
    let mut words = head.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut seen = Seen { method, path, head, body: String::new(), at: Instant::now(), watch, connection };
    let length = seen.header("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    input.read_exact(&mut body).ok()?;
    seen.body = String::from_utf8(body).ok()?;
    Some(seen)
}

/// A service whose health can be changed.
pub(crate) struct Service {
    pub(crate) server: Server,
    act: Arc<Mutex<Act>>,
}

impl Service {
    pub(crate) fn healthy() -> Self {
        Self::healthy_on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn healthy_on(listener: TcpListener) -> Self {
        let act = Arc::new(Mutex::new(Act::Answer(200, r#"{"status":"healthy","version":7}"#.into())));
        let current = Arc::clone(&act);
        let server = Server::start_on(listener, move |_| current.lock().unwrap().clone());
        Self { server, act }
    }

    pub(crate) fn set(&self, act: Act) {
        *self.act.lock().unwrap() = act;
    }
}

/// The binary, running.
pub(crate) struct Sidecar {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    /// Ends with the log.
    reader: JoinHandle<()>,
    /// The environment that it was given.
    pub(crate) env: Vec<(String, String)>,
}

/// The environment of a sidecar with the smallest settings there are.
pub(crate) fn quick(service: &Service, registries: &str) -> Vec<(String, String)> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    // Sidecars of parallel tests share the namespace of abstract sockets.
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("echo-{}-{number}", std::process::id());
    let port = service.server.address.port().to_string();
    [
        ("SERVICE_NAME", name.as_str()),
        ("SERVICE_HOST", "127.0.0.1"),
        ("SERVICE_PORT", &port),
        ("REGISTRY_URL", registries),
        ("HEARTBEAT_INTERVAL", "1"),
        ("HEALTH_INTERVAL", "1"),
        ("SIDECAR_LOG_FORMAT", "json"),
        ("SIDECAR_LOG", "trace"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec()
}

pub(crate) fn with(mut env: Vec<(String, String)>, more: &[(&str, &str)]) -> Vec<(String, String)> {
    env.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    env
}

pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidecar"));
    command.env_clear().stdin(Stdio::null());
    command
}

impl Sidecar {
    pub(crate) fn start(env: Vec<(String, String)>) -> Self {
        let mut command = binary();
        command.envs(env.iter().map(|(key, value)| (key, value)));
        Self::start_command(command, env)
    }

    pub(crate) fn start_command(mut command: Command, env: Vec<(String, String)>) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stderr, kept) = (child.stderr.take().unwrap(), Arc::clone(&lines));
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        Self { child, lines, reader, env }
    }

    pub(crate) fn log(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    pub(crate) fn wait_log(&self, text: &str) {
        eventually(&format!("'{text}' in the log"), || {
            self.log().contains(text).then_some(()).ok_or_else(|| self.log())
        });
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal. The watch was started before it was sent.
    pub(crate) fn signal(&self, signal: Signal) -> Stopwatch {
        let watch = Stopwatch::start();
        kill_process(self.pid(), signal).unwrap();
        watch
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end, and until everything that it logged is here.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = eventually("exit", || match self.child.try_wait().unwrap() {
            Some(status) => Ok(status),
            None => Err(self.log()),
        });
        eventually("end of its log", || self.reader.is_finished().then_some(()).ok_or_else(|| self.log()));
        status
    }

    /// The exit code and stderr of `sidecar healthcheck` in the same environment.
    pub(crate) fn health_check(&self) -> (i32, String) {
        let output = binary()
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .arg("healthcheck")
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again until it is so, or fails with the last reason.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match ask() {
            Ok(result) => return result,
            Err(reason) if start.elapsed() > SOON => panic!("no {what} within {SOON:?}: {reason}"),
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// The body of a plain GET.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(SOON))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = ask().map_err(|error: std::io::Error| error.to_string())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no head")?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or("no status")?;
    Ok((status, body.to_owned()))
}

/// An address that nobody listens on, and that nobody is given while these tests run.
pub(crate) fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, testkit::free_port()))
}
