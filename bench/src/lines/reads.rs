//! Reads.

use super::{Group, ratio};
use crate::{
    Result,
    lab::Lab,
    line::Line,
    numbers::{over_rounds, whole},
    population::{Beats, Population},
    rounds,
    stage::{Calls, Stage},
    wrk,
};

/// About these lines.
pub const GROUP: Group = Group {
    name: "reads",
    title: "Reads",
    about: "\
wrk asks for services by random names on 64 kept connections, as fast as it is answered. 1,000 services have 10 \
instances each, so an answer names ten instances. Meanwhile 1,000 beats a second arrive at the node over other \
connections, also while the limit is measured, so that both have as much of the machine.",
    apart: false,
};

const WORK: &str = "`GET /services/{name}`, random names, while 1,000 beats/s arrive";
const PROMISE: f64 = 0.85;

/// Beats that arrive each second meanwhile.
const BEATS: u32 = 1_000;

struct Reads;

impl Calls for Reads {
    const NAME: &'static str = "reads";

    fn of(population: &Population, n: usize) -> (&'static str, String, String) {
        ("GET", format!("/services/{}", population.service(n)), String::new())
    }
}

/// Measures them.
///
/// # Errors
/// See [`super::run`].
pub async fn run(lab: &Lab) -> Result<Vec<Line>> {
    let promise = format!("≥ {PROMISE} × limit");
    if !lab.has("wrk") {
        return Ok(vec![Line::left_out(WORK, &promise, wrk::MISSING)]);
    }
    let stage = Stage::open::<Reads>(lab).await?;
    let store = stage.store()?;
    let beats = Beats::start(stage.node.port(), lab.population(), BEATS);
    let mut pairs = Vec::new();
    for round in 0..lab.rounds().count {
        pairs.push(rounds::pair(lab, round, &stage.limit, &stage.node, Some(store), &stage.requests).await?);
    }
    let beats = beats.end().await?;
    let throughput = over_rounds(&pairs, rounds::Pair::throughput);
    let notes = format!(
        "{} of {} calls/s; node {:.1} µs of CPU a call with its share of the beats, limit {:.1} µs; p99 {:.1} ms, \
         limit {:.1} ms; {} beats/s arrived",
        whole(over_rounds(&pairs, |pair| pair.node.report.rate).median),
        whole(over_rounds(&pairs, |pair| pair.limit.report.rate).median),
        over_rounds(&pairs, |pair| pair.node.cpu).median,
        over_rounds(&pairs, |pair| pair.limit.cpu).median,
        over_rounds(&pairs, |pair| pair.node.report.p99.as_secs_f64() * 1e3).median,
        over_rounds(&pairs, |pair| pair.limit.report.p99.as_secs_f64() * 1e3).median,
        whole(beats),
    );
    let measured = ratio(throughput, "limit");
    Ok(vec![Line::new(WORK, &promise, measured, throughput.median >= PROMISE).note(notes)])
}
