//! The real sidecar before a node with TLS: whom it trusts, what it says, what it shows of itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use testkit::{Ca, Issued, Process, Signal, free_port, wait_until};

use crate::support::{REGISTRY, Registry, SOON, Sample, Sidecar, sidecar_program};

/// A node with TLS on SQLite.
struct Node {
    registry: Registry,
    ca: Ca,
    dir: TempDir,
}

impl Node {
    /// A node that is started. `clients`: whose certificates its clients need.
    async fn start(clients: Option<&Ca>) -> Self {
        let node = Self { registry: Registry::on_sqlite(), ca: Ca::new(), dir: tempfile::tempdir().unwrap() };
        node.file("ca.pem", node.ca.pem());
        Self::run(node, clients).await
    }

    async fn run(mut self, clients: Option<&Ca>) -> Self {
        let [certificate, key] = self.ca.issue(&["localhost"]).write(self.dir.path(), "node");
        let mut command = Command::new(REGISTRY);
        command.env("REGISTRY_TLS_CERT", certificate).env("REGISTRY_TLS_KEY", key);
        if let Some(clients) = clients {
            command.env("REGISTRY_TLS_CLIENT_CA", self.file("clients.pem", clients.pem()));
        }
        self.registry.start_as(&mut command);
        let shown = clients.map(|clients| clients.issue(&["test"]));
        wait_until(SOON, "the node is ready", async || {
            self.get("/readyz", shown.as_ref()).await.is_some_and(|(status, _)| status == 200)
        })
        .await;
        self
    }

    /// Writes a file beside its own.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    async fn get(&self, path: &str, shown: Option<&Issued>) -> Option<(u16, String)> {
        self.ca.get(self.registry.port(), path, shown).await
    }

    fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.registry.port())
    }

    /// A sidecar that trusts what stands in this file.
    fn sidecar(&self, service: &Sample, host: &str, ca: &Path) -> Sidecar {
        Sidecar::of("secure", service.port(), &self.url(host)).with("REGISTRY_CA_FILE", ca.to_str().unwrap())
    }

    async fn listed(&self, sidecar: &Sidecar, shown: Option<&Issued>) {
        wait_until(SOON, "the instance is listed", async || {
            let ended = sidecar.process().ended();
            assert!(ended.is_none(), "the sidecar ended: {ended:?}");
            let list = self.get("/services/secure", shown).await;
            list.is_some_and(|(status, body)| status == 200 && body.contains(sidecar.instance()))
        })
        .await;
    }

    async fn is_known(&self, shown: Option<&Issued>) -> bool {
        self.get("/services/secure?all=true", shown).await.unwrap().0 != 404
    }
}

/// Waits for so many calls that failed for this reason.
async fn says(sidecar: &Sidecar, part: &str) {
    wait_until(SOON, &format!("it says: {part}"), async || {
        let ended = sidecar.process().ended();
        assert!(ended.is_none(), "the sidecar ended: {ended:?}");
        sidecar.process().stderr().contains(part)
    })
    .await;
}

async fn doctor(settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(sidecar_program());
    command.arg("doctor").env("SERVICE_NAME", "secure").env("SERVICE_HOST", "127.0.0.1");
    let process = Process::start("doctor", dir.path(), command.envs(settings.iter().copied()));
    let code = process.wait(SOON).await.code();
    (code, process.stdout())
}

#[tokio::test]
async fn a_sidecar_registers_with_the_ca_that_it_was_told_and_leaves_politely() {
    let (service, node) = (Sample::start(), Node::start(None).await);
    let ca = node.dir.path().join("ca.pem");
    // The service's own health is asked by what the system trusts, which is nobody here, and needs no TLS.
    let sidecar = node.sidecar(&service, "localhost", &ca).with("SSL_CERT_FILE", "/nowhere").started();
    node.listed(&sidecar, None).await;
    assert!(sidecar.healthy().await);
    let status = sidecar.stop(SOON).await;
    assert_eq!(status.code(), Some(0));
    assert!(!node.is_known(None).await, "it has left");
    let url = node.url("localhost");
    let (_, text) = doctor(&[("REGISTRY_URL", &url), ("REGISTRY_CA_FILE", ca.to_str().unwrap())]).await;
    assert!(text.contains("TLS is good, the registry is ready"), "{text}");
}

#[tokio::test]
async fn a_sidecar_that_trusts_another_ca_says_so_and_registers_once_the_file_is_right() {
    let (service, node) = (Sample::start(), Node::start(None).await);
    let ca = node.file("trusted.pem", Ca::new().pem());
    let sidecar = node.sidecar(&service, "localhost", &ca).started();
    says(&sidecar, "issued by nobody who is trusted here").await;
    says(&sidecar, "REGISTRY_CA_FILE").await;
    // It has failed twice, and is still there.
    wait_until(SOON, "it has tried again", async || {
        sidecar.process().stderr().matches("issued by nobody").count() >= 1
            && node.registry.process().stderr().matches("before it was served").count() >= 2
    })
    .await;
    assert!(!node.is_known(None).await, "nothing was registered");
    let log = node.registry.process().stderr();
    assert!(!log.contains(" WARN ") && !log.contains(" ERROR "), "one client is no noise: {log}");

    // The new CA beside the old one, as in a rotation. No restart.
    fs::write(&ca, node.ca.pem()).unwrap();
    node.listed(&sidecar, None).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_said_by_doctor() {
    let node = Node::start(None).await;
    let right = node.dir.path().join("ca.pem");
    let other = node.file("other.pem", Ca::new().pem());
    let (right, other) = (right.to_str().unwrap(), other.to_str().unwrap());
    let (name, address) = (node.url("localhost"), node.url("127.0.0.1"));
    for (url, ca, part) in [
        (&name, other, "issued by nobody who is trusted here; name the CA"),
        (&address, right, "is not for '127.0.0.1' but for"),
    ] {
        let (code, text) = doctor(&[("REGISTRY_URL", url), ("REGISTRY_CA_FILE", ca)]).await;
        assert!(code == Some(1) && text.contains(part), "{text}");
    }
    // The words of the node's own certificate.
    for (issued, part) in [
        (node.ca.issue_until(&["localhost"], 2020), "has expired, by the clock of this machine; renew"),
        (node.ca.issue_ca(&["localhost"]), "shows the certificate of a CA as its own"),
    ] {
        issued.write(node.dir.path(), "node");
        node.registry.process().signal(Signal::HUP);
        wait_until(SOON, part, async || {
            let (code, text) = doctor(&[("REGISTRY_URL", &name), ("REGISTRY_CA_FILE", right)]).await;
            code == Some(1) && text.contains(part)
        })
        .await;
    }
}

#[tokio::test]
async fn a_sidecar_shows_its_certificate_to_a_node_that_wants_one() {
    let (service, clients) = (Sample::start(), Ca::new());
    let node = Node::start(Some(&clients)).await;
    let (ca, reader) = (node.dir.path().join("ca.pem"), clients.issue(&["reader"]));
    let [certificate, key] = Ca::new().issue(&["sidecar"]).write(node.dir.path(), "sidecar");

    let mut without = node.sidecar(&service, "localhost", &ca);
    without.start();
    says(&without, "TLS: the server wants a client certificate").await;
    without.kill_9().await;

    let sidecar = node
        .sidecar(&service, "localhost", &ca)
        .with("REGISTRY_CLIENT_CERT_FILE", certificate.to_str().unwrap())
        .with("REGISTRY_CLIENT_KEY_FILE", key.to_str().unwrap())
        .started();
    says(&sidecar, "does not take the client certificate").await;
    assert!(!node.is_known(Some(&reader)).await, "nothing was registered");
    clients.issue(&["sidecar"]).write(node.dir.path(), "sidecar");
    node.listed(&sidecar, Some(&reader)).await;
}

/// There is no word that leaves the check out.
#[tokio::test]
async fn nothing_in_the_program_skips_the_check() {
    let program = fs::read(sidecar_program()).unwrap();
    let text = String::from_utf8_lossy(&program).to_ascii_uppercase();
    for word in ["SKIP_VERIFY", "TLS_INSECURE", "INSECURE_SKIP", "NO_VERIFY", "VERIFY_NONE"] {
        assert!(!text.contains(word), "{word}");
    }
}

#[tokio::test]
async fn dev_works_behind_tls_and_prints_commands_that_work() {
    sidecar_program();
    let (dir, ca, port) = (testkit::memory_dir(), Ca::new(), free_port());
    let [certificate, key] = ca.issue(&["localhost"]).write(dir.path(), "node");
    let (trusted, clients) = (dir.path().join("ca.pem"), Ca::new());
    fs::write(&trusted, ca.pem()).unwrap();
    fs::write(dir.path().join("clients.pem"), clients.pem()).unwrap();
    let shown = clients.issue(&["dev"]);
    let [client, client_key] = shown.write(dir.path(), "client");
    let dev = || {
        let mut command = Command::new(REGISTRY);
        command.arg("dev").env("REGISTRY_LISTEN", format!("127.0.0.1:{port}")).current_dir(dir.path());
        command.env("REGISTRY_TLS_CERT", &certificate).env("REGISTRY_TLS_KEY", &key);
        command.env("REGISTRY_TLS_CLIENT_CA", "clients.pem").env("REGISTRY_CA_FILE", &trusted);
        command
    };
    // What would keep the sample from registering is said at once.
    let lacking = Process::start("lacking", dir.path(), &mut dev());
    assert_eq!(lacking.wait(SOON).await.code(), Some(69));
    assert!(lacking.stderr().contains("REGISTRY_CLIENT_CERT_FILE"), "{}", lacking.stderr());

    let mut command = dev();
    command.env("REGISTRY_CLIENT_CERT_FILE", client).env("REGISTRY_CLIENT_KEY_FILE", client_key);
    let process = Process::start("dev", dir.path(), &mut command);
    wait_until(SOON, "the sample is registered", async || {
        let ended = process.ended();
        assert!(ended.is_none(), "it ended: {ended:?} {}", process.stderr());
        ca.get(port, "/services/sample", Some(&shown)).await.is_some_and(|(status, _)| status == 200)
    })
    .await;
    let printed = process.stdout();
    let curls: Vec<_> = printed.lines().map(str::trim).filter(|line| line.starts_with("curl ")).collect();
    assert_eq!(curls.len(), 3, "{printed}");
    for line in curls {
        let line = line.replacen("curl ", "curl --fail --silent --show-error ", 1);
        let output = Command::new("sh").args(["-c", &line]).current_dir(dir.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("sample"), "{line}: {output:?}");
    }
    process.signal(Signal::TERM);
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    assert!(process.stderr().contains("deregistered"), "the sidecar did not leave politely");
}
