//! The lines of the table, in groups: each group is a module with its own `run`.

pub mod beats;
pub mod flat;
pub mod flood;
pub mod idle;
pub mod million;
pub mod reads;
pub mod registrations;
pub mod restart;
pub mod spread;

use crate::{
    Result,
    lab::Lab,
    line::Line,
    numbers::{Spread, over_rounds, whole},
    rounds::Pair,
};

/// Lines that are measured together.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    /// The name for `BENCH_ONLY`.
    pub name: &'static str,
    /// The heading.
    pub title: &'static str,
    /// What a reader must know to understand the lines: Markdown.
    pub about: &'static str,
    /// Measured only where it is asked for by name.
    pub apart: bool,
}

/// All groups, in the order of the document.
pub const GROUPS: [Group; 9] = [
    reads::GROUP,
    beats::GROUP,
    flat::GROUP,
    registrations::GROUP,
    million::GROUP,
    flood::GROUP,
    spread::GROUP,
    restart::GROUP,
    idle::GROUP,
];

/// Measures a group.
///
/// # Errors
/// A server did not start, or a program failed or wrote what is not understood.
pub async fn run(group: &Group, lab: &Lab) -> Result<Vec<Line>> {
    match group.name {
        "reads" => reads::run(lab).await,
        "beats" => beats::run(lab).await,
        "flat" => flat::run(lab).await,
        "registrations" => registrations::run(lab).await,
        "million" => million::run(lab).await,
        "flood" => flood::run(lab).await,
        "spread" => spread::run(lab).await,
        "restart" => restart::run(lab).await,
        "idle" => idle::run(lab).await,
        name => Err(format!("there is no group {name}").into()),
    }
}

/// A ratio over the rounds: the median, and in brackets the least and the most.
fn ratio(spread: Spread, of: &str) -> String {
    format!("{:.2} × {of} ({:.2}–{:.2})", spread.median, spread.least, spread.most)
}

/// Calls a second and latencies of node and limit.
fn usual_notes(pairs: &[Pair]) -> String {
    let figure = |of: fn(&Pair) -> f64| over_rounds(pairs, of).median;
    format!(
        "{} of {} calls/s; p99 {:.1} ms, limit {:.1} ms",
        whole(figure(|pair| pair.node.report.rate)),
        whole(figure(|pair| pair.limit.report.rate)),
        figure(|pair| pair.node.report.p99.as_secs_f64() * 1e3),
        figure(|pair| pair.limit.report.p99.as_secs_f64() * 1e3),
    )
}
