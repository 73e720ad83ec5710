//! Heartbeats of the flat dialect.

use super::{Group, ratio, usual_notes};
use crate::{
    Result,
    lab::Lab,
    line::Line,
    numbers::over_rounds,
    population::Population,
    rounds,
    stage::{Calls, Stage},
    wrk,
};

/// About these lines.
pub const GROUP: Group = Group {
    name: "flat",
    title: "Heartbeats of the flat dialect",
    about: "\
As the heartbeats above, but by `POST /heartbeat`, where the names stand in the body.",
    apart: false,
};

const WORK: &str = "flat `POST /heartbeat`, random instances";
const PROMISE: f64 = 0.75;

struct FlatBeats;

impl Calls for FlatBeats {
    const NAME: &'static str = "flat";

    fn of(population: &Population, n: usize) -> (&'static str, String, String) {
        ("POST", "/heartbeat".to_owned(), population.flat_beat(n))
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
    let stage = Stage::open::<FlatBeats>(lab).await?;
    let store = stage.store()?;
    let mut pairs = Vec::new();
    for round in 0..lab.rounds().count {
        pairs.push(rounds::pair(lab, round, &stage.limit, &stage.node, Some(store), &stage.requests).await?);
    }
    let throughput = over_rounds(&pairs, rounds::Pair::throughput);
    let measured = ratio(throughput, "limit");
    let line = Line::new(WORK, &promise, measured, throughput.median >= PROMISE);
    Ok(vec![line.note(usual_notes(&pairs))])
}
