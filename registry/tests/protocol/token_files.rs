//! The files of keys and revocations, and the commands that make them, on the program itself.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    process::{Command, Output, Stdio},
    time::Duration,
};

use registry::token::{Claims, Keys, Right};
use rustix::process::Signal;
use serde_json::json;
use testkit::wait_until;

use crate::{
    harness::{Answer, PATIENCE, path},
    program::{Program, command},
    tokens::{Issuer, KEY, claims},
};

/// `registry token …` with the files of an issuer.
fn token(issuer: &Issuer, arguments: &[&str]) -> Command {
    let mut program = command(issuer.dir.path());
    program.arg("token").args(arguments);
    program.env("REGISTRY_TOKEN_KEYS_FILE", issuer.file("keys"));
    program.env("REGISTRY_TOKEN_REVOKED_FILE", issuer.file("revoked"));
    program
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs it to its end with something on its standard input.
fn fed(command: &mut Command, input: &str) -> Output {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn made(issuer: &Issuer, arguments: &[&str]) -> String {
    let output = Program::run_to_its_end(&mut token(issuer, &[&["new"], arguments].concat()));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert_eq!(printed.lines().count(), 1, "the token alone: {printed}");
    assert!(!text(&output.stderr).contains(printed.trim()), "{output:?}");
    printed.trim().to_owned()
}

async fn node(issuer: &Issuer, more: &[(&str, &str)]) -> Program {
    let (keys, revoked) = (issuer.file("keys"), issuer.file("revoked"));
    let mut settings =
        vec![("REGISTRY_TOKEN_KEYS_FILE", keys.as_str()), ("REGISTRY_TOKEN_REVOKED_FILE", revoked.as_str())];
    settings.extend(more);
    Program::start(&settings).await
}

async fn register(node: &Program, service: &str, token: &str) -> u16 {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let url = format!("http://{}{}", node.address(), path(service, "a"));
    Answer::sure(|| client.put(&url).bearer_auth(token).json(&json!({"endpoint": "http://h:1"}))).await.status
}

#[tokio::test]
async fn a_token_is_made_used_shown_and_revoked() {
    let issuer = Issuer::new();
    let node = node(&issuer, &[]).await;
    let arguments = ["--register", "orders*", "--read", "--expires", "90d", "--sub", "ci/orders"];
    let orders = made(&issuer, &arguments);
    assert_eq!(register(&node, "orders-eu", &orders).await, 201);
    assert_eq!(register(&node, "billing", &orders).await, 403);
    let shown = fed(&mut token(&issuer, &["inspect"]), &format!("{orders}\n"));
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    let lines = text(&shown.stdout);
    for part in
        ["holder   ci/orders\n", "rights   register orders*; read *\n", "state    good\n", "id       "]
    {
        assert!(lines.contains(part), "{lines}");
    }
    assert!(!lines.contains(orders.rsplit('.').next().unwrap()), "{lines}");
    let revoked = fed(&mut token(&issuer, &["revoke"]), &orders);
    assert!(revoked.status.success(), "{revoked:?}");
    wait_until(PATIENCE, "it is revoked", async || register(&node, "orders-eu", &orders).await == 401).await;
    let shown = fed(&mut token(&issuer, &["inspect"]), &orders);
    assert_eq!(shown.status.code(), Some(1));
    assert!(text(&shown.stdout).contains("state    revoked\n"), "{shown:?}");
    // By its id, beside others that go on.
    let other = made(&issuer, &["--admin", "--sub", "root"]);
    assert_eq!(register(&node, "orders-eu", &other).await, 200);
    let shown = text(&fed(&mut token(&issuer, &["inspect"]), &other).stdout);
    let id = shown.lines().next().unwrap().rsplit(' ').next().unwrap();
    assert!(Program::run_to_its_end(&mut token(&issuer, &["revoke", id])).status.success());
    wait_until(PATIENCE, "it is revoked", async || register(&node, "orders-eu", &other).await == 401).await;
    assert_eq!(node.terminate().await, Some(0));
}

#[test]
fn what_makes_no_token_is_said_in_one_line() {
    let issuer = Issuer::new();
    let bare = |arguments: &[&str]| {
        let mut program = command(issuer.dir.path());
        program.arg("token").args(arguments);
        program
    };
    let missing = issuer.file("missing/keys");
    let good = issuer.token(&[(Right::Read, "*")]);
    for (mut program, code, part) in [
        (token(&issuer, &["new", "--sub", "x"]), 64, "needs a right"),
        (token(&issuer, &["new", "--read"]), 64, "required"),
        (token(&issuer, &["new", "--sub", "a b", "--read"]), 64, "--sub"),
        (token(&issuer, &["new", "--sub", "x", "--register", "a*b"]), 64, "--register"),
        (token(&issuer, &["new", "--sub", "x", "--read", "--expires", "soon"]), 64, "--expires"),
        (token(&issuer, &["new", "--sub", "x", "--read", "--expires", "99999d"]), 64, "--expires"),
        (bare(&["new", "--sub", "x", "--read"]), 64, "REGISTRY_TOKEN_KEYS_FILE"),
        (bare(&["key"]), 64, "REGISTRY_TOKEN_KEYS_FILE"),
        (bare(&["revoke", "id-1"]), 64, "REGISTRY_TOKEN_REVOKED_FILE"),
        (token(&issuer, &["key", &missing]), 69, "missing/keys"),
        (token(&issuer, &["key", &issuer.file("revoked")]), 69, "line 1"),
        (token(&issuer, &["inspect", "nonsense"]), 64, "no token"),
        (token(&issuer, &["revoke", "a b"]), 64, "id"),
        // A whole token on the command line: its id is meant.
        (token(&issuer, &["revoke", &good]), 64, "id"),
    ] {
        let output = Program::run_to_its_end(&mut program);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{program:?}: {error}");
        assert!(output.stdout.is_empty() && error.lines().count() == 1, "{program:?}: {output:?}");
        assert!(error.starts_with("registry: ") && error.contains(part), "{program:?}: {error}");
        assert!(!error.contains(good.rsplit('.').next().unwrap()), "{error}");
    }
    // Expired, of another key, or with no key to check it by: shown, and not good.
    let keys = Keys::read(issuer.file("keys").as_ref()).unwrap();
    let expired = keys.sign(&claims("x", "id", -10, &[(Right::Read, "*")])).unwrap();
    for (mut program, input, state) in [
        (token(&issuer, &["inspect"]), &expired, "expired"),
        (token(&issuer, &["inspect"]), &format!("{}AAAA", &good[..good.len() - 4]), "not signed with a key"),
        (bare(&["inspect"]), &good, "not checked"),
    ] {
        let output = fed(&mut program, input);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stdout).contains(&format!("state    {state}")), "{output:?}");
    }
}

#[test]
fn a_key_is_written_and_never_printed() {
    let issuer = Issuer::new();
    fs::remove_file(issuer.file("keys")).unwrap();
    for count in 1..=2 {
        let output = Program::run_to_its_end(&mut token(&issuer, &["key"]));
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let file = fs::read_to_string(issuer.file("keys")).unwrap();
        let lines: Vec<_> = file.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines.len(), count, "{file}");
        for line in lines {
            let (_, secret) = line.split_once(' ').unwrap();
            assert!(secret.len() == 64 && !text(&output.stderr).contains(secret), "{output:?}");
        }
    }
}

/// The lines at level ERROR about the files.
fn complaints(node: &Program) -> Vec<String> {
    let about = |line: &String| line.contains("\"ERROR\"") && line.contains("REGISTRY_TOKEN_");
    node.log().into_iter().filter(about).collect()
}

#[tokio::test]
async fn keys_rotate_under_load_and_a_bad_file_changes_nothing() {
    let issuer = Issuer::new();
    let node = node(&issuer, &[]).await;
    let old = made(&issuer, &["--register", "web", "--sub", "old"]);
    assert_eq!(register(&node, "web", &old).await, 201);
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let beat = async |token: &str| {
        let url = format!("http://{}{}/heartbeat", node.address(), path("web", "a"));
        Answer::sure(|| client.put(&url).bearer_auth(token)).await.status
    };
    // One line for each fault, and the old keys stay.
    for bad in ["", "k1 abcdef\n", "this is no key file at all\n", &KEY[..50]] {
        fs::write(issuer.file("keys"), bad).unwrap();
        node.signal(Signal::HUP);
        let mut lines = Vec::new();
        wait_until(PATIENCE, "it complains", async || {
            assert_eq!(beat(&old).await, 200, "{bad}");
            lines.extend(complaints(&node));
            !lines.is_empty()
        })
        .await;
        // Three more looks say nothing more.
        for _ in 0..3 {
            node.signal(Signal::HUP);
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(beat(&old).await, 200);
        }
        lines.extend(complaints(&node));
        assert_eq!(lines.len(), 1, "{bad}: {lines:?}");
        assert!(lines[0].contains("stays in force") && !lines[0].contains("abcdef"), "{lines:?}");
    }
    fs::write(issuer.file("keys"), KEY).unwrap();
    assert!(Program::run_to_its_end(&mut token(&issuer, &["key"])).status.success());
    let new = made(&issuer, &["--register", "web", "--sub", "new"]);
    // No signal: the change alone is enough. Not one beat with the old token is refused meanwhile.
    wait_until(PATIENCE, "the new key counts", async || {
        assert_eq!(beat(&old).await, 200);
        beat(&new).await == 200
    })
    .await;
    assert_eq!(beat(&old).await, 200, "both");
    let rest = fs::read_to_string(issuer.file("keys")).unwrap().replace(KEY, "");
    fs::write(issuer.file("keys"), rest).unwrap();
    wait_until(PATIENCE, "the old key counts no more", async || {
        assert_eq!(beat(&new).await, 200);
        beat(&old).await == 401
    })
    .await;
    fs::remove_file(issuer.file("keys")).unwrap();
    fs::remove_file(issuer.file("revoked")).unwrap();
    node.signal(Signal::HUP);
    let mut lines = Vec::new();
    wait_until(PATIENCE, "it complains of both", async || {
        assert_eq!(beat(&new).await, 200);
        lines.extend(complaints(&node));
        lines.len() == 2
    })
    .await;
    assert_eq!(node.terminate().await, Some(0));
}

/// No log at any level, no metric and no answer holds a token or a key, whatever was sent with it.
#[tokio::test]
async fn no_token_shows_anywhere() {
    const WRITE: &str = "canary-write-0f3a91c26b7d";
    const READ: &str = "canary-read-77b1e09d44ac";
    const GARBAGE: &str = "canary-garbage-5be204688f0e";
    let issuer = Issuer::new();
    // The store that has the more to say.
    let url = testkit::Postgres::shared().fresh_database().await;
    let node = node(
        &issuer,
        &[
            ("DATABASE_URL", &url),
            ("REGISTRY_LOG", "trace"),
            ("REGISTRY_AUTH_TOKEN", WRITE),
            ("REGISTRY_READ_TOKEN", READ),
        ],
    )
    .await;
    let keys = Keys::read(issuer.file("keys").as_ref()).unwrap();
    let sign = |claims: Claims| keys.sign(&claims).unwrap();
    let signed = [
        issuer.token(&[(Right::Admin, "*")]),
        issuer.token(&[(Right::Register, "other")]),
        sign(claims("late", "id-2", -3600, &[(Right::Register, "*")])),
        sign(claims("expired", "id-3", -1_000_000, &[(Right::Register, "*")])),
        sign(claims("gone", "revoked-1", 1000, &[(Right::Register, "*")])),
    ];
    let mut tokens =
        vec![WRITE.to_owned(), READ.to_owned(), GARBAGE.to_owned(), format!("{}.{GARBAGE}", &signed[0])];
    tokens.extend(signed.clone());
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let mut seen = String::new();
    let mut statuses = std::collections::BTreeSet::new();
    for token in &tokens {
        for (method, target) in [
            ("PUT", path("web", "a")),
            ("PUT", format!("{}/heartbeat", path("web", "a"))),
            ("GET", "/services/web".to_owned()),
            ("GET", "/nowhere".to_owned()),
            ("POST", "/register".to_owned()),
            ("GET", format!("/services?token={token}")),
        ] {
            for header in ["authorization", "x-registry-token", "cookie", "x-other"] {
                let value = if header == "authorization" { format!("Bearer {token}") } else { token.clone() };
                let request =
                    client.request(method.parse().unwrap(), format!("http://{}{target}", node.address()));
                let body = json!({"service_name": "web", "endpoint": "http://h:1"});
                let answer = Answer::of(request.header(header, value).json(&body)).await;
                statuses.insert(answer.status);
                writeln!(seen, "{:?} {}", answer.headers, answer.text).unwrap();
            }
        }
    }
    assert!(statuses.is_superset(&[200, 201, 401, 403, 404].into()), "each way was gone: {statuses:?}");
    node.signal(Signal::HUP);
    fs::write(issuer.file("keys"), format!("{KEY}broken {GARBAGE}\n")).unwrap();
    node.signal(Signal::HUP);
    let mut log = String::new();
    wait_until(PATIENCE, "it has said what is wrong with the file", async || {
        log.extend(node.log());
        log.contains("stays in force")
    })
    .await;
    seen.push_str(&node.get("/metrics").await.text);
    log.extend(node.log());
    assert!(
        log.contains("\"DEBUG\"") && log.contains("a token has expired"),
        "it says what it has to say: {log}"
    );
    let mut canaries = vec![WRITE, READ, GARBAGE, KEY.trim().split_once(' ').unwrap().1];
    // The last part of a token is what makes it one.
    canaries.extend(signed.iter().map(|token| token.rsplit('.').next().unwrap()));
    for canary in canaries {
        assert!(!log.contains(canary), "a line of the log holds {canary}");
        assert!(!seen.contains(canary), "an answer holds {canary}");
    }
    assert_eq!(node.terminate().await, Some(0));
}
