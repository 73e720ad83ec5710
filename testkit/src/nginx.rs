use std::{
    ffi::OsString,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use crate::{Process, free_port, request::get, wait_until};

const START: Duration = Duration::from_secs(20);

/// nginx with the configuration that this project ships, on free ports, in a directory of its own, before nodes of
/// this machine. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Nginx {
    // Dropped, and so killed, before its directory is removed.
    process: Process,
    dir: TempDir,
    nodes: String,
    ports: [u16; 2],
}

impl Nginx {
    /// Starts it by the script that starts it in a container. Returns when it answers.
    ///
    /// # Panics
    /// When nginx is not installed or does not start.
    pub async fn start(nodes: &[u16]) -> Self {
        let nodes: Vec<_> = nodes.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        Self::start_with(&nodes.join(" "), &[]).await
    }

    /// [`Nginx::start`] with `REGISTRY_NODES` as it is written, and further environment variables.
    ///
    /// # Panics
    /// As [`Nginx::start`].
    pub async fn start_with(nodes: &str, further: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("testkit-nginx-")
            .tempdir()
            .unwrap_or_else(|error| panic!("cannot make a directory: {error}"));
        // Run by root, nginx has workers of another user, who keep bodies here.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))
            .unwrap_or_else(|error| panic!("cannot open the directory: {error}"));
        let ports = [free_port(), free_port()];
        let mut command = Command::new(scripts().join("run"));
        command.envs(settings(nodes, ports, dir.path())).envs(further.iter().copied());
        let process = Process::start("nginx", dir.path(), &mut command);
        let nginx = Self { process, dir, nodes: nodes.to_owned(), ports };
        wait_until(START, "nginx answers", async || {
            let ended = nginx.process.ended();
            assert!(ended.is_none(), "nginx ended: {ended:?}\n{}", nginx.process.stderr());
            // By itself, whatever its nodes do.
            get(nginx.port(), "/metrics").await.is_some_and(|(status, _)| status == 403)
        })
        .await;
        nginx
    }

    /// The port that stands for 80.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// The port that stands for 8888.
    pub fn other_port(&self) -> u16 {
        self.ports[1]
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// The process: its master, which ends at once by TERM and in order by QUIT.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The lines of its access log until now.
    pub fn access_log(&self) -> Vec<String> {
        self.process.stdout().lines().map(str::to_owned).collect()
    }

    /// The configuration that it runs with.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn config(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("nginx.conf"))
            .unwrap_or_else(|error| panic!("no configuration: {error}"))
    }

    /// The environment that it runs with, as `nginx/render` and `nginx/run` read it.
    pub fn settings(&self) -> Vec<(OsString, OsString)> {
        settings(&self.nodes, self.ports, self.dir.path())
    }
}

fn settings(nodes: &str, ports: [u16; 2], dir: &Path) -> Vec<(OsString, OsString)> {
    vec![
        ("REGISTRY_NODES".into(), nodes.into()),
        ("REGISTRY_NGINX_LISTEN".into(), format!("127.0.0.1:{} 127.0.0.1:{}", ports[0], ports[1]).into()),
        ("REGISTRY_NGINX_DIR".into(), dir.into()),
        ("REGISTRY_NGINX_RESOLVE_SECONDS".into(), "0.2".into()),
    ]
}

/// The directory of the shipped configuration.
fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("nginx")
}
