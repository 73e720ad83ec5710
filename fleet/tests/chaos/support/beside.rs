//! A real service with a real sidecar beside it.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use testkit::Process;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use super::{Scale, stage::program};

/// How many failed probes in a row make a service critical.
pub(crate) const FAILURES: u32 = 3;

/// A service whose health a test switches, in the test's process; dropped, it is gone as if it had been killed.
#[derive(Debug)]
pub(crate) struct Service {
    port: u16,
    healthy: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Service {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let healthy = Arc::new(AtomicBool::new(true));
        let state = Arc::clone(&healthy);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 2048];
                let _ = stream.read(&mut head).await;
                let line = if state.load(Ordering::Relaxed) { "200 OK" } else { "500 Internal Server Error" };
                let answer = format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { port, healthy, task }
    }

    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A sidecar in a process of its own.
#[derive(Debug)]
pub(crate) struct Sidecar {
    pub(crate) process: Process,
    _dir: TempDir,
}

impl Sidecar {
    /// Starts it beside a service; it calls the registry at `registry`.
    pub(crate) fn start(scale: &Scale, registry: &str, name: &str, id: &str, service: &Service) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(program("sidecar"));
        command
            .env("SERVICE_NAME", name)
            .env("INSTANCE_ID", id)
            .env("SERVICE_HOST", "127.0.0.1")
            .env("SERVICE_PORT", service.port.to_string())
            .env("REGISTRY_URL", registry)
            .env("HEARTBEAT_INTERVAL", scale.pick("1", "30"))
            .env("SERVICE_TTL", scale.ttl().as_secs().to_string())
            .env("HEALTH_INTERVAL", health_interval(scale).as_secs().to_string())
            .env("HEALTH_FAILURES", FAILURES.to_string())
            .env("SIDECAR_LOG_FORMAT", "text");
        Self { process: Process::start("sidecar", dir.path(), &mut command), _dir: dir }
    }
}

/// Between two probes.
pub(crate) fn health_interval(scale: &Scale) -> Duration {
    scale.seconds(1.0, 10.0)
}
