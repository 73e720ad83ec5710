//! What the tests start, and how they look at it.

mod client;
mod database;
mod poller;
mod proxy;
mod registry;
mod service;
mod sidecar;

use std::{path::PathBuf, time::Duration};

use rustix::process::{Pid, kill_process};
use testkit::{Process, Signal};

pub(crate) use self::{
    client::Client,
    database::{execute, number},
    poller::Poller,
    proxy::Proxy,
    registry::Registry,
    service::{Answer, Sample, Switch},
    sidecar::Sidecar,
};

/// The tick of every node here: fifteen in a lease, and a machine that is busy does not blind a node for long.
pub(crate) const TICK: Duration = Duration::from_millis(200);

/// The lease of every sidecar here: three beats of one second.
pub(crate) const TTL: Duration = Duration::from_secs(3);

/// For what takes no time but the machine's, which other tests share.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The program of the registry.
pub(crate) const REGISTRY: &str = env!("CARGO_BIN_EXE_registry");

/// The program of the sidecar, which cargo puts beside it.
pub(crate) fn sidecar_program() -> PathBuf {
    let path = PathBuf::from(REGISTRY).with_file_name("sidecar");
    assert!(path.is_file(), "{} is missing: cargo build --workspace first", path.display());
    path
}

/// Sends a signal to the one child of a process: to process 1 of the namespace that `unshare` made.
pub(crate) fn signal_child(parent: &Process, signal: Signal) {
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", parent.pid())).unwrap();
    let child = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    kill_process(child, signal).unwrap();
}
