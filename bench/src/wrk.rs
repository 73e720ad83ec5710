//! Load by wrk.

use std::{io::Write, path::Path, time::Duration};

use tokio::process::Command;

use crate::{Result, lab::Lab};

/// Connections of every load.
pub const CONNECTIONS: usize = 64;

/// As many as there are cores where this was written: the client is never the one that lacks a thread.
const THREADS: usize = 2;

/// Why lines are left out where it is missing.
pub const MISSING: &str = "wrk is not installed (Debian: wrk)";

/// What wrk saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Answers.
    pub calls: f64,
    /// Answers a second.
    pub rate: f64,
    /// Median latency.
    pub p50: Duration,
    /// The 99th percentile of the latency.
    pub p99: Duration,
}

/// Loads a server for some time. `script` is one of `bench/lua`, `arguments` what it asks for.
///
/// # Errors
/// wrk does not run, or a call was not answered with success.
pub async fn run(lab: &Lab, port: u16, script: &str, arguments: &[&str], length: Duration) -> Result<Report> {
    let output = Command::new("wrk")
        .args(["--timeout", "5s", "-t", &THREADS.to_string(), "-c", &CONNECTIONS.to_string()])
        .args(["-d", &format!("{}s", length.as_secs().max(1)), "-s"])
        .arg(lab.file("lua").join(script))
        .arg(format!("http://127.0.0.1:{port}/"))
        .arg("--")
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text)
        .map_err(|error| format!("wrk: {error}: {text}{}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Reads the line that the scripts write at their end: calls, microseconds, answers that were no success, calls
/// without an answer, p50 and p99 in microseconds.
///
/// # Errors
/// It is not there, or not every call ended well.
pub fn parse(output: &str) -> Result<Report> {
    let line = output.lines().find_map(|line| line.strip_prefix("bench ")).ok_or("no result")?;
    let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<std::result::Result<_, _>>()?;
    let [calls, microseconds, refused, failed, p50, p99] = numbers[..] else {
        return Err("a result of another kind".into());
    };
    if refused + failed > 0 || calls == 0 || microseconds == 0 {
        return Err(format!("{refused} of {calls} calls refused, {failed} failed").into());
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
    let (calls, seconds) = (calls as f64, microseconds as f64 / 1e6);
    let [p50, p99] = [p50, p99].map(Duration::from_micros);
    Ok(Report { calls, rate: calls / seconds, p50, p99 })
}

/// Writes the requests that `random.lua` sends: method, path and body of each.
///
/// # Errors
/// The file cannot be written.
pub fn requests(path: &Path, requests: impl Iterator<Item = (&'static str, String, String)>) -> Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for (method, path, body) in requests {
        writeln!(file, "{method} {path} {body}")?;
    }
    Ok(file.flush()?)
}

#[cfg(test)]
mod tests;
