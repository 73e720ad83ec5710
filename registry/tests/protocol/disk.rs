//! SQLite on a disk that takes nothing any more.

use std::{fs::File, io::Write, time::Duration};

use registry_wire::ProblemType;
use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use testkit::wait_until;
use tokio::time::{Instant, sleep};

use crate::{
    harness::{PATIENCE, path},
    program::Program,
};

/// Lets the program write files up to this size.
fn limit_files(program: &Program, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Some(program.pid()), Resource::Fsize, limit).unwrap();
}

fn registration() -> Value {
    json!({"endpoint": "http://h:1", "session": "s", "ttl_seconds": 3})
}

/// For longer than a lease, changes are refused, and everything that needs no disk goes on: beats, reads, 404s.
async fn refuses_changes_and_nothing_else(program: &Program) {
    let (at, body) = (path("web", "a"), registration());
    let beat = format!("{at}/heartbeat");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        for (method, path, body) in [
            ("PUT", path("web", "new"), &body),
            ("PUT", at.clone(), &body),
            ("PUT", beat.clone(), &json!({"session": "s", "status": "critical"})),
            ("PUT", format!("{at}/drain"), &json!({"reason": "r"})),
            ("DELETE", at.clone(), &json!(null)),
            ("POST", "/register".into(), &json!({"service_name": "flat", "endpoint": "http://h:1"})),
        ] {
            program.once(method, &path, body).await.problem(ProblemType::Unavailable);
        }
        program.once("PUT", &beat, &json!({"session": "s"})).await.ok();
        let entry = program.get(&at).await;
        assert_eq!((&entry.ok()["stale"], &entry.body["status"]), (&json!(false), &json!("passing")));
        assert_eq!(program.get("/services").await.ok(), &json!(["web"]));
        let unknown = format!("{}/heartbeat", path("no", "a"));
        program.once("PUT", &unknown, &json!({})).await.problem(ProblemType::UnknownInstance);
        assert_eq!(program.get("/services/no").await.status, 404);
        program.get("/readyz").await.ok();
        sleep(Duration::from_millis(100)).await;
    }
}

/// The disk is well again: so is the node, by itself.
async fn takes_changes_again(program: Program) {
    wait_until(PATIENCE, "it takes registrations again", async || {
        let answer = program.once("PUT", &path("web", "new"), &registration()).await;
        matches!(answer.status, 200 | 201)
    })
    .await;
    let beat = format!("{}/heartbeat", path("web", "a"));
    program.put(&beat, &json!({"session": "s", "status": "warning"})).await.ok();
    assert_eq!(program.terminate().await, Some(0));
}

#[tokio::test]
async fn a_disk_that_fails_refuses_changes_and_nothing_else() {
    // Every write to a file fails from the moment at which it is told so, which does not end the program.
    let program = Program::start_in_shell("trap '' XFSZ; exec \"$0\"", &[]).await;
    assert_eq!(program.put(&path("web", "a"), &registration()).await.status, 201);
    limit_files(&program, Some(0));
    refuses_changes_and_nothing_else(&program).await;
    limit_files(&program, None);
    takes_changes_again(program).await;
}

#[tokio::test]
async fn a_full_disk_refuses_changes_and_nothing_else() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: a disk of its own needs root");
        return;
    }
    // A disk that the program alone sees, and that ends with it.
    let script = "mkdir small && exec unshare --mount --propagation private sh -c \
                  'mount -t tmpfs -o size=1m small small && exec \"$0\"' \"$0\"";
    let program = Program::start_in_shell(script, &[("DATABASE_URL", "sqlite://small/registry.db")]).await;
    assert_eq!(program.put(&path("web", "a"), &registration()).await.status, 201);
    let pid = program.pid().as_raw_nonzero();
    let filler = format!("/proc/{pid}/cwd/small/filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    // What is left of a block may take one more.
    wait_until(PATIENCE, "the disk is full", async || {
        let answer = program.once("PUT", &path("web", "a"), &registration()).await;
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        answer.status == 503
    })
    .await;
    refuses_changes_and_nothing_else(&program).await;
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    takes_changes_again(program).await;
}
