use std::process::{Command, ExitStatus};

use reqwest::StatusCode;
use serde_json::Value;
use tempfile::TempDir;
use testkit::{Process, Signal, Stopwatch, wait_until};

use super::{Client, SOON, sidecar_program};

/// A sidecar, which can be killed and started again with the same settings.
#[derive(Debug)]
pub(crate) struct Sidecar {
    process: Option<Process>,
    dir: TempDir,
    settings: Vec<(String, String)>,
    service: String,
    instance: String,
}

impl Sidecar {
    /// A sidecar that is not started yet: the instance `127.0.0.1:PORT` of a service.
    pub(crate) fn of(service: &str, port: u16, registry: &str) -> Self {
        let sidecar = Self {
            process: None,
            dir: tempfile::tempdir().unwrap(),
            settings: Vec::new(),
            service: service.to_owned(),
            instance: format!("127.0.0.1:{port}"),
        };
        sidecar
            .with("SERVICE_NAME", service)
            .with("SERVICE_HOST", "127.0.0.1")
            .with("SERVICE_PORT", &port.to_string())
            .with("REGISTRY_URL", registry)
            .with("HEARTBEAT_INTERVAL", "1")
            .with("SERVICE_TTL", "3")
            .with("HEALTH_INTERVAL", "1")
            .with("HEALTH_FAILURES", "2")
            .with("SIDECAR_LOG", "debug")
            .with("SIDECAR_LOG_FORMAT", "text")
    }

    /// With one more setting.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        if name == "INSTANCE_ID" {
            value.clone_into(&mut self.instance);
        }
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn start(&mut self) {
        self.start_as(&mut Command::new(sidecar_program()));
    }

    /// Starts it by another command.
    pub(crate) fn start_as(&mut self, command: &mut Command) {
        self.process = None;
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        self.process = Some(Process::start("sidecar", self.dir.path(), command));
    }

    pub(crate) fn started(mut self) -> Self {
        self.start();
        self
    }

    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().expect("the sidecar was started")
    }

    /// The call about its instance.
    pub(crate) fn path(&self) -> String {
        format!("/services/{}/instances/{}", self.service, self.instance)
    }

    /// Waits until a registry lists it as usable, and returns the instance object.
    pub(crate) async fn listed(&self, client: &Client) -> Value {
        wait_until(SOON, "the instance is listed", async || {
            let ended = self.process().ended();
            assert!(ended.is_none(), "the sidecar ended: {ended:?}");
            client.lists(&self.service, &self.instance).await
        })
        .await;
        client.entry(&self.service, &self.instance).await
    }

    /// Waits until it is in no list, with `?all=true` neither.
    pub(crate) async fn gone(&self, client: &Client) {
        wait_until(SOON, "the instance is gone", async || {
            client.get(&self.path()).await.is_ok_and(|reply| reply.status == StatusCode::NOT_FOUND)
        })
        .await;
    }

    /// `sidecar healthcheck` with the same settings: whether it exits with 0.
    pub(crate) async fn healthy(&self) -> bool {
        let mut command = Command::new(sidecar_program());
        command.arg("healthcheck").envs(self.settings.iter().map(|(name, value)| (name, value)));
        let check = Process::start("healthcheck", self.dir.path(), &mut command);
        check.wait(SOON).await.success()
    }

    pub(crate) async fn kill_9(&self) {
        self.process().kill_9().await;
    }

    /// SIGTERM, and its exit status. Fails if it takes longer to exit than `promised`.
    pub(crate) async fn stop(&self, promised: std::time::Duration) -> ExitStatus {
        let asked = Stopwatch::start();
        self.process().signal(Signal::TERM);
        let status = self.process().wait(SOON).await;
        assert!(asked.elapsed() < promised, "it ended after {:?}", asked.elapsed());
        status
    }
}
