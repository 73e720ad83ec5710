//! The stack that the tests share, and what they ask of it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use containers::{Container, Project, name, root, setting};
use serde_json::Value;
use tokio::{
    sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Instant, sleep},
};

/// For what takes some seconds at most, on a machine that has other things to do.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Until every container is healthy: the first health check is 10 s after the start.
const UP: Duration = Duration::from_secs(90);

/// Waits until a condition holds, asking five times a second: each question may be a process of its own.
pub(crate) async fn wait(deadline: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
        sleep(Duration::from_millis(200)).await;
    }
}

/// The whole stack of docker-compose.yml.
pub(crate) struct Stack {
    pub(crate) project: Project,
    pub(crate) port: u16,
    pub(crate) network: String,
    /// Each service, and how often it had been started again when all were healthy for the first time.
    pub(crate) started: Vec<(String, u64)>,
    turn: RwLock<()>,
}

/// The stack; the first test that asks brings it up. One that did not come up is not tried again.
async fn shared() -> &'static Stack {
    static STACK: OnceCell<Stack> = OnceCell::const_new();
    static TRIED: AtomicBool = AtomicBool::new(false);
    let up = async || {
        let tried = TRIED.swap(true, Ordering::Relaxed);
        assert!(!tried, "the stack did not come up: see the first test that failed");
        Stack::up().await
    };
    STACK.get_or_init(up).await
}

/// The stack while nobody does harm to it.
pub(crate) async fn calm() -> (&'static Stack, RwLockReadGuard<'static, ()>) {
    let stack = shared().await;
    (stack, stack.turn.read().await)
}

/// The stack for this test alone. It must be whole again at the end: the next test waits for that, and fails if not.
pub(crate) async fn alone() -> (&'static Stack, RwLockWriteGuard<'static, ()>) {
    let stack = shared().await;
    let guard = stack.turn.write().await;
    stack.healthy().await;
    (stack, guard)
}

/// A directory with what a user has: the compose files, and what they mount.
fn checkout() -> PathBuf {
    let directory = Path::new(&setting("TEST_DIR")).join("checkout");
    std::fs::create_dir_all(directory.join("scripts")).unwrap();
    for path in [
        "docker-compose.yml",
        "docker-compose.sidecar-template.yml",
        "nginx",
        "monitoring",
        "scripts/secrets",
    ] {
        let copied = Command::new("cp").arg("-a").arg(root().join(path)).arg(directory.join(path)).status();
        assert!(copied.unwrap().success(), "{path}");
    }
    directory
}

/// What every project is told: the images of this run, and the stack's network.
pub(crate) fn environment(network: &str) -> Vec<(String, String)> {
    let mut all = vec![("REGISTRY_NETWORK".to_owned(), network.to_owned())];
    for image in ["REGISTRY_IMAGE", "SIDECAR_IMAGE", "EXAMPLE_IMAGE", "POSTGRES_IMAGE", "NGINX_IMAGE"] {
        all.push((image.to_owned(), setting(image)));
    }
    all
}

impl Stack {
    async fn up() -> Self {
        let directory = checkout();
        let secrets = Command::new(directory.join("scripts/secrets")).output().unwrap();
        assert!(secrets.status.success(), "{secrets:?}");
        let (network, port) = (name("net"), testkit::free_port());
        let mut environment = environment(&network);
        environment.push(("REGISTRY_PORT".to_owned(), port.to_string()));
        environment.push(("HEARTBEAT_INTERVAL".to_owned(), "3".to_owned()));
        let project = Project::new(name("stack"), &directory.join("docker-compose.yml"), environment);
        project.up().await;
        let mut stack = Self { project, port, network, started: Vec::new(), turn: RwLock::new(()) };
        stack.healthy().await;
        for container in stack.project.containers().await {
            let service = container.inspect().await["Config"]["Labels"]["com.docker.compose.service"].clone();
            let service = service.as_str().unwrap_or_default().to_owned();
            stack.started.push((service, container.restarts().await));
        }
        stack
    }

    /// Waits until every container is healthy and the example is listed.
    pub(crate) async fn healthy(&self) {
        wait(UP, "every container is healthy", async || {
            for container in self.project.containers().await {
                if !container.is_running().await || container.health().await != "healthy" {
                    return false;
                }
            }
            self.get("/services/example").await.is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// The container of a service.
    pub(crate) async fn container(&self, service: &str) -> Container {
        self.project.container(service).await
    }

    /// `http://127.0.0.1:PORT`, as it is published.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Status and body of a GET by the published port. `None`: no answer.
    pub(crate) async fn get(&self, path: &str) -> Option<(u16, Value)> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(7)).build().unwrap();
        let answer = client.get(format!("{}{path}", self.url())).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.ok()?))
    }

    /// Whether readers are given an instance of a service.
    pub(crate) async fn usable(&self, service: &str) -> bool {
        self.get(&format!("/services/{service}")).await.is_some_and(|(status, _)| status == 200)
    }

    /// The file that holds the write token.
    pub(crate) fn token(&self) -> PathBuf {
        self.project.directory().join("secrets/registry_auth_token")
    }
}

/// The names of the registry's nodes in the compose file.
pub(crate) const NODES: [&str; 5] = ["registry-1", "registry-2", "registry-3", "registry-4", "registry-5"];

/// The template, copied and filled in as its comments say.
pub(crate) struct Filled {
    // Removed before its directory is.
    pub(crate) project: Project,
    _directory: tempfile::TempDir,
}

impl Filled {
    /// A copy with three values replaced, the token beside it, and further settings by the environment.
    pub(crate) fn new(stack: &Stack, values: [&str; 3], settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir_in(setting("TEST_DIR")).unwrap();
        let file = directory.path().join("sidecar.yml");
        let mut text = std::fs::read_to_string(root().join("docker-compose.sidecar-template.yml")).unwrap();
        for (placeholder, value) in ["CHANGE_ME_NAME", "CHANGE_ME_HOST", "CHANGE_ME_PORT"].iter().zip(values)
        {
            assert_eq!(text.matches(placeholder).count(), 1, "{placeholder}");
            text = text.replace(placeholder, value);
        }
        std::fs::write(&file, text).unwrap();
        std::fs::create_dir(directory.path().join("secrets")).unwrap();
        std::fs::copy(stack.token(), directory.path().join("secrets/registry_auth_token")).unwrap();
        let mut environment = environment(&stack.network);
        environment.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Self { project: Project::new(name("template"), &file, environment), _directory: directory }
    }

    /// The token's file.
    pub(crate) fn token(&self) -> PathBuf {
        self.project.directory().join("secrets/registry_auth_token")
    }

    /// Starts it.
    pub(crate) async fn up(&self) -> Container {
        self.project.up().await;
        self.project.container("sidecar").await
    }
}
