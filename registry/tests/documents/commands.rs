//! Every shell block of the documents is marked with who runs it, and those that are ours are run.
//!
//! | behind the fence | meaning |
//! |---|---|
//! | `sh run` | run here; all of a document in their order, in one directory, against one node at 127.0.0.1:8888 |
//! | `sh run exit-N` | the same, and it ends with N |
//! | `sh run needs-X` | the same, where there is a program X |
//! | `text output`, `json output` | what the block before it printed; `…` stands for anything |
//! | `sh containers` | needs a container engine: `make test-containers` |
//! | `sh elsewhere` | needs what no test has: a cluster, root, minutes of building |

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use tempfile::TempDir;
use testkit::{Process, wait_until};

use crate::{
    markdown::{Block, Document},
    support::{Node, REGISTRY, SOON, has, program, root, run},
};

const MARKS: [&str; 3] = ["run", "containers", "elsewhere"];

/// What stands behind the fence of a block that is no shell's.
const OTHERS: [&str; 12] = [
    "text",
    "text output",
    "text doctor",
    "json",
    "json output",
    "yaml",
    "rust",
    "toml",
    "ini",
    "sql",
    "dockerfile",
    "nginx",
];

fn is_run(block: &Block) -> bool {
    block.info.split(' ').take(2).eq(["sh", "run"])
}

#[test]
fn every_block_says_what_it_is_and_who_runs_it() {
    for path in [
        "README.md",
        "INTEGRATION_GUIDE.md",
        "SECURITY.md",
        "nginx/README.md",
        "docs/TOKENS.md",
        "docs/TLS.md",
    ] {
        for block in Document::read(path).blocks {
            let words: Vec<_> = block.info.split(' ').collect();
            let known = match words[0] {
                "sh" => words.get(1).is_some_and(|mark| MARKS.contains(mark)),
                _ => OTHERS.contains(&block.info.as_str()),
            };
            assert!(known, "{path}:{}: a block is marked '{}'; see {}", block.line, block.info, file!());
        }
    }
}

/// Makes the tree as a user has it after `make dist`, as far as the documents name it.
fn tree() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["docs", "nginx", "README.md"] {
        symlink(root().join(name), dir.path().join(name)).unwrap();
    }
    let dist = dir.path().join("dist");
    fs::create_dir(&dist).unwrap();
    symlink(REGISTRY, dist.join("registry")).unwrap();
    symlink(program("sidecar"), dist.join("sidecar")).unwrap();
    dir
}

/// Whether a text is as the pattern says, in which `…` stands for anything.
fn fits(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.trim().split('…');
    let first = parts.next().unwrap();
    let Some(mut left) = text.trim().strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
        last = Some(part);
    }
    left.is_empty() || last.is_some_and(|last| text.trim().ends_with(last))
}

#[test]
fn the_pattern_of_an_output_says_what_it_should() {
    for (text, pattern) in
        [("abc\n", "abc"), ("abc", "a…"), ("abc", "…c"), ("abcbc", "a…bc"), ("a1b2c", "a…b…c"), ("a", "…")]
    {
        assert!(fits(text, pattern), "{text} {pattern}");
    }
    for (text, pattern) in [("abc", "ab"), ("abc", "b…"), ("abc", "a…b"), ("abc", ""), ("abc", "a…d…")]
    {
        assert!(!fits(text, pattern), "{text} {pattern}");
    }
}

/// Runs the blocks of a document. Returns how many.
async fn run_all(path: &str, node: &Node) -> usize {
    run_all_in(tree().path(), path, node).await
}

/// [`run_all`] in a [`tree`] of the caller's.
async fn run_all_in(tree: &Path, path: &str, node: &Node) -> usize {
    let document = Document::read(path);
    let home = tempfile::tempdir().unwrap();
    let (here, there) = ("127.0.0.1:8888", format!("127.0.0.1:{}", node.port()));
    let mut count = 0;
    for (index, block) in document.blocks.iter().enumerate().filter(|(_, block)| is_run(block)) {
        let place = format!("{path}:{}", block.line);
        let mut needs = block.info.split(' ').filter_map(|word| word.strip_prefix("needs-"));
        if !needs.all(has) {
            continue;
        }
        let script = block.text.replace("localhost:8888", here).replace(here, &there);
        let (code, text) = shell(&script, tree, home.path(), &node.url()).await;
        let text = text.replace(&there, here);
        let expected = block.info.split(' ').find_map(|word| word.strip_prefix("exit-"));
        let expected = expected.map_or(0, |code| code.parse().unwrap());
        assert_eq!(code, expected, "{place}: ended with {code}:\n{}\n{text}", block.text);
        if let Some(next) = document.blocks.get(index + 1).filter(|next| next.info.ends_with(" output")) {
            assert!(
                fits(&text, &next.text),
                "{path}:{}: this is printed:\n{text}\n--- and not:\n{}",
                next.line,
                next.text
            );
        }
        count += 1;
    }
    count
}

async fn shell(script: &str, dir: &Path, home: &Path, registry: &str) -> (i32, String) {
    let mut command = Command::new("bash");
    command.args(["-c", &format!("exec 2>&1; set -euo pipefail\n{script}")]);
    // curl would draw its progress between the lines.
    fs::write(home.join(".curlrc"), "silent\nshow-error\nmax-time = 20\n").unwrap();
    // The examples ask 127.0.0.1:8888 unless they are told.
    command.current_dir(dir).env("HOME", home).env("REGISTRY_URL", registry);
    let (code, text, _) = run(&mut command).await;
    (code, text)
}

#[test]
fn the_rust_of_the_guide_is_a_piece_of_the_example_that_is_compiled() {
    let example = fs::read_to_string(root().join("sidecar/examples/in_process.rs")).unwrap();
    let guide = Document::read("INTEGRATION_GUIDE.md");
    let pieces: Vec<_> = guide.blocks.iter().filter(|block| block.info == "rust").collect();
    assert!(!pieces.is_empty());
    for block in pieces {
        assert!(
            example.contains(&block.text),
            "INTEGRATION_GUIDE.md:{}: it stands nowhere there",
            block.line
        );
    }
}

#[tokio::test]
async fn the_commands_of_the_readme_work() {
    let node = Node::dev().await;
    assert!(run_all("README.md", &node).await >= 2);
}

#[tokio::test]
async fn the_commands_about_tokens_work() {
    let node = Node::start(&[]).await;
    assert!(run_all("docs/TOKENS.md", &node).await >= 5);
}

#[tokio::test]
async fn the_commands_about_tls_make_files_that_work() {
    if !has("openssl") {
        return;
    }
    let (node, tree) = (Node::start(&[]).await, tree());
    assert_eq!(run_all_in(tree.path(), "docs/TLS.md", &node).await, 3);
    let file = |name: &str| tree.path().join("tls").join(name).to_str().unwrap().to_owned();
    let port = testkit::free_port();
    let mut serve = Command::new(REGISTRY);
    serve
        .env("REGISTRY_LISTEN", format!("127.0.0.1:{port}"))
        .envs([("REGISTRY_TLS_CERT", file("node.pem")), ("REGISTRY_TLS_KEY", file("node.key"))])
        .env("REGISTRY_TLS_CLIENT_CA", file("ca.pem"))
        .current_dir(tree.path());
    let process = Process::start("registry", tree.path(), &mut serve);
    // Both of its names and its address, with the certificate of a client: all as the document makes them.
    for host in ["localhost", "127.0.0.1"] {
        let mut doctor = Command::new(program("sidecar"));
        doctor
            .arg("doctor")
            .envs([("SERVICE_NAME", "orders"), ("SERVICE_HOST", "127.0.0.1")])
            .env("REGISTRY_URL", format!("https://{host}:{port}"))
            .env("REGISTRY_CA_FILE", file("ca.pem"))
            .env("REGISTRY_CLIENT_CERT_FILE", file("orders.pem"))
            .env("REGISTRY_CLIENT_KEY_FILE", file("orders.key"));
        wait_until(SOON, "the registry is ready", async || {
            assert!(process.ended().is_none(), "{}", process.stderr());
            run(&mut doctor).await.1.contains("TLS is good, the registry is ready")
        })
        .await;
    }
    assert!(!process.stderr().contains("WARN"), "nothing is to be warned of: {}", process.stderr());
}

#[tokio::test]
async fn the_commands_of_the_guide_work() {
    let node = Node::start(&[]).await;
    assert!(run_all("INTEGRATION_GUIDE.md", &node).await >= 5);
}
