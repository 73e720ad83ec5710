use std::{fs, path::Path, time::Duration};

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{docker, run};

/// A container, by its name. Dropping this value does nothing to it.
#[derive(Clone, Debug)]
pub struct Container {
    name: String,
}

impl Container {
    /// The container of this name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `docker inspect` says of it.
    ///
    /// # Panics
    /// When it is not there.
    pub async fn inspect(&self) -> Value {
        let text = docker(&["inspect", "--type", "container", &self.name]).await;
        let all: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        all[0].clone()
    }

    /// `healthy`, `unhealthy` or `starting`.
    ///
    /// # Panics
    /// When it is not there, or has no health check.
    pub async fn health(&self) -> String {
        let inspected = self.inspect().await;
        let health = inspected["State"]["Health"]["Status"].as_str();
        health.unwrap_or_else(|| panic!("{} has no health check", self.name)).to_owned()
    }

    /// How often its restart policy has started it again.
    ///
    /// # Panics
    /// When it is not there.
    pub async fn restarts(&self) -> u64 {
        self.inspect().await["RestartCount"].as_u64().unwrap_or(0)
    }

    /// Whether it runs.
    ///
    /// # Panics
    /// When it is not there.
    pub async fn is_running(&self) -> bool {
        self.inspect().await["State"]["Running"] == Value::Bool(true)
    }

    /// The status of its last end.
    ///
    /// # Panics
    /// When it is not there.
    pub async fn exit_status(&self) -> i64 {
        self.inspect().await["State"]["ExitCode"].as_i64().unwrap_or(-1)
    }

    /// Its address on a network.
    ///
    /// # Panics
    /// When it has none.
    pub async fn address(&self, network: &str) -> String {
        let inspected = self.inspect().await;
        let address = inspected["NetworkSettings"]["Networks"][network]["IPAddress"].as_str();
        address.unwrap_or_else(|| panic!("{} is not on {network}", self.name)).to_owned()
    }

    /// A file of `/proc/PID` of its first process, as the machine sees it.
    ///
    /// # Panics
    /// When it does not run, or its processes are not this machine's.
    pub async fn proc(&self, file: &str) -> String {
        let pid = self.inspect().await["State"]["Pid"].as_u64().unwrap_or(0);
        let path = format!("/proc/{pid}/{file}");
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {path}: {error}", self.name))
    }

    /// Everything that it has logged.
    ///
    /// # Panics
    /// When it is not there.
    pub async fn logs(&self) -> String {
        let finished = run(&["docker", "logs", &self.name], Path::new("/"), &[]).await;
        format!("{}\n{}", finished.stdout, finished.stderr)
    }

    /// Starts it.
    ///
    /// # Panics
    /// When that fails.
    pub async fn start(&self) {
        docker(&["start", &self.name]).await;
    }

    /// Stops it and starts it.
    ///
    /// # Panics
    /// When that fails.
    pub async fn restart(&self) {
        docker(&["restart", &self.name]).await;
    }

    /// Kills it by SIGKILL.
    ///
    /// # Panics
    /// When it does not run.
    pub async fn kill(&self) {
        docker(&["kill", &self.name]).await;
    }

    /// `docker stop`, and how long that took.
    ///
    /// # Panics
    /// When it is not there.
    pub async fn stop(&self) -> Duration {
        let start = Instant::now();
        docker(&["stop", &self.name]).await;
        start.elapsed()
    }

    /// Waits until it logs something.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn wait_log(&self, text: &str, deadline: Duration) {
        let start = Instant::now();
        loop {
            let logs = self.logs().await;
            if logs.contains(text) {
                return;
            }
            assert!(start.elapsed() < deadline, "{} did not log '{text}':\n{logs}", self.name);
            sleep(Duration::from_millis(200)).await;
        }
    }
}
