//! A process gets its own environment and directory for output, and never outlives who started it.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use testkit::{Process, Signal, wait_until};

const SOON: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn runs(pid: &str) -> bool {
    // A zombie that nobody waits for has ended.
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[tokio::test]
async fn output_and_status_are_kept_and_the_environment_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = shell("echo \"$GIVEN-$CARGO_MANIFEST_DIR\"; echo oops >&2; exit 7");
    let process = Process::start("shell", dir.path(), command.env("GIVEN", "yes"));
    assert_eq!(process.wait(SOON).await.code(), Some(7));
    assert_eq!(process.stdout(), "yes-\n");
    assert_eq!(process.stderr(), "oops\n");
}

#[tokio::test]
async fn dropping_it_ends_what_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let process =
        Process::start("shell", dir.path(), &mut shell("trap '' TERM; sleep 1000 & echo $!; wait; wait"));
    wait_until(SOON, "started", async || process.stdout().ends_with('\n')).await;
    let child = process.stdout().trim().to_owned();
    assert_eq!(process.descendants(), [child.parse::<u32>().unwrap()]);
    process.signal(Signal::TERM);
    assert!(process.ended().is_none() && runs(&child));
    drop(process);
    wait_until(SOON, "ended", async || !runs(&child)).await;
}

/// Run by the test below in a process of its own, which is killed.
#[tokio::test]
#[ignore = "started by another test"]
async fn start_and_wait() {
    let dir = tempfile::tempdir().unwrap();
    let script = "sleep 1000 & one=$!; setsid sleep 1000 & echo $one $!; wait";
    let process = Process::start("shell", dir.path(), &mut shell(script));
    wait_until(SOON, "started", async || process.stdout().ends_with('\n')).await;
    println!("pids {} {}", process.pid(), process.stdout().trim());
    std::thread::sleep(Duration::from_mins(5));
}

#[tokio::test]
async fn nothing_outlives_a_killed_test_process() {
    let mut tests = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "start_and_wait", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(tests.stdout.take().unwrap()).lines();
    let line = lines.map_while(Result::ok).find(|line| line.contains("pids ")).unwrap();
    let pids: Vec<_> = line.split("pids ").nth(1).unwrap().split(' ').map(str::to_owned).collect();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| runs(pid)), "{pids:?}");
    tests.kill().unwrap();
    tests.wait().unwrap();
    // The third has left the group.
    wait_until(SOON, "ended with the tests", async || !pids.iter().any(|pid| runs(pid))).await;
}
