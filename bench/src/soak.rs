//! Hours in half an hour: beats at a fixed rate with registrations coming and going, and a verdict on what grows.

use std::{fmt::Write, time::Duration};

use testkit::{Postgres, Sql};
use tokio::time::{Instant, sleep};

use crate::{
    Result,
    entries::{self, Entries},
    generator::{Outcome, Plan, run as send},
    lab::Lab,
    machine::Machine,
    usage,
};

/// As many as beat 5,000 times a second, every 30 s each. The change log is as long as it ever gets.
const ENTRIES: Entries = Entries { count: 150_000, ttl: 90, changes: 1_000_000 };

const BEATS: u32 = 5_000;

/// Calls a second of those that come and go: a registration, a departure, in turn.
const CHURN: u32 = 50;

/// So many others come before one goes.
const STAY: u64 = 500;

/// Ended sessions are remembered for an hour: so many are there after an hour of this.
const ENDED: u32 = CHURN / 2 * 3600;

/// Services whose instances come and go.
const CHURNING: u64 = 50;

/// Digits of an instance's number in its name.
const DIGITS: usize = 8;

/// How often it is looked.
const SAMPLE: Duration = Duration::from_secs(10);

const MIB: f64 = 1024.0 * 1024.0;

/// What is watched, and by how much the middle of its last quarter may lie above that of its second.
const WATCHED: [(&str, &str, f64); 8] = [
    ("node resident", "MB", 5.0),
    ("node file descriptors", "", 5.0),
    ("instances", "MB", 5.0),
    ("leases", "MB", 5.0),
    ("changes", "MB", 5.0),
    ("ended_sessions", "MB", 5.0),
    ("beats", "MB", 5.0),
    ("writers and head", "MB", 5.0),
];

/// The tables, in the order of [`WATCHED`].
const TABLES: [&str; 6] =
    ["{instances}", "{leases}", "{changes}", "{ended_sessions}", "{beats}", "{writers,head}"];

/// Runs for so long. Returns the document, and whether everything was flat and nothing failed.
///
/// # Errors
/// A server did not start, or a measurement failed.
pub async fn run(lab: &Lab, machine: &Machine, minutes: u64) -> Result<(String, bool)> {
    let server =
        Postgres::start_with(&[("fsync", "on"), ("full_page_writes", "on"), ("shared_buffers", "256MB")]);
    let database = server.fresh_database().await;
    drop(lab.node(&database, &[]).await?);
    let mut sql = Sql::open(&database).await;
    ENTRIES.fill(&mut sql).await;
    sql.run(&format!(
        "INSERT INTO ended_sessions (service, instance, session, at) \
         SELECT 'churn-' || n % {CHURNING}, 'c' || lpad(n::text, {DIGITS}, '0') || ':80', lpad(n::text, 32, '0'), \
         clock_timestamp() - ({ENDED} - n) * interval '3600 s' / {ENDED} \
         FROM generate_series(0, {ENDED} - 1) n"
    ))
    .await;
    let node = lab.node(&database, &[]).await?;
    let duration = Duration::from_secs(minutes * 60);
    let plan = |rate, connections| Plan {
        address: (std::net::Ipv4Addr::LOCALHOST, node.port()).into(),
        connections,
        rate,
        duration,
    };
    let (beats, churn) = (plan(BEATS, 256), plan(CHURN, 16));
    let beating = tokio::task::spawn_blocking(move || send(&beats, |turn, out| ENTRIES.beat(turn, out)));
    let churning = tokio::task::spawn_blocking(move || send(&churn, come_and_go));
    let begun = Instant::now();
    let mut samples: Vec<[f64; WATCHED.len()]> = Vec::new();
    while !beating.is_finished() {
        sleep(SAMPLE.min(duration / 40)).await;
        let mut sample = [0.0; WATCHED.len()];
        sample[0] = float(usage::resident(node.pid())?) / MIB;
        sample[1] = float(usage::descriptors(node.pid())? as u64);
        for (place, tables) in TABLES.into_iter().enumerate() {
            let query = format!(
                "SELECT sum(pg_total_relation_size(t))::bigint FROM unnest('{tables}'::regclass[]) t"
            );
            sample[2 + place] = float(sql.number(&query).await.unsigned_abs()) / MIB;
        }
        if samples.len().is_multiple_of(6) {
            eprintln!("soak: {:4} s: {sample:.1?}", begun.elapsed().as_secs());
        }
        samples.push(sample);
    }
    let (beats, churn) = (beating.await??, churning.await??);
    // Of those that come and go, one whose departure was refused ends rightly.
    let expired =
        sql.number("SELECT count(*) FROM changes WHERE kind = 'expire' AND service NOT LIKE 'churn-%'").await;
    Ok(document(machine, minutes, &samples, [&beats, &churn], expired))
}

/// A registration, and the departure of an older one, in turn, under the names that follow those of the hour before: an
/// index reuses its pages as it would there.
fn come_and_go(turn: u64, out: &mut Vec<u8>) {
    let number = turn / 2 + u64::from(ENDED);
    let path = |number: u64| format!("/services/churn-{}/instances/c{number:0DIGITS$}:80", number % CHURNING);
    match number.checked_sub(STAY).filter(|old| *old >= u64::from(ENDED)) {
        Some(old) if turn % 2 == 1 => entries::delete(out, format_args!("{}?session={old:032}", path(old))),
        None if turn % 2 == 1 => entries::get(out, format_args!("/livez")),
        _ => entries::put(
            out,
            format_args!("{}", path(number)),
            &format!("{{\"endpoint\":\"http://c{number}:80\",\"session\":\"{number:032}\"}}"),
        ),
    }
}

fn document(
    machine: &Machine,
    minutes: u64,
    samples: &[[f64; WATCHED.len()]],
    [beats, churn]: [&Outcome; 2],
    expired: i64,
) -> (String, bool) {
    let mut text = String::from(
        "# Soak\n\nWritten by `make soak`; no figure here was typed by hand. One node and Postgres, 150,000 instances \
         that beat every 30 s, and registrations that come and go; the change log is at its full length from the \
         beginning, and so is the hour of ended sessions. Flat is what does not grow by more than 5 %, and a megabyte \
         or five descriptors, from the second quarter of the time to the last: medians of samples.\n\n| | |\n|---|---|\n",
    );
    let mut row = |cells: &[&str]| {
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    };
    for (name, value) in &machine.facts {
        row(&[name, value]);
    }
    row(&["duration", &format!("{minutes} min (`SOAK_MINUTES`)")]);
    for (what, rate, outcome) in [("beats", BEATS, beats), ("registrations and departures", CHURN, churn)] {
        let p99 = outcome.latency(990).as_secs_f64() * 1e3;
        row(&[
            what,
            &format!(
                "{} at {rate}/s, {} errors {:?}, p99 {p99:.1} ms",
                outcome.sent,
                outcome.errors(),
                outcome.bad
            ),
        ]);
    }
    row(&["leases that ended by mistake", &expired.to_string()]);
    text.push_str("\n| | second quarter | last quarter | most | flat |\n|---|---|---|---|---|\n");
    let mut kept = beats.errors() == 0 && churn.errors() == 0 && expired == 0;
    for (place, (name, unit, percent)) in WATCHED.into_iter().enumerate() {
        let of = |from: usize, to: usize| -> Vec<f64> {
            samples[samples.len() * from / 4..samples.len() * to / 4]
                .iter()
                .map(|sample| sample[place])
                .collect()
        };
        let (second, last) = (middle(&of(1, 2)), middle(&of(3, 4)));
        let most = of(0, 4).into_iter().fold(0.0, f64::max);
        let slack = if unit.is_empty() { 5.0 } else { 1.0 };
        let flat = last <= second * (1.0 + percent / 100.0) + slack;
        kept &= flat;
        let verdict = if flat { "yes" } else { "**no**" };
        let _ = writeln!(
            text,
            "| {name} | {second:.1} {unit} | {last:.1} {unit} | {most:.1} {unit} | {verdict} |"
        );
    }
    let _ = writeln!(text, "\n{}", if kept { "Kept." } else { "**Not kept.**" });
    (text, kept)
}

fn middle(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { crate::numbers::median(values) }
}

#[expect(clippy::cast_precision_loss, reason = "a count for people")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
