use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tempfile::TempDir;
use testkit::{Process, free_port};
use tokio::{net::TcpListener, task::JoinHandle};

use super::REGISTRY;

/// A service as a process, which can be killed and started again on its port.
#[derive(Debug)]
pub(crate) struct Sample {
    process: Option<Process>,
    dir: TempDir,
    port: u16,
}

impl Sample {
    pub(crate) fn start() -> Self {
        let mut sample = Self { process: None, dir: tempfile::tempdir().unwrap(), port: free_port() };
        sample.start_again();
        sample
    }

    pub(crate) fn start_again(&mut self) {
        self.process = None;
        let mut command = Command::new(REGISTRY);
        command.args(["sample", &self.port.to_string()]);
        self.process = Some(Process::start("sample", self.dir.path(), &mut command));
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) async fn kill_9(&self) {
        self.process.as_ref().expect("the service was started").kill_9().await;
    }
}

/// What a [`Switch`] answers to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Answer {
    Healthy,
    Failing,
    Silent,
}

/// A service in the test process whose health a test switches.
#[derive(Debug)]
pub(crate) struct Switch {
    port: u16,
    answer: Arc<AtomicU8>,
    probes: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Switch {
    pub(crate) async fn start(first: Answer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = Arc::new(AtomicU8::new(first as u8));
        let probes = Arc::new(AtomicUsize::new(0));
        let (switch, count) = (Arc::clone(&answer), Arc::clone(&probes));
        let routes = Router::new().route("/health", get(async move || health(&switch, &count).await));
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { port, answer, probes, task }
    }

    pub(crate) fn set(&self, answer: Answer) {
        self.answer.store(answer as u8, Ordering::Relaxed);
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How often it was probed.
    pub(crate) fn probes(&self) -> usize {
        self.probes.load(Ordering::Relaxed)
    }
}

async fn health(answer: &AtomicU8, probes: &AtomicUsize) -> Response {
    probes.fetch_add(1, Ordering::Relaxed);
    match answer.load(Ordering::Relaxed) {
        0 => Json(json!({"status": "ok", "version": 3})).into_response(),
        1 => (StatusCode::INTERNAL_SERVER_ERROR, "the database of the service is gone").into_response(),
        _ => std::future::pending().await,
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
