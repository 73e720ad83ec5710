//! What a node says when things go wrong at their worst, and that no secret is in it.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use registry::token::Right;
use reqwest::Client;
use serde_json::json;
use tempfile::TempDir;
use testkit::{Postgres, Process, Sql, free_port, wait_until};

use crate::{
    harness::{PATIENCE, path},
    tokens::{Issuer, KEY},
};

/// A node that says everything it has to say, with all of its output in files.
struct Talkative {
    process: Process,
    url: String,
    client: Client,
    _dir: TempDir,
}

impl Talkative {
    async fn start(program: &Path, settings: &[(&str, &str)]) -> Self {
        let dir = testkit::memory_dir();
        let port = free_port();
        let mut command = Command::new(program);
        command
            .current_dir(dir.path())
            .env("REGISTRY_LISTEN", format!("127.0.0.1:{port}"))
            .env("REGISTRY_TICK_MS", "250")
            .env("REGISTRY_LOG", "trace")
            .env("RUST_BACKTRACE", "full")
            .envs(settings.iter().copied());
        let process = Process::start("registry", dir.path(), &mut command);
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let node = Self { process, url: format!("http://127.0.0.1:{port}"), client, _dir: dir };
        wait_until(PATIENCE, "the node answers", async || {
            assert!(node.process.ended().is_none(), "{}", node.output());
            node.get("/livez").await.is_some()
        })
        .await;
        node
    }

    async fn get(&self, path: &str) -> Option<String> {
        self.client.get(format!("{}{path}", self.url)).send().await.ok()?.text().await.ok()
    }

    async fn says(&self, words: &str) {
        wait_until(PATIENCE, &format!("it says {words}"), async || self.output().contains(words)).await;
    }

    fn output(&self) -> String {
        format!("{}{}", self.process.stdout(), self.process.stderr())
    }
}

/// The build that can be told to make a mistake.
fn seeded() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_registry")).with_file_name("registry-seeded");
    let make = "cargo build --workspace --features registry/seeded-bugs --bin registry-seeded";
    assert!(path.is_file(), "{} is missing: {make}", path.display());
    path
}

#[track_caller]
fn holds_none(text: &str, what: &str, secrets: &[&str]) {
    for secret in secrets {
        assert!(!text.contains(secret), "{what} holds {secret}");
    }
}

/// Whoever writes down a request with all that belongs to it, be it a library at TRACE or a panic, shows no secret.
#[tokio::test]
async fn a_log_and_a_panic_with_everything_in_reach_show_no_secret() {
    const WRITE: &str = "canary-write-5c09d1e7a3b2";
    const READ: &str = "canary-read-e84f20b6719d";
    const WRONG: &str = "canary-wrong-71f6a80c3d5e";
    let issuer = Issuer::new();
    let (keys, revoked) = (issuer.file("keys"), issuer.file("revoked"));
    let node = Talkative::start(
        &seeded(),
        &[
            ("DATABASE_URL", "sqlite://registry.db"),
            ("REGISTRY_SEEDED_BUG", "show-all"),
            ("REGISTRY_AUTH_TOKEN", WRITE),
            ("REGISTRY_READ_TOKEN", READ),
            ("REGISTRY_TOKEN_KEYS_FILE", &keys),
            ("REGISTRY_TOKEN_REVOKED_FILE", &revoked),
        ],
    )
    .await;
    let signed = issuer.token(&[(Right::Register, "*")]);
    // Told apart by the number of their line: each of them was there when it panicked.
    let mut count = 0;
    for token in [WRITE, READ, WRONG, &signed] {
        for (header, value) in
            [("authorization", format!("Bearer {token}")), ("x-registry-token", token.to_owned())]
        {
            let put = node.client.put(format!("{}{}", node.url, path("web", &format!("call-{count}"))));
            let put = put.header(header, value).json(&json!({"endpoint": "http://h:1"}));
            put.send().await.expect_err("the connection ends with the panic");
            count += 1;
        }
    }
    node.says(&format!("call-{}", count - 1)).await;
    let metrics = node.get("/metrics").await.expect("it goes on");
    let output = node.output();
    let panics = output.matches("panicked at").count();
    assert_eq!(panics, count, "{output}");
    assert!(output.contains("stack backtrace"), "{output}");
    // What is written at this level under another name is seen, and says what there was.
    let lines: Vec<_> = output.lines().filter(|line| line.contains(r#""target":"library""#)).collect();
    assert_eq!(lines.len(), count, "{output}");
    for line in lines {
        assert!(line.contains(r#""level":"TRACE""#) && line.contains("Sensitive"), "{line}");
    }
    let secrets =
        [WRITE, READ, WRONG, signed.rsplit('.').next().unwrap(), KEY.trim().split_once(' ').unwrap().1];
    holds_none(&output, "the output", &secrets);
    holds_none(&metrics, "a metric", &secrets);
}

/// The password of the store, as it is and as it stands in the URL.
const PASSWORD: [&str; 2] = ["canary/pg-0b7e94d1", "canary%2Fpg-0b7e94d1"];

#[tokio::test]
async fn a_store_that_refuses_is_complained_of_without_its_password() {
    let dir = tempfile::tempdir().unwrap();
    let access = dir.path().join("access.conf");
    // A server's user reads it, who is not this one where tests run as root.
    fs::write(&access, "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        .unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(dir.path(), open).unwrap();
    let postgres = Postgres::start_with(&[("hba_file", access.to_str().unwrap())]);
    let mut admin = Sql::open(&postgres.url("postgres")).await;
    let [plain, encoded] = PASSWORD;
    admin
        .run(&format!("CREATE ROLE good LOGIN PASSWORD '{plain}'; CREATE ROLE bad LOGIN PASSWORD 'other'"))
        .await;
    let (port, nobody) = (postgres.port(), free_port());
    for (user, port, database, complaint) in [
        ("bad", port, "postgres", "password authentication failed"),
        ("good", port, "missing", "does not exist"),
        ("good", port, "postgres", "permission denied"),
        ("good", nobody, "postgres", "Connection refused"),
    ] {
        let url = format!("postgres://{user}:{encoded}@127.0.0.1:{port}/{database}");
        let program = Path::new(env!("CARGO_BIN_EXE_registry"));
        let node = Talkative::start(program, &[("DATABASE_URL", &url)]).await;
        node.says(complaint).await;
        let mut seen = node.output();
        for path in ["/readyz", "/health", "/metrics", "/services", "/"] {
            writeln!(seen, "{}", node.get(path).await.unwrap()).unwrap();
        }
        holds_none(&seen, complaint, &PASSWORD);
    }
    // It was the password that was sent: with it the first of them is let in.
    admin.run(&format!("ALTER ROLE bad PASSWORD '{plain}'")).await;
    assert!(Sql::try_open(&format!("postgres://bad:{encoded}@127.0.0.1:{port}/postgres")).await.is_some());
}
