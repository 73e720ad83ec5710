//! The program `fleet`: what it prints, how it ends, what it leaves behind.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use testkit::wait_until;

use crate::cluster::{Cluster, SOON};

fn fleet(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fleet")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(url: &str, more: &[&str]) -> Output {
    let short = ["--services", "10", "--duration", "5s", "--ttl", "3", "--interval", "1", "--tick", "250ms"];
    fleet(&[&["run", "--registry", url][..], &short, more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_prints_a_verdict_keeps_its_history_and_leaves_nothing_behind() {
    let cluster = Cluster::start(2, None).await;
    let urls: Vec<String> = cluster.config().targets.iter().map(|target| target.url.to_string()).collect();
    let dir = tempfile::tempdir().unwrap();
    let history = dir.path().join("history.jsonl");
    let history = history.to_str().unwrap();
    let (both, first) = (urls.join(","), &urls[0]);
    let done = tokio::task::block_in_place(|| {
        run(&both, &["--kill-fraction", "0.1", "--seed", "7", "--history", history])
    });
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert_eq!(done.status.code(), Some(0), "{out}\n{err}");
    for words in
        ["false expiry", "lost ack", "zombie", "empty answer", "brake", "verdict: innocent (seed 7)", "beat"]
    {
        assert!(out.contains(words), "{words}: {out}");
    }
    assert!(err.contains("killing 2 sidecars"), "{err}");
    // A node hears a moment later of what was deregistered at the other one.
    wait_until(SOON, "nothing is left", async || {
        let names = reqwest::get(format!("{first}services")).await.unwrap();
        names.status().is_success() && names.text().await.unwrap() == "[]"
    })
    .await;

    // The same history gives the same verdict, and a false one is told from a true one.
    let again = fleet(&["judge", history, "--json"]);
    let told: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((again.status.code(), &told["innocent"], &told["seed"]), (Some(0), &true.into(), &7.into()));
    assert!(told["figures"]["operations"].as_u64().unwrap() > 100);
    forge(Path::new(history));
    let forged = fleet(&["judge", history]);
    let out = text(&forged.stdout);
    assert_eq!(forged.status.code(), Some(1), "{out}");
    assert!(out.contains("GUILTY") && out.contains(", 0 of this run: []"), "{out}");
}

/// Empties the full and fresh lists of a history, all of them: one may be from before the registrations are certain, or
/// from after a time in which the machine stood still and no lease was.
fn forge(path: &Path) {
    let lines = std::fs::read_to_string(path).unwrap();
    let mut lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let list = "/operation/what/read/answer/list";
    let full: Vec<_> = lines
        .iter_mut()
        .filter(|line| line.pointer("/operation/what/read/age") == Some(&0.into()))
        .filter_map(|line| line.pointer_mut(list))
        .filter(|list| list.as_array().is_some_and(|list| list.len() > 10))
        .collect();
    assert!(!full.is_empty());
    for list in full {
        *list = Value::Array(Vec::new());
    }
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    std::fs::write(path, lines.join("\n")).unwrap();
}

#[test]
fn wrong_use_ends_with_64_and_one_line() {
    let wrong: [&[&str]; 8] = [
        &[],
        &["run"],
        &["run", "--registry", "https://127.0.0.1"],
        &["run", "--registry", "http://127.0.0.1", "--ttl", "2"],
        &["run", "--registry", "http://127.0.0.1", "--services", "0"],
        &["run", "--registry", "http://127.0.0.1", "--kill-fraction", "1.5"],
        &["run", "--registry", "http://127.0.0.1", "--duration", "60"],
        &["run", "--registry", "http://127.0.0.1", "--token-file", "/nowhere"],
    ];
    for arguments in wrong {
        let done = fleet(arguments);
        let err = text(&done.stderr);
        assert_eq!(done.status.code(), Some(64), "{arguments:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{arguments:?}: {err}");
    }
}

#[test]
fn a_registry_that_is_not_there_ends_it_with_69() {
    let url = format!("http://127.0.0.1:{}", testkit::free_port());
    let done = run(&url, &[]);
    assert_eq!(done.status.code(), Some(69), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("does not answer"));
    assert_eq!(fleet(&["judge", "/nowhere"]).status.code(), Some(69));
}

#[test]
fn help_names_every_option_and_the_exit_status() {
    let done = fleet(&["run", "--help"]);
    assert_eq!(done.status.code(), Some(0));
    let out = text(&done.stdout);
    for word in ["--registry", "--seed", "--kill-fraction", "--history", "--token-file", "Exit status"] {
        assert!(out.contains(word), "{word}");
    }
}
