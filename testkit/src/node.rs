use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{Process, Proxy, Stopwatch, free_port, request::get, wait_until};

/// For what takes no time but the machine's, which other tests share.
const SOON: Duration = Duration::from_secs(30);

/// Longest that a node may take from a signal to its exit.
const STOP: Duration = Duration::from_secs(10);

/// A registry node in a process of its own, which reaches Postgres through a proxy of its own. It can be killed, paused,
/// stopped and started again, on the same port with the same database, while others use it.
#[derive(Debug)]
pub struct Node {
    // Dropped, and so killed, before its directory is removed.
    process: Mutex<Option<Arc<Process>>>,
    dir: TempDir,
    program: PathBuf,
    settings: BTreeMap<String, String>,
    port: u16,
    store: Proxy,
}

impl Node {
    /// A node that is not started yet. `database` is the URL of a database on the Postgres at `postgres`; what
    /// `settings` says wins over what is set here.
    pub(crate) fn new(
        program: &Path,
        database: &str,
        postgres: u16,
        settings: &BTreeMap<String, String>,
    ) -> Self {
        let store = Proxy::start(postgres);
        let port = free_port();
        let through = database.replace(&format!(":{postgres}/"), &format!(":{}/", store.port()));
        assert_ne!(through, database, "the URL of the database names the server's port");
        let mut all = BTreeMap::from([
            ("REGISTRY_LISTEN".to_owned(), format!("127.0.0.1:{port}")),
            ("DATABASE_URL".to_owned(), through),
            ("REGISTRY_TRUSTED_PROXIES".to_owned(), "127.0.0.1".to_owned()),
            ("REGISTRY_LOG".to_owned(), "info,registry=debug".to_owned()),
            ("REGISTRY_LOG_FORMAT".to_owned(), "text".to_owned()),
        ]);
        all.extend(settings.clone());
        let dir = tempfile::Builder::new()
            .prefix("testkit-node-")
            .tempdir()
            .unwrap_or_else(|error| panic!("cannot make a directory: {error}"));
        let process = Mutex::new(None);
        Self { process, dir, program: program.to_owned(), settings: all, port, store }
    }

    /// Starts it and does not wait. One that still runs is killed first.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn start(&self) {
        self.start_with(&[]);
    }

    /// [`Node::start`] with further settings, for this start alone.
    ///
    /// # Panics
    /// As [`Node::start`].
    pub fn start_with(&self, settings: &[(&str, String)]) {
        let mut command = Command::new(&self.program);
        command.envs(&self.settings).envs(settings.iter().cloned()).current_dir(self.dir.path());
        let mut process = self.slot();
        *process = None;
        *process = Some(Arc::new(Process::start("registry", self.dir.path(), &mut command)));
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// When it ended, or is not ready in time.
    pub async fn ready(&self) {
        wait_until(SOON, "the node is ready", async || {
            let ended = self.process().ended();
            assert!(ended.is_none(), "the node ended: {ended:?}");
            self.is_ready().await
        })
        .await;
    }

    /// Whether it says that it is ready.
    pub async fn is_ready(&self) -> bool {
        get(self.port, "/readyz").await.is_some_and(|(status, _)| status == 200)
    }

    /// Waits until it says that it cannot see its store.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn blind(&self) {
        wait_until(SOON, "the node is blind", async || {
            get(self.port, "/readyz").await.is_some_and(|(status, _)| status == 503)
        })
        .await;
    }

    /// Its process.
    ///
    /// # Panics
    /// When it was never started.
    pub fn process(&self) -> Arc<Process> {
        self.slot().clone().expect("the node was started")
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Panics
    /// When it does not run.
    pub async fn kill_9(&self) {
        self.process().kill_9().await;
    }

    /// Asks it to stop (SIGTERM) and waits for its end, 10 s at most.
    ///
    /// # Panics
    /// When it does not run, or not end.
    pub async fn stop(&self) -> ExitStatus {
        let process = self.process();
        let asked = Stopwatch::start();
        process.signal(Signal::TERM);
        let status = process.wait(SOON).await;
        assert!(asked.elapsed() < STOP, "the node ended after {:?}", asked.elapsed());
        status
    }

    /// Pauses it, as a machine that is suspended, and waits until each of its threads has stopped.
    ///
    /// # Panics
    /// When it does not run, or not stop.
    pub async fn pause(&self) {
        self.process().signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.process().pid());
        wait_until(SOON, "the node has stopped", async || {
            let threads = std::fs::read_dir(&tasks).unwrap_or_else(|error| panic!("no {tasks}: {error}"));
            // proc(5): the state follows the name, which ends at the last bracket.
            threads.flatten().all(|thread| {
                let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
                stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
            })
        })
        .await;
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn resume(&self) {
        self.process().signal(Signal::CONT);
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http://127.0.0.1:PORT`, past nginx.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The proxy between it and Postgres.
    pub fn store(&self) -> &Proxy {
        &self.store
    }

    /// A sample of its metrics, named as Prometheus writes it, labels included. 0 where there is none yet.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn metric(&self, sample: &str) -> f64 {
        let (_, text) = get(self.port, "/metrics").await.expect("the node answers");
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap_or_else(|error| panic!("{sample} {value}: {error}")))
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Process>>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
