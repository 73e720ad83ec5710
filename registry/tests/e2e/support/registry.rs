use std::{
    path::Path,
    process::{Command, ExitStatus},
    time::Duration,
};

use tempfile::TempDir;
use testkit::{Process, Signal, Stopwatch, free_port, wait_until};

use super::{Client, REGISTRY, SOON, TICK};

/// Longest that a node may take from a signal to its exit.
const STOP: Duration = Duration::from_secs(10);

/// A node, which can be stopped, killed and started again on the same port with the same database.
#[derive(Debug)]
pub(crate) struct Registry {
    // Dropped, and so killed, before its directory is removed.
    process: Option<Process>,
    dir: TempDir,
    port: u16,
    database: String,
    client: Client,
}

impl Registry {
    /// A node that is not started yet, on a SQLite file of its own.
    pub(crate) fn on_sqlite() -> Self {
        let dir = testkit::memory_dir();
        let database = format!("sqlite://{}", dir.path().join("registry.db").display());
        Self::new(dir, database)
    }

    /// A node that is not started yet, on a Postgres database.
    pub(crate) fn on(database: &str) -> Self {
        Self::new(tempfile::tempdir().unwrap(), database.to_owned())
    }

    fn new(dir: TempDir, database: String) -> Self {
        let port = free_port();
        Self { process: None, dir, port, database, client: Client::new(port) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The directory of its database and logs.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().expect("the registry was started")
    }

    /// The program with its settings, to be started in another way than [`Registry::start`] does.
    /// What the command sets for itself stays.
    pub(crate) fn configure<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let settings = [
            ("REGISTRY_LISTEN", format!("127.0.0.1:{}", self.port)),
            ("DATABASE_URL", self.database.clone()),
            ("REGISTRY_TICK_MS", TICK.as_millis().to_string()),
            ("REGISTRY_LOG", "info,registry=debug".to_owned()),
            ("REGISTRY_LOG_FORMAT", "text".to_owned()),
        ];
        for (name, value) in settings {
            if !command.get_envs().any(|(own, _)| own == name) {
                command.env(name, value);
            }
        }
        command.current_dir(self.dir.path())
    }

    /// Starts it and does not wait.
    pub(crate) fn start(&mut self) {
        self.start_as(&mut Command::new(REGISTRY));
    }

    /// Starts it by another command.
    pub(crate) fn start_as(&mut self, command: &mut Command) {
        // The one before is gone before another one takes its port.
        self.process = None;
        self.process = Some(Process::start("registry", self.dir.path(), self.configure(command)));
    }

    pub(crate) async fn ready(&self) {
        wait_until(SOON, "the registry is ready", async || {
            let ended = self.process().ended();
            assert!(ended.is_none(), "the registry ended: {ended:?}");
            self.client.ready().await
        })
        .await;
    }

    pub(crate) async fn started(mut self) -> Self {
        self.start();
        self.ready().await;
        self
    }

    pub(crate) async fn kill_9(&self) {
        self.process().kill_9().await;
    }

    /// SIGTERM, and its exit status.
    pub(crate) async fn stop(&self) -> ExitStatus {
        let asked = Stopwatch::start();
        self.process().signal(Signal::TERM);
        let status = self.process().wait(SOON).await;
        assert!(asked.elapsed() < STOP, "it ended after {:?}", asked.elapsed());
        status
    }
}
