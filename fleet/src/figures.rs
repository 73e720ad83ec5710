//! What a run measured: counts, rates, latencies, errors, retries.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::Serialize;

use crate::history::{Act, Answer, At, History, Operation, Outcome, Subject, What};

/// What was measured of one kind of call.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// The kind.
    pub kind: &'static str,
    /// How many calls ended.
    pub count: usize,
    /// How many of them in a second, on average over the run.
    pub per_second: f64,
    /// Half of the answers took at most this many milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 answers took at most this many milliseconds.
    pub p99_ms: f64,
    /// The longest, in milliseconds.
    pub max_ms: f64,
    /// Calls without the answer that was hoped for, by status; 0 is no answer.
    pub errors: BTreeMap<u16, usize>,
}

/// What a run measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// From the first call's start to the last one's end, in seconds.
    pub seconds: f64,
    /// All calls.
    pub operations: usize,
    /// Calls of a sidecar that followed one that had failed.
    pub retries: usize,
    /// Calls that were given up before they were sent, because too many others were under way.
    pub unsent: usize,
    /// By kind.
    pub kinds: Vec<Line>,
}

const KINDS: [&str; 8] = [
    "register",
    "beat",
    "drain",
    "deregister",
    "get services",
    "get instances",
    "get service",
    "get instance",
];

/// The kind's place in [`KINDS`], and whether the answer was the one hoped for.
fn classify(operation: &Operation) -> (usize, bool) {
    match &operation.what {
        What::Write(write) => {
            let kind = match write.act {
                Act::Register => 0,
                Act::Beat => 1,
                Act::Drain => 2,
                Act::Deregister => 3,
            };
            (kind, matches!(write.outcome, Outcome::Acknowledged | Outcome::CutShort))
        }
        What::Read(read) => {
            let kind = match read.subject {
                Subject::Services => 4,
                Subject::Instances => 5,
                Subject::Service { .. } => 6,
                Subject::Instance { .. } | Subject::Nobody => 7,
            };
            // A 404 is an answer.
            (kind, read.answer != Answer::Nothing)
        }
    }
}

impl Figures {
    /// The figures of a history.
    pub fn of(history: &History) -> Self {
        let operations = &history.operations;
        let start = operations.iter().map(|operation| operation.start).min().unwrap_or_default();
        let end = operations.iter().map(|operation| operation.end).max().unwrap_or_default();
        let seconds = end.since(start).as_secs_f64();
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); KINDS.len()];
        let mut errors: Vec<BTreeMap<u16, usize>> = vec![BTreeMap::new(); KINDS.len()];
        for operation in operations {
            let (kind, good) = classify(operation);
            times[kind].push(operation.end.since(operation.start));
            if !good {
                *errors[kind].entry(operation.status).or_default() += 1;
            }
        }
        let lines = KINDS.into_iter().zip(times).zip(errors);
        let kinds = lines
            .filter(|((_, times), _)| !times.is_empty())
            .map(|((kind, mut times), errors)| {
                times.sort_unstable();
                Line {
                    kind,
                    count: times.len(),
                    per_second: rate(times.len(), seconds),
                    p50_ms: percentile(&times, 50),
                    p99_ms: percentile(&times, 99),
                    max_ms: percentile(&times, 100),
                    errors,
                }
            })
            .collect();
        Self {
            seconds,
            operations: operations.len(),
            retries: retries(history),
            unsent: history.unsent,
            kinds,
        }
    }

    /// How many of a hundred calls did not get the answer that was hoped for.
    pub fn unanswered_percent(&self) -> usize {
        let errors: usize = self.kinds.iter().flat_map(|line| line.errors.values()).sum();
        (errors * 100).checked_div(self.operations).unwrap_or_default()
    }

    /// A table for people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<15}{:>9}{:>10}{:>10}{:>10}{:>10}  errors\n",
            "call", "count", "per s", "p50 ms", "p99 ms", "max ms"
        );
        for line in &self.kinds {
            let error = |(status, count): (&u16, &usize)| match status {
                0 => format!("{count} without an answer"),
                status => format!("{count} x {status}"),
            };
            let errors: Vec<String> = line.errors.iter().map(error).collect();
            let errors = if errors.is_empty() { "none".to_owned() } else { errors.join(", ") };
            let _ = writeln!(
                text,
                "{:<15}{:>9}{:>10.1}{:>10.2}{:>10.2}{:>10.2}  {errors}",
                line.kind, line.count, line.per_second, line.p50_ms, line.p99_ms, line.max_ms
            );
        }
        let rate = rate(self.operations, self.seconds);
        let _ = writeln!(
            text,
            "{} calls in {:.1} s ({rate:.1} per s), {} retries",
            self.operations, self.seconds, self.retries
        );
        if self.unsent > 0 {
            let _ = writeln!(
                text,
                "{} calls were never sent: too many were under way (see --in-flight)",
                self.unsent
            );
        }
        text
    }
}

fn rate(count: usize, seconds: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let count = count as f64;
    if seconds > 0.0 { count / seconds } else { 0.0 }
}

/// The nearest-rank percentile, in milliseconds, of times in order.
fn percentile(times: &[Duration], percent: usize) -> f64 {
    let rank = (times.len() * percent).div_ceil(100).max(1) - 1;
    times.get(rank).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

fn retries(history: &History) -> usize {
    let mut writes: Vec<(u32, At, bool)> = history
        .operations
        .iter()
        .filter_map(|operation| match operation.what {
            What::Write(write) => {
                let good = !matches!(write.outcome, Outcome::Maybe | Outcome::Refused);
                Some((write.instance, operation.start, good))
            }
            What::Read(_) => None,
        })
        .collect();
    writes.sort_unstable();
    writes.windows(2).filter(|pair| pair[0].0 == pair[1].0 && !pair[0].2).count()
}

#[cfg(test)]
mod tests;
