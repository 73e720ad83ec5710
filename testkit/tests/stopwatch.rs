//! The stopwatch leaves out the time in which its process was not run, and no other.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use testkit::Stopwatch;
use tokio::time::Instant;

const SOON: Duration = Duration::from_secs(20);

const PAUSED: Duration = Duration::from_millis(1500);

/// What the process below measures while it runs.
const RUNS: Duration = Duration::from_millis(300);

/// Run by the test below in a process of its own, which is stopped for a time.
#[test]
#[ignore = "started by another test"]
fn measures_a_pause() {
    let begun = Instant::now();
    let watch = Stopwatch::start();
    println!("\nstarted");
    let until = |what: &str, done: &dyn Fn() -> bool| {
        while !done() {
            assert!(begun.elapsed() < SOON, "{what}");
            thread::sleep(Duration::from_millis(1));
        }
    };
    until("it is stopped", &|| watch.longest_stall() > PAUSED / 2);
    let stopped = watch.elapsed();
    until("what it runs counts", &|| watch.elapsed() >= stopped + RUNS);
    println!("\nmeasured {} {}", watch.elapsed().as_millis(), watch.longest_stall().as_millis());
}

#[test]
fn a_pause_of_the_whole_process_does_not_count() {
    let mut measuring = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "measures_a_pause", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(measuring.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "started"));
    let pid = Pid::from_child(&measuring);
    kill_process(pid, Signal::STOP).unwrap();
    thread::sleep(PAUSED);
    kill_process(pid, Signal::CONT).unwrap();
    let line = lines.find_map(|line| line.strip_prefix("measured ").map(str::to_owned)).unwrap();
    assert!(measuring.wait().unwrap().success());
    let figures: Vec<u128> = line.split(' ').map(|figure| figure.parse().unwrap()).collect();
    let [counted, longest] = figures[..] else { panic!("{line}") };
    assert!(longest >= PAUSED.as_millis() - 100, "{line}");
    // More than the pause if that had counted.
    assert!((RUNS.as_millis()..PAUSED.as_millis()).contains(&counted), "{line}");
}
