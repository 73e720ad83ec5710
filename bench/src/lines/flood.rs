//! Registrations thrown at a node that may hold no more.

use std::{net::Ipv4Addr, time::Duration};

use testkit::Postgres;
use tokio::time::{Instant, sleep};

use super::{
    Group,
    million::{DURABLE, float},
};
use crate::{
    Result,
    generator::{self, Outcome, Plan},
    lab::{Lab, Server, call},
    line::Line,
    numbers::whole,
    population::Population,
    usage,
};

/// About these lines.
pub const GROUP: Group = Group {
    name: "flood",
    title: "Registrations beyond the cap",
    about: "1,000,000 registrations of instances that were never there are thrown at a node with \
            `REGISTRY_MAX_INSTANCES=200000`, on 64 connections, each as soon as the one before it is answered. Meanwhile \
            1,000 instances that were there before beat 500 times a second in all.",
    apart: true,
};

/// How much is thrown, and at what.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// `REGISTRY_MAX_INSTANCES` of the node.
    pub cap: u32,
    /// Registrations, as many as are too many and more.
    pub thrown: u32,
    /// Connections that throw.
    pub connections: usize,
    /// Who is there before, and beats.
    pub kept: Population,
    /// Their beats a second.
    pub beats: u32,
}

impl Scale {
    /// As `make flood` throws it.
    pub const FULL: Self = Self {
        cap: 200_000,
        thrown: 1_000_000,
        connections: 64,
        kept: Population { services: 100, instances: 10 },
        beats: 500,
    };
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Flood {
    /// The registrations.
    pub registrations: Outcome,
    /// The beats of those who were there before.
    pub beats: Outcome,
    /// The most of resident memory, in bytes.
    pub resident: u64,
    /// How long it took.
    pub took: Duration,
    /// Instances that the node holds afterwards.
    pub instances: u64,
    /// Of some further registrations, those that were answered 429 with `Retry-After`; all of [`FURTHER`] must be.
    pub told: usize,
}

/// Registrations whose answers are looked at closely.
pub const FURTHER: usize = 100;

/// Beats are sent in spans of so long until everything is thrown.
const SPAN: Duration = Duration::from_secs(2);

/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(100);

/// Services that the thrown instances name.
const SERVICES: u64 = 10_000;

/// Throws registrations at a node on this database.
///
/// # Errors
/// The node does not start, or does not answer.
pub async fn throw(lab: &Lab, database: &str, scale: Scale) -> Result<Flood> {
    let cap = scale.cap.to_string();
    let node = lab.node(database, &[("REGISTRY_MAX_INSTANCES", &cap)]).await?;
    scale.kept.register(node.port()).await?;
    let begun = Instant::now();
    let throwing = tokio::task::spawn_blocking({
        // All of them are due at once.
        let second = Duration::from_secs(1);
        let plan = plan(&node, scale.connections, scale.thrown, second);
        move || generator::run(&plan, register)
    });
    let mut beats = Outcome::default();
    let mut resident = 0;
    while !throwing.is_finished() {
        let plan = plan(&node, 16, scale.beats, SPAN);
        let kept = scale.kept;
        let beating =
            tokio::task::spawn_blocking(move || generator::run(&plan, |turn, out| beat(kept, turn, out)));
        while !beating.is_finished() {
            resident = resident.max(usage::resident(node.pid())?);
            sleep(SAMPLE).await;
        }
        beats = beats.and(beating.await??);
    }
    let registrations = throwing.await??;
    let took = begun.elapsed();
    let mut told = 0;
    for number in 0..FURTHER {
        let path = format!("/services/further/instances/i{number}");
        let answer = call(node.port(), "PUT", &path, r#"{"endpoint":"http://h:1"}"#).await?;
        let head = answer.head.to_ascii_lowercase();
        told += usize::from(answer.status == 429 && head.contains("\r\nretry-after: "));
    }
    let metrics = call(node.port(), "GET", "/metrics", "").await?.body;
    let held = metrics.lines().find_map(|line| line.strip_prefix("registry_instances "));
    let instances = held.ok_or("no registry_instances")?.parse()?;
    Ok(Flood { registrations, beats, resident, took, instances, told })
}

fn plan(node: &Server, connections: usize, rate: u32, duration: Duration) -> Plan {
    Plan { address: (Ipv4Addr::LOCALHOST, node.port()).into(), connections, rate, duration }
}

fn register(turn: u64, out: &mut Vec<u8>) {
    let body = format!(
        r#"{{"endpoint":"http://thrown-{turn}:8080","metadata":{{"version":"1.4.2"}},"ttl_seconds":3600,"session":"{turn:032}"}}"#
    );
    let path = format!("/services/thrown-{}/instances/thrown-{turn}:8080", turn % SERVICES);
    put(&path, &body, out);
}

fn beat(kept: Population, turn: u64, out: &mut Vec<u8>) {
    let (path, body) = kept.beat(usize::try_from(turn).unwrap_or_default() % kept.len());
    put(&path, &body, out);
}

fn put(path: &str, body: &str, out: &mut Vec<u8>) {
    let length = body.len();
    out.extend_from_slice(
        format!(
            "PUT {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .as_bytes(),
    );
}

/// Measures them.
///
/// # Errors
/// See [`super::run`].
pub async fn run(lab: &Lab) -> Result<Vec<Line>> {
    let server = Postgres::start_with(&DURABLE);
    let scale = Scale::FULL;
    let flood = throw(lab, &server.fresh_database().await, scale).await?;
    let Flood { registrations, beats, .. } = &flood;
    let refused = registrations.bad.get(&429).copied().unwrap_or_default();
    let others = registrations.errors() - refused;
    let work = |what: &str| format!("1,000,000 registrations at a cap of 200,000: {what}");
    let p99 = beats.latency(990).as_secs_f64() * 1e3;
    let resident = float(flood.resident) / (1024.0 * 1024.0);
    Ok(vec![
        Line::new(
            &work("instances held"),
            "200,000",
            whole(float(flood.instances)),
            flood.instances == u64::from(scale.cap),
        )
        .note(format!(
            "{} taken in {:.0} s",
            whole(float(registrations.good)),
            flood.took.as_secs_f64()
        )),
        Line::new(&work("answers but 201 and 429"), "0", whole(float(others)), others == 0).note(format!(
            "{} times 429; of {FURTHER} that were looked at {} had `Retry-After`",
            whole(float(refused)),
            flood.told
        )),
        Line::new(
            &work("beats of those who were there that failed"),
            "0",
            whole(float(beats.errors())),
            beats.errors() == 0,
        )
        .note(format!("of {}", whole(float(beats.sent)))),
        Line::new(&work("their p99"), "≤ 100 ms", format!("{p99:.1} ms"), p99 <= 100.0).note(format!(
            "p50 {:.2} ms, 99.9 % {:.1} ms",
            beats.latency(500).as_secs_f64() * 1e3,
            beats.latency(999).as_secs_f64() * 1e3
        )),
        Line::new(&work("node resident"), "≤ 300 MB", format!("{resident:.0} MB"), resident <= 300.0)
            .note("the most of all samples; MB are MiB"),
    ])
}
