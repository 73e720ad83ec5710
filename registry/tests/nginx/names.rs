//! The list of nodes becomes a configuration, and names become addresses.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use registry_wire::ProblemType;
use testkit::{Nginx, wait_until};

use crate::support::{Answer, Client, SOON, Stub};

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("nginx").join(name)
}

fn render(nodes: &str, settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(script("render"));
    command.env("REGISTRY_NODES", nodes).envs(settings.iter().copied());
    command.output().unwrap()
}

/// The servers that a rendered configuration names.
fn servers(output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("server "));
    lines
        .filter(|rest| !rest.starts_with('{'))
        .map(|rest| rest.split(';').next().unwrap().to_owned())
        .collect()
}

#[test]
fn a_list_becomes_servers() {
    let output = render("127.0.0.1:1,127.0.0.2:2\n [::1]:3  localhost:4", &[]);
    assert!(output.status.success(), "{output:?}");
    let expected = ["127.0.0.1:1", "127.0.0.2:2", "[::1]:3", "127.0.0.1:4"];
    assert_eq!(servers(&output), expected.map(|server| format!("{server} max_fails=0")));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("rate=5000r/s") && text.contains("limit_conn registry_open_changes 4096;"),
        "{text}"
    );
    assert!(text.contains("listen 80 backlog=4096;") && text.contains("listen 8888 backlog=4096;"), "{text}");
    assert!(!text.contains('@') || !text.lines().any(|line| line.trim().starts_with('@')), "{text}");
}

#[test]
fn what_is_no_node_is_named() {
    let bad = [
        "",
        " , ",
        "x",
        "x:",
        ":1",
        "x:0",
        "x:65536",
        "x:1:2",
        "x:99999999999999999999",
        "http://x:1",
        "a;b:1",
        "a{b:1",
        "$a:1",
        "`a`:1",
        "x:1;",
        "[::1;]:1",
        "[::1",
        "a b",
    ];
    for nodes in bad {
        let output = render(nodes, &[]);
        assert_eq!(output.status.code(), Some(64), "{nodes:?} {output:?}");
        assert!(output.stdout.is_empty() && output.stderr.starts_with(b"render: "), "{nodes:?} {output:?}");
    }
    for (name, value) in [
        ("REGISTRY_NGINX_LISTEN", "80;"),
        ("REGISTRY_NGINX_LISTEN", "x"),
        ("REGISTRY_NGINX_DIR", "relative"),
        ("REGISTRY_NGINX_DIR", "/a b"),
        ("REGISTRY_NGINX_LOG", "/a;b"),
        ("REGISTRY_NGINX_CHANGES_PER_ADDRESS", "0"),
        ("REGISTRY_NGINX_CHANGES_PER_ADDRESS", "10000000"),
        ("REGISTRY_NGINX_OPEN_CHANGES_PER_ADDRESS", "0"),
        ("REGISTRY_NGINX_OPEN_CHANGES_PER_ADDRESS", "1;"),
    ] {
        let output = render("127.0.0.1:1", &[(name, value)]);
        assert_eq!(output.status.code(), Some(64), "{name}={value} {output:?}");
    }
}

#[test]
fn a_name_without_an_address_is_left_out_and_said() {
    let output = render("127.0.0.1:1 nowhere.invalid:2", &[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(servers(&output), ["127.0.0.1:1 max_fails=0"]);
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("nowhere.invalid has no address"), "{words}");
    let output = render("nowhere.invalid:2", &[]);
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert_eq!(servers(&output), ["127.0.0.1:9 down"]);
}

#[tokio::test]
async fn nginx_finds_the_configuration_in_order() {
    let nginx = Nginx::start(&[1, 2, 3, 4, 5]).await;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("nginx.conf");
    let directory = dir.path().to_str().unwrap();
    let mut settings = nginx.settings();
    settings.push(("REGISTRY_NGINX_DIR".into(), directory.into()));
    let output = Command::new(script("render")).envs(settings).output().unwrap();
    fs::write(&config, &output.stdout).unwrap();
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap());
    // With as many files as there may be, as nginx/run has it.
    let check = "ulimit -n \"$(ulimit -H -n)\" && exec nginx -t -c \"$0\"";
    let check = Command::new("sh").env("PATH", path).args(["-c", check]).arg(&config).output().unwrap();
    let words = String::from_utf8(check.stderr).unwrap();
    assert!(check.status.success(), "{words}");
    assert!(!words.contains("[warn]") && !words.contains("[alert]"), "{words}");
}

/// A name server of one's own: a `getent` that reads a file, one line for each address: NAME ADDRESS.
struct Names {
    dir: tempfile::TempDir,
}

impl Names {
    fn new() -> Self {
        let names = Self { dir: tempfile::tempdir().unwrap() };
        names.are("");
        let program = names.dir.path().join("getent");
        let file = names.file();
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = ahostsv4 ] || exit 2\nawk -v name=\"$2\" '$1 == name {{ print $2, \"STREAM\"; found = 1 }}\n\
             END {{ exit !found }}' {}\n",
            file.display()
        );
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        names
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("names")
    }

    fn are(&self, lines: &str) {
        let next = self.dir.path().join("next");
        fs::write(&next, lines).unwrap();
        fs::rename(next, self.file()).unwrap();
    }

    fn path(&self) -> String {
        format!("{}:{}", self.dir.path().display(), std::env::var("PATH").unwrap())
    }
}

#[tokio::test]
async fn nodes_whose_names_appear_move_and_go_are_followed() {
    let one = Stub::start(Answer::Status(200, "", "\"one\"")).await;
    let two = Stub::start(Answer::Status(200, "", "\"two\"")).await;
    let names = Names::new();
    let nodes = format!("first:{} second:{}", one.port, two.port);
    let nginx = Nginx::start_with(&nodes, &[("PATH", &names.path())]).await;
    let client = Client::new(nginx.port());
    client.get("/services").await.unwrap().is_problem(ProblemType::Unavailable);

    let answers = async |wanted: &[&str]| {
        wait_until(SOON, &format!("answers of {wanted:?}"), async || {
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..6 {
                // Each on a new connection: an old one stays with a process that ends after its answer.
                let reply = Client::new(nginx.port()).get("/services").await.unwrap();
                seen.insert(format!("{} {}", reply.status, reply.body));
            }
            seen.iter().map(String::as_str).eq(wanted.iter().copied())
        })
        .await;
    };
    names.are("first 127.0.0.1\n");
    answers(&["200 \"one\""]).await;
    names.are("first 127.0.0.1\nsecond 127.0.0.1\n");
    answers(&["200 \"one\"", "200 \"two\""]).await;
    // Nobody listens there: a container that is gone.
    names.are("first 127.0.0.2\nsecond 127.0.0.1\n");
    answers(&["200 \"two\""]).await;
    names.are("first 127.0.0.1\nfirst 127.0.0.2\n");
    answers(&["200 \"one\""]).await;
    // A name server that is away changes nothing.
    let before = nginx.config();
    names.are("");
    for _ in 0..20 {
        assert_eq!(client.get("/services").await.unwrap().body, "one");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(nginx.config(), before);
}
