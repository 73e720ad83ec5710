use std::{ffi::OsStr, path::Path, process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

/// Longest that a program may run: a `compose up` or `down` of the whole stack on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// A program that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit status; `None` after a signal.
    pub status: Option<i32>,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

impl Finished {
    /// Whether it ended well.
    pub fn good(&self) -> bool {
        self.status == Some(0)
    }
}

/// Runs a program in a directory, with further environment variables, to its end. It is killed when it takes longer
/// than two minutes.
///
/// # Panics
/// When it cannot be started, or takes longer.
pub async fn run<S: AsRef<OsStr>>(
    program: &[S],
    directory: &Path,
    environment: &[(String, String)],
) -> Finished {
    let shown: Vec<_> = program.iter().map(|word| word.as_ref().to_string_lossy().into_owned()).collect();
    let shown = shown.join(" ");
    let mut command = Command::new(&program[0]);
    command
        .args(&program[1..])
        .current_dir(directory)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(DEADLINE, command.output())
        .await
        .unwrap_or_else(|_| panic!("no end within {DEADLINE:?}: {shown}"))
        .unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
    Finished {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
    }
}

/// Runs `docker` and gives what it printed.
///
/// # Panics
/// When it fails.
pub async fn docker(arguments: &[&str]) -> String {
    let finished = try_docker(arguments).await;
    assert!(finished.good(), "docker {}: {finished:?}", arguments.join(" "));
    finished.stdout
}

/// Runs `docker`, which may fail.
///
/// # Panics
/// When it cannot be started.
pub async fn try_docker(arguments: &[&str]) -> Finished {
    let program: Vec<_> = ["docker"].iter().chain(arguments).copied().collect();
    run(&program, Path::new("/"), &[]).await
}
