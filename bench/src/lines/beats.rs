//! Heartbeats.

use super::{Group, ratio, usual_notes};
use crate::{
    Result,
    lab::Lab,
    line::Line,
    numbers::{Spread, over_rounds, whole},
    peers::{Etcd, Redis},
    population::Population,
    rounds::{self, Pair},
    stage::{Calls, Stage},
    wrk,
};

/// About these lines.
pub const GROUP: Group = Group {
    name: "beats",
    title: "Heartbeats",
    about: "\
wrk sends beats of random instances among 10,000 on 64 kept connections, as our sidecar sends them, with session and \
status. The CPU is that of the node's process and, beside it, of all processes of Postgres, divided by the beats of the \
round; Postgres gets one row of beats a second, however many there are. Redis is asked to `SET` a random one of 10,000 keys with a time to live \
by redis-benchmark on 64 connections without pipelining, and writes nothing to disk. etcd is asked by wrk, on 64 \
connections, to keep a random one of 10,000 leases alive over its JSON gateway, which is how a program without a client library does it.",
    apart: false,
};

const WORK: &str = "native heartbeat, random instances";
const LIMIT: f64 = 0.85;
const CPU: f64 = 1.35;
const REDIS: f64 = 1.0;
const ETCD: f64 = 12.0;

struct NativeBeats;

impl Calls for NativeBeats {
    const NAME: &'static str = "beats";

    fn of(population: &Population, n: usize) -> (&'static str, String, String) {
        let (path, body) = population.beat(n);
        ("PUT", path, body)
    }
}

/// Rates of one round, in calls a second.
struct Round {
    pair: Pair,
    redis: Option<f64>,
    etcd: Option<f64>,
}

/// Measures them.
///
/// # Errors
/// See [`super::run`].
pub async fn run(lab: &Lab) -> Result<Vec<Line>> {
    if !lab.has("wrk") {
        return Ok(vec![Line::left_out(WORK, &format!("≥ {LIMIT} × limit"), wrk::MISSING)]);
    }
    let stage = Stage::open::<NativeBeats>(lab).await?;
    let store = stage.store()?;
    let redis = if Redis::is_installed(lab) { Some(Redis::start(lab).await?) } else { None };
    let etcd = if Etcd::is_installed(lab) { Some(Etcd::start(lab).await?) } else { None };
    let mut measured = Vec::new();
    for round in 0..lab.rounds().count {
        let pair = rounds::pair(lab, round, &stage.limit, &stage.node, Some(store), &stage.requests).await?;
        let redis = match &redis {
            Some(redis) => Some(redis.load(lab.rounds().length).await?),
            None => None,
        };
        let etcd = match &etcd {
            Some(etcd) => Some(etcd.load(lab).await?),
            None => None,
        };
        measured.push(Round { pair, redis, etcd });
    }
    Ok(lines(&measured))
}

fn lines(rounds: &[Round]) -> Vec<Line> {
    let pairs: Vec<Pair> = rounds.iter().map(|round| round.pair).collect();
    let throughput = over_rounds(&pairs, Pair::throughput);
    let cpu = over_rounds(&pairs, Pair::cpu);
    let figure = |of: fn(&Pair) -> f64| over_rounds(&pairs, of).median;
    let cpu_notes = format!(
        "node {:.1} µs, limit {:.1} µs, Postgres {:.1} µs a beat",
        figure(|pair| pair.node.cpu),
        figure(|pair| pair.limit.cpu),
        figure(|pair| pair.node.store),
    );
    vec![
        Line::new(
            WORK,
            &format!("≥ {LIMIT} × limit"),
            ratio(throughput, "limit"),
            throughput.median >= LIMIT,
        )
        .note(usual_notes(&pairs)),
        Line::new(
            "CPU of the node for a beat",
            &format!("≤ {CPU} × limit"),
            ratio(cpu, "limit"),
            cpu.median <= CPU,
        )
        .note(cpu_notes),
        peer(rounds, "Redis `SET … EX`", REDIS, crate::peers::REDIS_MISSING, |round| round.redis),
        peer(rounds, "etcd lease keep-alive", ETCD, crate::peers::ETCD_MISSING, |round| round.etcd),
    ]
}

/// A line beside a peer.
fn peer(rounds: &[Round], name: &str, least: f64, missing: &str, of: impl Fn(&Round) -> Option<f64>) -> Line {
    let (work, promise) = (format!("native heartbeat beside {name}"), format!("≥ {least} × peer"));
    let rates: Option<Vec<(Pair, f64)>> = rounds.iter().map(|round| Some((round.pair, of(round)?))).collect();
    let Some(rates) = rates else { return Line::left_out(&work, &promise, missing) };
    let times: Spread = over_rounds(&rates, |(pair, peer)| pair.node.report.rate / peer);
    let notes = format!(
        "{} beats/s, peer {} calls/s; the limit has {:.2} × peer",
        whole(over_rounds(&rates, |(pair, _)| pair.node.report.rate).median),
        whole(over_rounds(&rates, |(_, peer)| *peer).median),
        over_rounds(&rates, |(pair, peer)| pair.limit.report.rate / peer).median,
    );
    Line::new(&work, &promise, ratio(times, "peer"), times.median >= least).note(notes)
}
