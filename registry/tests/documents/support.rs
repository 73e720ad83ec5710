//! What the documents are tried on.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use testkit::{Process, free_port, wait_until};

/// For what takes no time but the machine's, which other tests share.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The program of the registry.
pub(crate) const REGISTRY: &str = env!("CARGO_BIN_EXE_registry");

/// The top of the tree.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Another program of the workspace, which cargo puts beside the registry's.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = PathBuf::from(REGISTRY).with_file_name(name);
    assert!(path.is_file(), "{} is missing: cargo build --workspace --all-targets first", path.display());
    path
}

/// Whether a program that an example needs is here; says so if not.
pub(crate) fn has(name: &str) -> bool {
    // Not by its exit status: openssl knows no --version.
    let found = Command::new(name).arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIPPED: there is no {name} on this machine, so the example that needs it was not run");
    }
    found
}

/// A registry node, which can be killed and started again on its port.
#[derive(Debug)]
pub(crate) struct Node {
    // Dropped, and so killed, before its directory is removed.
    process: Option<Process>,
    dir: TempDir,
    port: u16,
    settings: Vec<(String, String)>,
    http: reqwest::Client,
}

impl Node {
    /// A node on SQLite that is ready.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let mut node = Self::stopped(settings);
        node.run("serve").await;
        node
    }

    /// `registry dev`: a node with a sample service and its sidecar.
    pub(crate) async fn dev() -> Self {
        program("sidecar");
        let mut node = Self::stopped(&[]);
        node.run("dev").await;
        wait_until(SOON, "the sample is registered", async || {
            node.get("/services/sample").await.is_some_and(|(status, _)| status == StatusCode::OK)
        })
        .await;
        node
    }

    /// A node that was not started yet.
    pub(crate) fn stopped(settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let mut all = vec![
            ("REGISTRY_LISTEN".to_owned(), format!("127.0.0.1:{port}")),
            ("DATABASE_URL".to_owned(), "sqlite://registry.db".to_owned()),
            ("REGISTRY_LOG_FORMAT".to_owned(), "text".to_owned()),
        ];
        all.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(8)).build().unwrap();
        Self { process: None, dir: testkit::memory_dir(), port, settings: all, http }
    }

    async fn run(&mut self, command: &str) {
        self.launch(command);
        wait_until(SOON, "the node is ready", async || {
            let ended = self.process.as_ref().unwrap().ended();
            assert!(ended.is_none(), "the node ended: {ended:?}");
            self.get("/readyz").await.is_some_and(|(status, _)| status == StatusCode::OK)
        })
        .await;
    }

    fn launch(&mut self, command: &str) {
        self.process = None;
        let settings = self.settings.iter().map(|(name, value)| (name, value));
        let mut program = Command::new(REGISTRY);
        program.arg(command).envs(settings).current_dir(self.dir.path());
        self.process = Some(Process::start("registry", self.dir.path(), &mut program));
    }

    /// Starts it and waits until it answers, ready or not.
    pub(crate) async fn answering(settings: &[(&str, &str)]) -> Self {
        let mut node = Self::stopped(settings);
        node.launch("serve");
        wait_until(SOON, "the node answers", async || node.get("/livez").await.is_some()).await;
        node
    }

    pub(crate) async fn start_again(&mut self) {
        self.run("serve").await;
    }

    pub(crate) async fn kill_9(&self) {
        self.process.as_ref().unwrap().kill_9().await;
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Status and body; `None` when there is no answer.
    pub(crate) async fn get(&self, path: &str) -> Option<(StatusCode, Value)> {
        self.call(Method::GET, path, Value::Null).await
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Value) -> Option<(StatusCode, Value)> {
        let request = self.http.request(method, format!("{}{path}", self.url()));
        let request = if body.is_null() { request } else { request.json(&body) };
        let reply = request.send().await.ok()?;
        let status = reply.status();
        let bytes = reply.bytes().await.ok()?;
        Some((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    /// A call that succeeds, within [`SOON`]: a machine that is busy may blind a node for a moment.
    pub(crate) async fn must(&self, method: Method, path: &str, body: Value) {
        wait_until(SOON, &format!("{method} {path} succeeds"), async || {
            let reply = self.call(method.clone(), path, body.clone()).await;
            reply.is_some_and(|(status, _)| status.is_success())
        })
        .await;
    }

    /// Registers an instance for an hour.
    pub(crate) async fn register(&self, service: &str, instance: &str, endpoint: &str) {
        let body = serde_json::json!({"endpoint": endpoint, "ttl_seconds": 3600});
        self.must(Method::PUT, &format!("/services/{service}/instances/{instance}"), body).await;
    }
}

/// Runs a command to its end: exit code, standard output, standard error.
pub(crate) async fn run(command: &mut Command) -> (i32, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start("command", dir.path(), command);
    let status = process.wait(Duration::from_secs(60)).await;
    (status.code().unwrap_or(-1), process.stdout(), process.stderr())
}

/// A server that is no registry: it gives every request the same answer, or none at all.
pub(crate) fn stub(answer: Option<&'static str>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut head = [0; 16 * 1024];
                let _ = stream.read(&mut head);
                match answer {
                    Some(answer) => drop(stream.write_all(answer.as_bytes())),
                    // Until the other side gives up.
                    None => drop(stream.read(&mut head)),
                }
            });
        }
    });
    port
}
