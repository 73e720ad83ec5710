//! Load by pgbench.

use std::{path::Path, time::Duration};

use tokio::process::Command;

use crate::{Result, wrk::CONNECTIONS};

/// Why lines are left out where it is missing.
pub const MISSING: &str = "pgbench is not installed (Debian: postgresql)";

/// Runs a script on as many connections as the other loads have; transactions a second.
///
/// # Errors
/// pgbench does not run, or a transaction fails.
pub async fn run(database: &str, script: &Path, length: Duration) -> Result<f64> {
    let output = Command::new("pgbench")
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
        .args([format!("--client={CONNECTIONS}"), format!("--time={}", length.as_secs().max(1))])
        .arg("--file")
        .arg(script)
        .arg(database)
        .kill_on_drop(true)
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout);
    match rate(&text) {
        Some(rate) if output.status.success() => Ok(rate),
        _ => Err(format!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// Transactions a second, of what pgbench writes; `None` if one failed.
fn rate(text: &str) -> Option<f64> {
    let after = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    let failed = after("number of failed transactions: ").unwrap_or("0");
    (failed == "0").then(|| after("tps = ")?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
