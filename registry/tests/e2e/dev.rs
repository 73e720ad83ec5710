//! `registry dev`: what it prints is what happens.

use std::{path::Path, process::Command, time::Duration};

use rustix::process::{Pid, kill_process};
use tempfile::TempDir;
use testkit::{Process, Signal, Stopwatch, free_port, wait_until};

use crate::support::{Client, REGISTRY, SOON, sidecar_program};

/// Probes every 2 s, three failures, and 3 s.
const NOTICED: Duration = Duration::from_secs(2 * 3 + 3);

/// A killed sample stays away for 20 s, then a probe finds it.
const BACK: Duration = Duration::from_secs(20 + 2 + 3);

struct Dev {
    process: Process,
    client: Client,
    dir: TempDir,
}

impl Dev {
    /// Starts it in an empty directory, and waits until it has said what to try.
    async fn start() -> Self {
        Self::start_in(testkit::memory_dir(), &[]).await
    }

    async fn start_in(dir: TempDir, settings: &[(&str, &str)]) -> Self {
        sidecar_program();
        let port = free_port();
        let mut command = Command::new(REGISTRY);
        command.arg("dev").env("REGISTRY_LISTEN", format!("127.0.0.1:{port}")).current_dir(dir.path());
        command.envs(settings.iter().copied());
        let process = Process::start("dev", dir.path(), &mut command);
        wait_until(SOON, "it says what to try", async || {
            let ended = process.ended();
            assert!(ended.is_none(), "it ended: {ended:?}");
            process.stdout().contains("Ctrl-C ends everything")
        })
        .await;
        Self { process, client: Client::new(port), dir }
    }

    /// The printed lines that begin with this program.
    fn lines(&self, program: &str) -> Vec<String> {
        let text = self.process.stdout();
        let lines = text.lines().map(str::trim).filter(|line| line.split(' ').next() == Some(program));
        lines.map(str::to_owned).collect()
    }

    async fn registered(&self) {
        wait_until(SOON, "the sample is registered", async || self.usable().await).await;
    }

    async fn usable(&self) -> bool {
        self.client.look("/services/sample").await.status.is_success()
    }

    /// Ends it: with 0, without a process left behind, and with its data kept.
    async fn end(&self, signal: impl FnOnce(&Process)) {
        let started = self.process.descendants();
        assert!(started.len() >= 2, "the sample and the sidecar run: {started:?}");
        signal(&self.process);
        let status = self.process.wait(Duration::from_secs(20)).await;
        assert_eq!(status.code(), Some(0));
        for pid in started {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            assert!(stat.is_empty() || stat.contains(") Z "), "{stat} is left");
        }
        assert!(self.dir.path().join("registry.db").is_file());
        assert!(self.process.stderr().contains("deregistered"), "the sidecar did not leave politely");
    }
}

fn is_running(pid: Pid) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn the_lines_it_prints_work_and_the_sample_dies_and_comes_back() {
    let dev = Dev::start().await;
    dev.registered().await;
    let curls = dev.lines("curl");
    assert_eq!(curls.len(), 3, "{curls:?}");
    for line in &curls {
        let line = line.replacen("curl ", "curl --fail --silent --show-error ", 1);
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("sample"), "{line}: {output:?}");
    }

    let kills = dev.lines("kill");
    let [kill] = &kills[..] else { panic!("{kills:?}") };
    let sample = Pid::from_raw(kill.trim_start_matches("kill ").parse().unwrap()).unwrap();
    let killed = Stopwatch::start();
    kill_process(sample, Signal::TERM).unwrap();
    wait_until(SOON, "out of the answers", async || !dev.usable().await).await;
    assert!(killed.elapsed() < NOTICED, "out of the answers after {:?}", killed.elapsed());
    assert!(!is_running(sample), "the sample did not end");
    let all = dev.client.look("/services/sample?all=true").await;
    assert_eq!(all.body["instances"][0]["status"], "critical", "{all:?}");
    assert!(all.body["instances"][0]["output"].is_string(), "{all:?}");
    wait_until(BACK * 2, "back", async || dev.usable().await).await;
    assert!(killed.elapsed() < NOTICED + BACK, "back after {:?}", killed.elapsed());

    dev.end(|dev| dev.signal_group(Signal::INT)).await;
}

#[tokio::test]
async fn ctrl_c_lets_the_sidecar_leave_politely() {
    let dev = Dev::start().await;
    dev.registered().await;
    dev.end(|dev| dev.signal_group(Signal::INT)).await;
}

#[tokio::test]
async fn a_plain_kill_ends_all_its_processes_too() {
    let dev = Dev::start().await;
    dev.registered().await;
    dev.end(|dev| dev.signal(Signal::TERM)).await;
}

#[tokio::test]
async fn with_keys_alone_it_makes_a_token_for_its_sample() {
    let dir = testkit::memory_dir();
    let made =
        Command::new(REGISTRY).args(["token", "key", "keys"]).current_dir(dir.path()).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let dev = Dev::start_in(dir, &[("REGISTRY_TOKEN_KEYS_FILE", "keys")]).await;
    dev.registered().await;
    dev.end(|dev| dev.signal(Signal::TERM)).await;
}
