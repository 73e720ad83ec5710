//! docs/examples, run against real nodes.

use std::{path::PathBuf, process::Command};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{Process, Signal, wait_until};

use crate::support::{Node, REGISTRY, SOON, has, program, root, run, stub};

/// A program that reads the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Python,
    Node,
    Shell,
}

impl Reader {
    /// Whether what it needs is here.
    fn can_run(self) -> bool {
        match self {
            Self::Python => has("python3"),
            Self::Node => has("node"),
            Self::Shell => has("curl") && has("jq"),
        }
    }

    fn command(self, registries: &str, cache: &tempfile::TempDir) -> Command {
        let (interpreter, file) = match self {
            Self::Python => ("python3", "read.py"),
            Self::Node => ("node", "read.mjs"),
            Self::Shell => ("sh", "read.sh"),
        };
        let mut command = Command::new(interpreter);
        command.arg(example(file)).env("REGISTRY_URL", registries).env("REGISTRY_CACHE", cache.path());
        // A proxy of the environment is not for the registry.
        command.env("http_proxy", "http://127.0.0.1:1").env("HTTP_PROXY", "http://127.0.0.1:1");
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// One look: exit code, standard output, standard error.
    async fn look(self, registries: &str, service: &str, cache: &tempfile::TempDir) -> (i32, String, String) {
        run(self.command(registries, cache).arg(service)).await
    }

    /// One look of somebody who has never looked before.
    async fn fresh(self, registries: &str, service: &str) -> (i32, String, String) {
        self.look(registries, service, &tempfile::tempdir().unwrap()).await
    }
}

fn example(file: &str) -> PathBuf {
    let path = root().join("docs/examples").join(file);
    assert!(path.is_file(), "{}", path.display());
    path
}

/// A 200 and two 404s that no registry said, the last as many a web framework says it.
const PORTAL: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<html></html>";
const STRANGER: &str =
    "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

const FRAMEWORK: &str = "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 22\r\nConnection: close\r\n\r\n{\"detail\":\"Not Found\"}";

const READ: &str = "5nB3vC6xL0pH8sD2";

/// What each answer of a registry, and each answer that is none, comes to.
async fn tells_answers_apart(reader: Reader) {
    if !reader.can_run() {
        return;
    }
    let node = Node::start(&[]).await;
    node.register("orders", "a", "http://10.0.0.1:80").await;
    node.register("ill", "a", "http://10.0.0.2:80").await;
    let critical = json!({"status": "critical"});
    node.must(Method::PUT, "/services/ill/instances/a/heartbeat", critical).await;
    let url = node.url();
    let nobody = "http://127.0.0.1:1";

    assert_eq!(reader.fresh(&url, "orders").await, (0, "http://10.0.0.1:80\n".into(), String::new()));
    let second = reader.fresh(&format!("{nobody}, {url}/"), "orders").await;
    assert_eq!((second.0, second.1.as_str()), (0, "http://10.0.0.1:80\n"), "{second:?}");
    for service in ["ill", "never"] {
        let (code, out, err) = reader.fresh(&url, service).await;
        assert_eq!((code, out.as_str()), (1, ""), "{service}: {err}");
        assert!(err.contains("not there: ") && err.contains(service), "{err}");
    }
    let (code, out, err) = reader.fresh(&url, "no name").await;
    assert_eq!((code, out.as_str()), (64, ""), "{err}");
    assert!(err.contains("refused"), "{err}");

    let blind = Node::answering(&[("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")]).await;
    let stubs = [Some(PORTAL), Some(STRANGER), Some(FRAMEWORK), None]
        .map(|answer| format!("http://127.0.0.1:{}", stub(answer)));
    for url in [nobody, &blind.url()].into_iter().chain(stubs.iter().map(String::as_str)) {
        let (code, out, err) = reader.fresh(url, "orders").await;
        assert_eq!((code, out.as_str()), (75, ""), "{url}: {err}");
        assert!(err.contains("nobody knows"), "{err}");
    }

    let locked = Node::start(&[("REGISTRY_READ_TOKEN", READ)]).await;
    locked.register("orders", "a", "http://10.0.0.3:80").await;
    let (code, _, err) = reader.fresh(&locked.url(), "orders").await;
    assert_eq!(code, 64, "{err}");
    assert!(err.contains("token"), "{err}");
    let cache = tempfile::tempdir().unwrap();
    let with_token =
        reader.command(&locked.url(), &cache).arg("orders").env("REGISTRY_READ_TOKEN", READ).output();
    assert_eq!(String::from_utf8(with_token.unwrap().stdout).unwrap(), "http://10.0.0.3:80\n");
}

#[tokio::test]
async fn read_py_tells_answers_apart() {
    tells_answers_apart(Reader::Python).await;
}

#[tokio::test]
async fn read_mjs_tells_answers_apart() {
    tells_answers_apart(Reader::Node).await;
}

#[tokio::test]
async fn read_sh_tells_answers_apart() {
    tells_answers_apart(Reader::Shell).await;
}

/// The last good answer is given while no node is there, and forgotten when a node says that it is no longer true.
async fn keeps_the_last_good_answer(reader: Reader) {
    if !reader.can_run() {
        return;
    }
    let mut node = Node::start(&[]).await;
    node.register("orders", "a", "http://10.0.0.1:80").await;
    let cache = tempfile::tempdir().unwrap();
    let mut command = reader.command(&node.url(), &cache);
    let process = Process::start("reader", cache.path(), command.args(["orders", "--every", "0.1"]));
    let says = async |what: &str, line: &(dyn Fn(&str) -> bool + Sync)| {
        // The last line alone: it is about now.
        wait_until(SOON, what, async || process.stdout().lines().last().is_some_and(line)).await;
    };
    says("it is found", &|line| line == "http://10.0.0.1:80").await;
    node.kill_9().await;
    says("the answer is kept", &|line| line.starts_with("http://10.0.0.1:80 (not confirmed for ")).await;
    node.start_again().await;
    says("it is confirmed", &|line| line == "http://10.0.0.1:80").await;
    node.must(Method::DELETE, "/services/orders/instances/a", Value::Null).await;
    says("it is gone", &|line| line.starts_with("not there: ")).await;
    node.kill_9().await;
    says("nothing is left to be kept", &|line| line.starts_with("nobody knows: ")).await;
}

#[tokio::test]
async fn read_py_keeps_the_last_good_answer() {
    keeps_the_last_good_answer(Reader::Python).await;
}

#[tokio::test]
async fn read_mjs_keeps_the_last_good_answer() {
    keeps_the_last_good_answer(Reader::Node).await;
}

#[tokio::test]
async fn read_sh_keeps_the_last_good_answer_in_a_file() {
    let reader = Reader::Shell;
    if !reader.can_run() {
        return;
    }
    let mut node = Node::start(&[]).await;
    node.register("orders", "a", "http://10.0.0.1:80").await;
    let cache = tempfile::tempdir().unwrap();
    let url = node.url();
    assert_eq!(reader.look(&url, "orders", &cache).await.0, 0);
    node.kill_9().await;
    let (code, out, err) = reader.look(&url, "orders", &cache).await;
    assert_eq!((code, out.as_str()), (0, "http://10.0.0.1:80\n"), "{err}");
    assert!(err.contains("not confirmed"), "{err}");
    assert_eq!(reader.look(&url, "other", &cache).await.0, 75, "another service's answer");
    // As old as nobody should rely on.
    let old = Command::new("touch").args(["-d", "20 minutes ago"]).arg(cache.path().join("orders")).status();
    assert!(old.unwrap().success());
    assert_eq!(reader.look(&url, "orders", &cache).await.0, 75);
    node.start_again().await;
    assert_eq!(reader.look(&url, "orders", &cache).await.0, 0);
    node.must(Method::DELETE, "/services/orders/instances/a", Value::Null).await;
    assert_eq!(reader.look(&url, "orders", &cache).await.0, 1);
    node.kill_9().await;
    assert_eq!(reader.look(&url, "orders", &cache).await.0, 75, "what is known to be gone is not kept");
    let left: Vec<_> = cache.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The status of an instance as the node lists it, whatever it is.
async fn status(node: &Node, path: &str) -> Option<String> {
    let (status, body) = node.get(path).await?;
    (status == StatusCode::OK).then(|| body["status"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn beat_sh_registers_reports_comes_back_and_leaves() {
    if !has("curl") {
        return;
    }
    let node = Node::start(&[("REGISTRY_AUTH_TOKEN", READ)]).await;
    let dir = tempfile::tempdir().unwrap();
    let (alive, token) = (dir.path().join("alive"), dir.path().join("token"));
    std::fs::write(&alive, "").unwrap();
    std::fs::write(&token, format!("{READ}\n")).unwrap();
    let mut command = Command::new("sh");
    command
        .arg(example("beat.sh"))
        .args(["redis", "redis-1", "http://127.0.0.1:6379", "test", "-e"])
        .arg(&alive);
    command.env("REGISTRY_URL", node.url()).env("REGISTRY_TOKEN_FILE", &token).env("HEARTBEAT_INTERVAL", "1");
    let process = Process::start("beat", dir.path(), command.env("HEALTH_FAILURES", "2"));
    let path = "/services/redis/instances/redis-1";
    let is = async |wanted: Option<&str>| {
        wait_until(SOON, &format!("it is {wanted:?}"), async || {
            status(&node, path).await.as_deref() == wanted
        })
        .await;
    };
    is(Some("passing")).await;
    let (_, entry) = node.get(path).await.unwrap();
    assert_eq!((&entry["endpoint"], &entry["ttl_seconds"]), (&json!("http://127.0.0.1:6379"), &json!(3)));
    std::fs::remove_file(&alive).unwrap();
    is(Some("critical")).await;
    std::fs::write(&alive, "").unwrap();
    is(Some("passing")).await;

    // What an operator took away comes back.
    let delete = format!("curl -sf -X DELETE -H 'Authorization: Bearer {READ}' {}{path}", node.url());
    let (code, _, errors) = run(Command::new("sh").args(["-c", &delete])).await;
    assert_eq!(code, 0, "{errors}");
    wait_until(SOON, "it registers again", async || process.stderr().matches("registered as").count() == 2)
        .await;
    is(Some("passing")).await;

    process.signal(Signal::TERM);
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    assert_eq!(node.get(path).await.unwrap().0, StatusCode::NOT_FOUND);
}

/// A container's first process: a service with a sidecar beside it, by the script.
fn with_sidecar(node: &Node, dir: &tempfile::TempDir, port: u16, command: &[&str]) -> Process {
    let mut script = Command::new("sh");
    script.arg(example("with-sidecar.sh")).args(command).env("SIDECAR", program("sidecar"));
    script.env("SERVICE_NAME", "twin").env("SERVICE_HOST", "auto").env("SERVICE_PORT", port.to_string());
    script.env("REGISTRY_URL", node.url()).env("HEARTBEAT_INTERVAL", "1");
    Process::start("with-sidecar", dir.path(), &mut script)
}

/// Waits until the replica is handed out, and gives its path.
async fn replica_is_passing(node: &Node, port: u16) -> String {
    let path = format!("/services/twin/instances/127.0.0.1:{port}");
    wait_until(SOON, "it is passing", async || status(node, &path).await.as_deref() == Some("passing")).await;
    path
}

async fn is_deregistered(node: &Node, path: &str) {
    let (code, body) = node.get(path).await.unwrap();
    assert_eq!((code, &body["state"]), (StatusCode::NOT_FOUND, &json!("deregistered")), "{body}");
}

#[tokio::test]
async fn with_sidecar_sh_registers_a_replica_and_leaves_before_the_service_ends() {
    if !has("curl") {
        return;
    }
    let node = Node::start(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let port = testkit::free_port();
    // A service that, when it is told to end, notes whether readers may still be sent to it.
    let noted = dir.path().join("noted");
    let service = format!(
        "{REGISTRY} sample {port} & trap 'curl -s -o /dev/null -w %{{http_code}} {}/services/twin >{}; kill $!; exit 3' TERM
        wait $!",
        node.url(),
        noted.display()
    );
    let process = with_sidecar(&node, &dir, port, &["sh", "-c", &service]);
    let path = replica_is_passing(&node, port).await;
    let children = process.descendants();
    assert_eq!(children.len(), 3, "the sidecar, the service, and what that has started");
    process.signal(Signal::TERM);
    assert_eq!(process.wait(SOON).await.code(), Some(3));
    is_deregistered(&node, &path).await;
    assert_eq!(std::fs::read_to_string(noted).unwrap(), "404");
    // The service's own child ends when it is told to, which the service does not wait for.
    for pid in &children[..2] {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{stat} is left");
    }
}

#[tokio::test]
async fn with_sidecar_sh_ends_as_its_service_ends() {
    let node = Node::start(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    for (command, code) in [("exit 7", 7), ("exit 0", 0), ("kill -KILL $$", 137)] {
        let process = with_sidecar(&node, &dir, testkit::free_port(), &["sh", "-c", command]);
        assert_eq!(process.wait(SOON).await.code(), Some(code), "{command}");
    }
    let (code, _, errors) = run(Command::new("sh").arg(example("with-sidecar.sh"))).await;
    assert_eq!((code, errors.contains("usage")), (64, true));

    // A service that dies takes its sidecar with it, which leaves politely.
    let port = testkit::free_port();
    let process = with_sidecar(&node, &dir, port, &[REGISTRY, "sample", &port.to_string()]);
    let path = replica_is_passing(&node, port).await;
    let is_sample = |pid: &u32| {
        let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.contains("sample")
    };
    let sample = process.descendants().into_iter().find(is_sample).unwrap();
    let (code, _, _) = run(Command::new("kill").args(["-KILL", &sample.to_string()])).await;
    assert_eq!(code, 0);
    assert_eq!(process.wait(SOON).await.code(), Some(137));
    is_deregistered(&node, &path).await;
}

#[tokio::test]
async fn a_rust_service_registers_itself_and_leaves_before_it_ends() {
    let node = Node::start(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let port = testkit::free_port();
    let mut command = Command::new(program("examples/in_process"));
    command
        .env("SERVICE_NAME", "echo")
        .env("SERVICE_HOST", "127.0.0.1")
        .env("SERVICE_PORT", port.to_string());
    command.env("REGISTRY_URL", node.url()).env("HEARTBEAT_INTERVAL", "1");
    let process = Process::start("in_process", dir.path(), &mut command);
    let path = format!("/services/echo/instances/127.0.0.1:{port}");
    wait_until(SOON, "it is passing", async || status(&node, &path).await.as_deref() == Some("passing"))
        .await;
    let (_, entry) = node.get(&path).await.unwrap();
    assert_eq!(entry["metadata"]["version"], env!("CARGO_PKG_VERSION"));
    process.signal(Signal::TERM);
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    let (code, body) = node.get(&path).await.unwrap();
    assert_eq!((code, &body["state"]), (StatusCode::NOT_FOUND, &json!("deregistered")), "{body}");
}
