//! A million instances on one node: its start, its memory, all of them beating, and what a call costs beside it with
//! few.

use std::{net::Ipv4Addr, time::Duration};

use testkit::{Postgres, Sql};
use tokio::time::{Instant, sleep};

use super::Group;
use crate::{
    Result,
    entries::Entries,
    generator::{self, Outcome, Plan},
    lab::{Lab, Server},
    line::Line,
    numbers::{median, over_rounds, whole},
    usage,
};

/// About these lines.
pub const GROUP: Group = Group {
    name: "million",
    title: "A million instances",
    about: "100,000 services of ten instances, which Postgres holds as their registrations would have left them; it waits \
            for the disk at each commit. The generator sends by a schedule that no answer moves, on kept connections; \
            latencies count from the moment at which a request was due. `BENCH_MILLION_SECONDS` is how long all of them \
            beat.",
    apart: false,
};

const COUNT: u64 = 1_000_000;
const FEW: u64 = 1_000;

/// As many as a fleet keeps: far more than are under way at a time.
const CONNECTIONS: usize = 256;

/// Calls a second where their cost is compared.
const FIXED: u32 = 5_000;

/// Each instance beats once in so many seconds.
const INTERVAL: u64 = 30;

/// How often sizes are taken.
const SAMPLE: Duration = Duration::from_secs(10);

/// Tables that beats write, with their indexes.
const HOT: &str = "SELECT sum(pg_total_relation_size(t))::bigint \
                   FROM unnest('{leases,beats,writers,instances,head}'::regclass[]) t";

/// Memory and tables settle in so much of the time: what they grow by later they would grow by for ever.
const SETTLED: f64 = 0.5;

const MIB: f64 = 1024.0 * 1024.0;

/// As the server's own defaults are, but for its memory.
pub(super) const DURABLE: [(&str, &str); 3] =
    [("fsync", "on"), ("full_page_writes", "on"), ("shared_buffers", "256MB")];

/// Measures them.
///
/// # Errors
/// See [`super::run`].
pub async fn run(lab: &Lab) -> Result<Vec<Line>> {
    let server = Postgres::start_with(&DURABLE);
    // Nobody's lease ends while others are measured.
    let (many, few) = (Entries::new(COUNT, 3600), Entries::new(FEW, 3600));
    let many_in = filled(lab, &server, many).await?;
    let few_in = filled(lab, &server, few).await?;
    let mut lines = vec![starts(lab, &many_in).await?];
    {
        let nodes = [lab.node(&many_in, &[]).await?, lab.node(&few_in, &[]).await?];
        lines.extend(costs(lab, &nodes, many, few).await?);
    }
    Sql::open(&server.url("postgres")).await.run(&format!("DROP DATABASE {}", name(&many_in))).await;
    let entries = Entries::new(COUNT, 90);
    let database = filled(lab, &server, entries).await?;
    lines.extend(all_beating(lab, &server, &database, entries).await?);
    Ok(lines)
}

fn name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}

/// A database of its own with these entries in it; a node makes its tables.
pub(super) async fn filled(lab: &Lab, server: &Postgres, entries: Entries) -> Result<String> {
    let database = server.fresh_database().await;
    drop(lab.node(&database, &[]).await?);
    entries.fill(&mut Sql::open(&database).await).await;
    Ok(database)
}

async fn starts(lab: &Lab, database: &str) -> Result<Line> {
    const MUST: Duration = Duration::from_secs(5);
    let (mut took, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..lab.rounds().count {
        let begun = Instant::now();
        let node = lab.node(database, &[]).await?;
        took.push(begun.elapsed().as_secs_f64());
        memory.push(bytes(usage::resident(node.pid())?) / MIB);
    }
    let typical = median(&took);
    let most = took.iter().copied().fold(0.0, f64::max);
    Ok(Line::new(
        "start with 1,000,000 entries in Postgres until ready",
        "≤ 5 s",
        format!("{typical:.1} s"),
        typical <= MUST.as_secs_f64(),
    )
    .note(format!(
        "median of {} starts, the slowest {most:.1} s; then {:.0} MB resident",
        took.len(),
        median(&memory)
    )))
}

/// CPU of each call in microseconds, at both nodes.
struct Costs {
    many: f64,
    few: f64,
}

async fn costs(lab: &Lab, nodes: &[Server; 2], many: Entries, few: Entries) -> Result<Vec<Line>> {
    type Request = fn(Entries, u64, &mut Vec<u8>);
    let mut lines = Vec::new();
    for (what, request) in [("beat", Entries::beat as Request), ("read", Entries::read as Request)] {
        let mut rounds = Vec::new();
        for round in 0..lab.rounds().count as u64 {
            let mut cost = [0.0; 2];
            for (place, entries) in [many, few].into_iter().enumerate() {
                let node = &nodes[place];
                let before = usage::cpu(node.pid())?;
                let plan = plan(node, FIXED, lab.rounds().length.max(Duration::from_secs(4)));
                // Other instances in each round.
                let from = round * 100_000;
                let outcome = send(plan, move |turn, out| request(entries, from + turn, out)).await?;
                complain(&outcome)?;
                let used = usage::cpu(node.pid())?.saturating_sub(before);
                cost[place] = used.as_secs_f64() * 1e6 / float(outcome.sent);
            }
            rounds.push(Costs { many: cost[0], few: cost[1] });
        }
        let ratio = over_rounds(&rounds, |costs| costs.many / costs.few);
        lines.push(
            Line::new(
                &format!(
                    "node CPU per {what} at {}/s: 1,000,000 instances against 1,000",
                    whole(FIXED.into())
                ),
                "≤ 1.5 ×",
                format!("{:.2} × ({:.2}–{:.2})", ratio.median, ratio.least, ratio.most),
                ratio.median <= 1.5,
            )
            .note(format!(
                "{:.1} µs against {:.1} µs, all that the node does meanwhile included",
                over_rounds(&rounds, |costs| costs.many).median,
                over_rounds(&rounds, |costs| costs.few).median,
            )),
        );
    }
    Ok(lines)
}

/// What was seen at one moment.
struct Sample {
    after: Duration,
    resident: f64,
    tables: f64,
}

async fn all_beating(lab: &Lab, server: &Postgres, database: &str, entries: Entries) -> Result<Vec<Line>> {
    let seconds: u64 = match std::env::var("BENCH_MILLION_SECONDS") {
        Ok(text) => text.parse()?,
        Err(_) => 300,
    };
    let postgres = server.pid().ok_or("Postgres does not run")?;
    let mut sql = Sql::open(database).await;
    let node = lab.node(database, &[]).await?;
    let rate = u32::try_from(COUNT / INTERVAL)?;
    let plan = plan(&node, rate, Duration::from_secs(seconds));
    let cpu = || Ok::<_, crate::Error>((usage::cpu(node.pid())?, usage::cpu_with_children(postgres)?));
    let (before, begun) = (cpu()?, Instant::now());
    let sending =
        tokio::task::spawn_blocking(move || generator::run(&plan, |turn, out| entries.beat(turn, out)));
    let mut samples = Vec::new();
    while !sending.is_finished() {
        sleep(SAMPLE.min(Duration::from_secs(seconds) / 10)).await;
        let (resident, tables) = (usage::resident(node.pid())?, sql.number(HOT).await);
        let sample = Sample { after: begun.elapsed(), resident: bytes(resident) / MIB, tables: mib(tables) };
        eprintln!(
            "bench: {:4} s: {:.0} MB resident, tables {:.0} MB",
            sample.after.as_secs(),
            sample.resident,
            sample.tables
        );
        samples.push(sample);
    }
    let outcome = sending.await??;
    let (after, took) = (cpu()?, begun.elapsed().as_secs_f64());
    let cores = |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64() / took;
    let (node_cores, postgres_cores) = (cores(before.0, after.0), cores(before.1, after.1));
    let expired = sql.number("SELECT count(*) FROM changes WHERE kind = 'expire'").await;
    let work = |what: &str| {
        format!("1,000,000 instances beating every 30 s ({}/s) for {seconds} s: {what}", whole(rate.into()))
    };
    let p99 = outcome.latency(990).as_secs_f64() * 1e3;
    let resident = samples.iter().map(|sample| sample.resident).fold(0.0, f64::max);
    let (settled, end) = growth(&samples, |sample| sample.tables);
    Ok(vec![
        Line::new(&work("errors"), "0", whole(float(outcome.errors())), outcome.errors() == 0).note(format!(
            "of {} beats {:?}",
            whole(float(outcome.sent)),
            outcome.bad
        )),
        Line::new(&work("leases that ended"), "0", expired.to_string(), expired == 0),
        Line::new(&work("p99"), "≤ 50 ms", format!("{p99:.1} ms"), p99 <= 50.0).note(format!(
            "p50 {:.2} ms, 99.9 % {:.1} ms, the slowest {:.1} ms; the node used {node_cores:.2} cores",
            outcome.latency(500).as_secs_f64() * 1e3,
            outcome.latency(999).as_secs_f64() * 1e3,
            outcome.latency(1000).as_secs_f64() * 1e3,
        )),
        Line::new(
            &work("Postgres"),
            "≤ 0.5 core",
            format!("{postgres_cores:.2} cores"),
            postgres_cores <= 0.5,
        ),
        Line::new(&work("node resident"), "≤ 600 MB", format!("{resident:.0} MB"), resident <= 600.0)
            .note("the most of all samples; MB are MiB"),
        Line::new(
            &work("tables and indexes that beats write"),
            "flat after the first minutes",
            format!("{settled:.0} MB after half of the time, {end:.0} MB at the end"),
            end <= settled * 1.02,
        )
        .note("leases, beats, writers, instances, head; flat: 2 % at most"),
    ])
}

/// The most until the figures have settled, and at the end.
fn growth(samples: &[Sample], of: fn(&Sample) -> f64) -> (f64, f64) {
    let last = samples.last().map_or(Duration::ZERO, |sample| sample.after).mul_f64(SETTLED);
    let settled = samples.iter().filter(|sample| sample.after <= last).map(of).fold(0.0, f64::max);
    (settled, samples.last().map_or(0.0, of))
}

pub(super) fn plan(node: &Server, rate: u32, duration: Duration) -> Plan {
    Plan { address: (Ipv4Addr::LOCALHOST, node.port()).into(), connections: CONNECTIONS, rate, duration }
}

/// Sends on a thread of its own.
pub(super) async fn send(
    plan: Plan,
    request: impl FnMut(u64, &mut Vec<u8>) + Send + 'static,
) -> Result<Outcome> {
    Ok(tokio::task::spawn_blocking(move || generator::run(&plan, request)).await??)
}

/// What is compared must have been done.
pub(super) fn complain(outcome: &Outcome) -> Result<()> {
    if outcome.errors() == 0 {
        Ok(())
    } else {
        Err(format!("answers that are none: {:?}", outcome.bad).into())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count for people")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

fn bytes(bytes: u64) -> f64 {
    float(bytes)
}

fn mib(bytes: i64) -> f64 {
    float(bytes.unsigned_abs()) / MIB
}
