//! The program itself: start, stop, signals.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use registry_wire::ProblemType;
use reqwest::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Postgres, StopMode, Stopwatch, wait_until};
use tokio::time::{Instant, sleep};

use crate::harness::{Answer, Node, PATIENCE, Store, path};

both!(sigterm_ends_it_in_order, beats_acknowledged_before_sigterm_are_in_the_store, healthcheck_asks_livez);

/// The program, with nothing of this process's environment that it reads, in a directory of its own.
pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_registry"));
    command.env_clear().current_dir(dir).stdin(Stdio::null());
    command
}

/// A running program.
pub(crate) struct Program {
    child: Child,
    address: String,
    pub(crate) client: Client,
    log: mpsc::Receiver<String>,
    dir: TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Program {
    /// Runs a program that ends by itself.
    pub(crate) fn run_to_its_end(command: &mut Command) -> Output {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let (ended, end) = mpsc::channel::<()>();
        let watch = thread::spawn(move || {
            // One that goes on although it should not is stopped, and fails its test by its exit status.
            if end.recv_timeout(PATIENCE).is_err() {
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        let mut output =
            Output { status: std::process::ExitStatus::default(), stdout: vec![], stderr: vec![] };
        std::io::Read::read_to_end(child.stdout.as_mut().unwrap(), &mut output.stdout).unwrap();
        std::io::Read::read_to_end(child.stderr.as_mut().unwrap(), &mut output.stderr).unwrap();
        let _ = ended.send(());
        watch.join().unwrap();
        output.status = child.wait().unwrap();
        output
    }

    /// Starts a node and waits until it listens.
    pub(crate) async fn listening(settings: &[(&str, &str)]) -> Self {
        let dir = testkit::memory_dir();
        Self::listening_by(command(dir.path()), dir, settings).await
    }

    /// Starts a node by a script that ends in the program, which is `$0`, and waits until it is ready.
    pub(crate) async fn start_in_shell(script: &str, settings: &[(&str, &str)]) -> Self {
        let dir = testkit::memory_dir();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script, env!("CARGO_BIN_EXE_registry")]);
        shell
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir(dir.path())
            .stdin(Stdio::null());
        let program = Self::listening_by(shell, dir, settings).await;
        program.ready().await;
        program
    }

    async fn listening_by(mut command: Command, dir: TempDir, settings: &[(&str, &str)]) -> Self {
        let mut child = command
            .env("REGISTRY_LISTEN", "127.0.0.1:0")
            .env("REGISTRY_LOG_FORMAT", "json")
            .env("REGISTRY_TICK_MS", "250")
            .envs(settings.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (send, log) = mpsc::channel();
        thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(send.send(line))));
        let mut seen = Vec::new();
        let mut address = None;
        wait_until(PATIENCE, "the program listens", async || {
            while let Ok(line) = log.try_recv() {
                // Each line is an object, the first as the last.
                let event: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
                if event["message"] == "listening" {
                    address = event["address"].as_str().map(str::to_owned);
                }
                seen.push(line);
            }
            address.is_some()
        })
        .await;
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { child, address: address.unwrap(), client, log, dir }
    }

    /// Starts a node and waits until it is ready.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let program = Self::listening(settings).await;
        program.ready().await;
        program
    }

    async fn ready(&self) {
        wait_until(PATIENCE, "the program is ready", async || self.get("/readyz").await.status == 200).await;
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// `healthcheck` with the settings of this node: its exit status.
    fn healthcheck(&self) -> Option<i32> {
        let mut command = command(self.dir.path());
        Self::run_to_its_end(command.arg("healthcheck").env("REGISTRY_LISTEN", &self.address)).status.code()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.client.get(format!("http://{}{path}", self.address))).await
    }

    /// One call, for what may be 503.
    pub(crate) async fn once(&self, method: &str, path: &str, body: &Value) -> Answer {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        Answer::of(self.client.request(method, format!("http://{}{path}", self.address)).json(body)).await
    }

    /// One call with a token.
    pub(crate) async fn with_token(&self, method: &str, path: &str, token: &str) -> Answer {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.client.request(method, format!("http://{}{path}", self.address));
        Answer::of(request.header("x-registry-token", token)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        Answer::sure(|| self.client.put(format!("http://{}{path}", self.address)).json(body)).await
    }

    /// The lines of its log since the last look.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.try_iter().collect()
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Its exit status, once it has ended.
    async fn ended(mut self) -> Option<i32> {
        let mut status = None;
        wait_until(PATIENCE, "the program ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        let log: Vec<String> = self.log.try_iter().collect();
        assert!(!log.iter().any(|line| line.contains("panicked")), "{log:?}");
        status.unwrap().code()
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) async fn terminate(self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.ended().await
    }
}

/// A database, and what must outlive its use.
async fn database(store: Store) -> (String, TempDir) {
    let dir = testkit::memory_dir();
    let url = match store {
        Store::Sqlite => format!("sqlite://{}/registry.db", dir.path().display()),
        Store::Postgres => Postgres::shared().fresh_database().await,
    };
    (url, dir)
}

async fn sigterm_ends_it_in_order(store: Store) {
    let (url, _dir) = database(store).await;
    for signal in [Signal::TERM, Signal::INT] {
        let program = Program::start(&[("DATABASE_URL", &url)]).await;
        let put = program.put(&path("web", "a"), &json!({"endpoint": "http://h:1"})).await;
        assert!(matches!(put.status, 200 | 201), "{put:?}");
        let begun = Stopwatch::start();
        program.signal(signal);
        // First balancers are told; it goes on serving until they had the time to notice.
        wait_until(PATIENCE, "it is not ready any more", async || {
            let answer = program.get("/readyz").await;
            answer.status == 503 && answer.body["detail"].as_str().unwrap().contains("shutting down")
        })
        .await;
        let served = program.get("/services/web").await;
        assert_eq!(served.ok()["endpoint"], "http://h:1");
        assert_eq!(served.header("connection"), "close", "{served:?}");
        program.get("/livez").await.ok();
        let beat = format!("{}/heartbeat", path("web", "a"));
        program.put(&beat, &json!({})).await.ok();
        assert_eq!(program.ended().await, Some(0));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}

async fn beats_acknowledged_before_sigterm_are_in_the_store(store: Store) {
    let (url, dir) = database(store).await;
    // Ticks so rare that only the end writes these beats. On Postgres the node is ready after the second.
    let tick = ("REGISTRY_TICK_MS", if matches!(store, Store::Sqlite) { "60000" } else { "5000" });
    let program = Program::start(&[("DATABASE_URL", &url), tick]).await;
    let registered = program.put(&path("web", "a"), &json!({"endpoint": "http://h:1", "session": "s"})).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    // So much later that it cannot be taken for the registration.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1500) {
        let beat = program.put(&format!("{}/heartbeat", path("web", "a")), &json!({"session": "s"})).await;
        beat.ok();
        sleep(Duration::from_millis(50)).await;
    }
    let last = program.get(&path("web", "a")).await.ok()["last_heartbeat"].as_f64().unwrap();
    assert_eq!(program.terminate().await, Some(0));
    let node = Node::start(url, Some(dir), |_| {}).await;
    let entry = node.get(&path("web", "a")).await;
    let loaded = entry.ok()["last_heartbeat"].as_f64().unwrap();
    let registered = registered.body["last_heartbeat"].as_f64().unwrap();
    assert!(loaded - registered > 1.0, "the store knows of no beat since {registered}: {loaded}");
    assert!(loaded > last - 0.5, "not the last one: {loaded} against {last}");
}

async fn healthcheck_asks_livez(store: Store) {
    let (url, dir) = database(store).await;
    let program = Program::start(&[("DATABASE_URL", &url)]).await;
    let address = program.address.clone();
    let check = || {
        let mut command = command(dir.path());
        Program::run_to_its_end(command.arg("healthcheck").env("REGISTRY_LISTEN", &address))
    };
    assert_eq!(check().status.code(), Some(0));
    assert_eq!(program.terminate().await, Some(0));
    let output = check();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), 1);
}

/// A store that is away restarts nothing and ends nothing.
#[tokio::test]
async fn postgres_away_at_start() {
    let postgres = Postgres::start();
    let url = postgres.fresh_database().await;
    postgres.stop(StopMode::Fast);
    let program = Program::listening(&[("DATABASE_URL", &url)]).await;
    program.get("/livez").await.ok();
    assert_eq!(program.healthcheck(), Some(0), "never loaded");
    for path in ["/readyz", "/readyz?stale=ok", "/health", "/services", "/instances", "/services/web"] {
        let answer = program.get(path).await;
        answer.problem(ProblemType::Unavailable);
    }
    let put = program.client.put(format!("http://{}{}", program.address, path("web", "a")));
    let put = Answer::of(put.json(&json!({"endpoint": "http://h:1"}))).await;
    put.problem(ProblemType::Unavailable);
    let metrics = program.get("/metrics").await;
    assert!(metrics.text.contains("registry_blind 1\n"), "{metrics:?}");
    assert_eq!(program.get("/").await.status, 200);
    postgres.start_again();
    wait_until(PATIENCE, "it is ready", async || program.get("/readyz").await.status == 200).await;
    program.get("/health").await.ok();
    assert_eq!(program.get("/services").await.ok(), &json!([]));
    let put = program.put(&path("web", "a"), &json!({"endpoint": "http://h:1"})).await;
    assert_eq!(put.status, 201, "{put:?}");
    // It also ends in order while the store is away.
    postgres.stop(StopMode::Immediate);
    wait_until(PATIENCE, "it is blind", async || program.get("/readyz").await.status == 503).await;
    assert_eq!(program.healthcheck(), Some(0), "blind");
    let begun = Stopwatch::start();
    assert_eq!(program.terminate().await, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_sample_listens_where_a_node_would_and_passes_the_health_check() {
    let dir = tempfile::tempdir().unwrap();
    let listen = format!("127.0.0.1:{}", testkit::free_port());
    let program = |argument: &str| {
        let mut program = command(dir.path());
        program.arg(argument).env("REGISTRY_LISTEN", &listen);
        program
    };
    let mut sample = program("sample").spawn().unwrap();
    wait_until(PATIENCE, "the sample passes the health check", async || {
        assert_eq!(sample.try_wait().unwrap(), None, "the sample ended");
        Program::run_to_its_end(&mut program("healthcheck")).status.success()
    })
    .await;
    kill_process(Pid::from_child(&sample), Signal::TERM).unwrap();
    assert_eq!(sample.wait().unwrap().code(), Some(0));
    let wrong = Program::run_to_its_end(program("sample").env("REGISTRY_LISTEN", "here"));
    assert_eq!(wrong.status.code(), Some(64), "{wrong:?}");
}
