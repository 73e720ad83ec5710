//! Signals.

use std::{process::Command, thread, time::Duration};

use rustix::process::{Signal, geteuid};
use testkit::Stopwatch;
use tokio::time::Instant;

use crate::{
    common::{Act, Seen, Service, Sidecar, eventually, quick, with},
    registry::Registry,
};

/// From a signal until its exit, beside the time of the drain, whatever the registry does.
const EXIT: Duration = Duration::from_secs(5);

/// Far less than anything that it might wait for.
const AT_ONCE: Duration = Duration::from_secs(2);

fn registered(env: &[(&str, &str)]) -> (Service, Registry, Sidecar) {
    let (service, registry) = (Service::healthy(), Registry::start());
    let sidecar = Sidecar::start(with(quick(&service, &registry.url()), env));
    registry.server.wait("a beat", |seen| seen.iter().any(Seen::is_beat));
    (service, registry, sidecar)
}

#[test]
fn sigint_is_as_good_as_sigterm() {
    let (_service, registry, mut sidecar) = registered(&[]);
    sidecar.signal(Signal::INT);
    assert_eq!(sidecar.wait().code(), Some(0));
    assert_eq!(registry.entry(), None);
    let seen = registry.server.seen();
    assert!(seen.iter().any(|one| one.json()["reason"] == "SIGINT"), "{seen:#?}");
}

#[test]
fn it_exits_in_time_when_the_registry_is_away_or_hangs() {
    let acts = [None, Some(Act::Hang), Some(Act::Close), Some(Act::Answer(503, "{}".into()))];
    thread::scope(|scope| {
        for act in acts {
            scope.spawn(move || {
                let (_service, registry, mut sidecar) = registered(&[]);
                match act {
                    Some(act) => registry.rule(move |_| Some(act.clone())),
                    None => drop(registry),
                }
                let asked = sidecar.signal(Signal::TERM);
                let status = sidecar.wait();
                let took = asked.elapsed();
                assert_eq!(status.code(), Some(0), "{}", sidecar.log());
                assert!(took < EXIT, "{took:?}: {}", sidecar.log());
            });
        }
    });
}

#[test]
fn it_beats_while_it_drains_and_leaves_then() {
    let (_service, registry, mut sidecar) = registered(&[("DRAIN_SECONDS", "6")]);
    let (drain, begun) = (Duration::from_secs(6), Instant::now());
    let asked = sidecar.signal(Signal::TERM);
    let status = sidecar.wait();
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!(begun.elapsed() >= drain && took < drain + EXIT, "{took:?}");
    let seen = registry.server.seen();
    let drain = seen.iter().position(Seen::is_drain).unwrap();
    let delete = seen.iter().position(Seen::is_delete).unwrap();
    assert!(seen[drain..delete].iter().filter(|one| one.is_beat()).count() >= 2, "{seen:#?}");
    assert_eq!(delete, seen.len() - 1);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (_service, _registry, mut sidecar) = registered(&[("DRAIN_SECONDS", "60")]);
    sidecar.signal(Signal::TERM);
    sidecar.wait_log("draining");
    let asked = sidecar.signal(Signal::TERM);
    let status = sidecar.wait();
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(143));
    assert!(took < AT_ONCE, "{took:?}");
}

#[test]
fn before_it_registered_it_just_exits() {
    let (service, registry) = (Service::healthy(), Registry::start());
    service.set(Act::Close);
    let mut sidecar = Sidecar::start(quick(&service, &registry.url()));
    service.server.wait("a probe", |seen| !seen.is_empty());
    let asked = sidecar.signal(Signal::TERM);
    let status = sidecar.wait();
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!(took < AT_ONCE, "{took:?}");
    assert!(registry.server.seen().is_empty());
}

#[test]
fn as_pid_1_it_leaves_as_politely() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED as_pid_1_it_leaves_as_politely: needs root for a PID namespace");
        return;
    }
    let (service, registry) = (Service::healthy(), Registry::start());
    let env = quick(&service, &registry.url());
    let mut command = Command::new("unshare");
    command
        .args(["--fork", "--pid", "--mount-proc", "--kill-child", env!("CARGO_BIN_EXE_sidecar")])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(env.iter().map(|(key, value)| (key, value)));
    let mut sidecar = Sidecar::start_command(command, env);
    registry.server.wait("a beat", |seen| seen.iter().any(Seen::is_beat));
    // unshare does not pass signals on: its child is the one to tell, and the kernel shields a PID 1 without handlers.
    let parent = sidecar.pid().as_raw_nonzero();
    let child = eventually("a child", || {
        let path = format!("/proc/{parent}/task/{parent}/children");
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        text.trim().parse().map_err(|_| text.clone())
    });
    let child = rustix::process::Pid::from_raw(child).unwrap();
    let asked = Stopwatch::start();
    rustix::process::kill_process(child, Signal::TERM).unwrap();
    let status = sidecar.wait();
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(0), "{}", sidecar.log());
    assert!(took < EXIT, "{took:?}");
    assert_eq!(registry.entry(), None);
}
