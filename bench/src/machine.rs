//! What the figures were measured on, as the system and the programs say it.

use std::{fs, path::Path, process::Command};

/// Machine, versions and date.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// What and how much: name and value, in the order in which they are shown.
    pub facts: Vec<(String, String)>,
}

impl Machine {
    /// Asks the system. What is not there is said to be missing. `root` is the source tree.
    pub fn ask(root: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let facts = [
            ("CPU", after(&read("/proc/cpuinfo"), "model name")),
            ("cores", Some(cores.to_string())),
            ("memory", after(&read("/proc/meminfo"), "MemTotal").and_then(|text| gigabytes(&text))),
            ("kernel", Some(read("/proc/sys/kernel/osrelease").trim().to_owned())),
            ("registry", commit(root)),
            ("rustc", said(Command::new("rustc").arg("--version"))),
            ("Postgres", postgres()),
            ("wrk", said(Command::new("wrk").arg("--version"))),
            ("Redis", said(Command::new("redis-server").arg("--version"))),
            ("etcd", said(Command::new("etcd").arg("--version"))),
            ("date", said(Command::new("date").args(["-u", "+%F %H:%M UTC"]))),
        ];
        let facts =
            facts.map(|(name, value)| (name.to_owned(), value.unwrap_or_else(|| "not installed".to_owned())));
        Self { facts: facts.into() }
    }
}

/// What stands after `name :` in a file of `/proc`.
fn after(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

fn gigabytes(text: &str) -> Option<String> {
    let kilobytes: f64 = text.strip_suffix("kB")?.trim().parse().ok()?;
    Some(format!("{:.1} GiB", kilobytes / 1024.0 / 1024.0))
}

fn commit(root: &Path) -> Option<String> {
    let git = |arguments: &[&str]| said(Command::new("git").arg("-C").arg(root).args(arguments));
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", ":!docs"]).is_some();
    Some(format!("commit {commit}{}", if changed { " with changes" } else { "" }))
}

fn postgres() -> Option<String> {
    said(Command::new("pg_config").arg("--version")).or_else(|| said(Command::new("psql").arg("--version")))
}

/// The first line of what a program says, on whichever output; `None` where it is not there or says nothing.
fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    Some(text.lines().next()?.trim().to_owned()).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests;
