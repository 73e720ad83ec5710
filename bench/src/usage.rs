//! What the kernel says that processes use.

use std::{fs, path::Path, time::Duration};

/// CPU time of a process since it began, all its threads together, those that have ended too.
///
/// # Errors
/// It does not run, or there is no `/proc`.
pub fn cpu(pid: u32) -> crate::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    of_stat(&stat, 11..13).ok_or_else(|| format!("/proc/{pid}/stat is not as proc(5) says").into())
}

/// CPU time of a process and of its children, those that have ended and were waited for too: a Postgres server.
///
/// # Errors
/// As [`cpu`].
pub fn cpu_with_children(pid: u32) -> crate::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let own = of_stat(&stat, 11..15).ok_or_else(|| format!("/proc/{pid}/stat is not as proc(5) says"))?;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    // One that ended just now is counted with its parent.
    Ok(own + children.split_whitespace().filter_map(|child| cpu(child.parse().ok()?).ok()).sum::<Duration>())
}

/// Resident memory of a process, in bytes.
///
/// # Errors
/// As [`cpu`].
pub fn resident(pid: u32) -> crate::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    Ok(kilobytes.ok_or("no VmRSS")?.parse::<u64>()? * 1024)
}

/// How many file descriptors a process has open.
///
/// # Errors
/// As [`cpu`].
pub fn descriptors(pid: u32) -> crate::Result<usize> {
    Ok(fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd"))?.count())
}

/// The sum of some fields behind the name, which may hold anything and ends at the last bracket (proc(5)).
fn of_stat(stat: &str, fields: std::ops::Range<usize>) -> Option<Duration> {
    let rest = stat.rsplit(") ").next()?;
    let ticks: Option<Vec<u64>> = rest
        .split_whitespace()
        .skip(fields.start)
        .take(fields.len())
        .map(|field| field.parse().ok())
        .collect();
    let ticks = ticks.filter(|ticks| ticks.len() == fields.len())?;
    let nanoseconds = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    Some(Duration::from_nanos(ticks.iter().sum::<u64>() * nanoseconds))
}

#[cfg(test)]
mod tests;
