//! What one node does for another: how soon a change is served by the others, and what a node costs that only listens.

use std::time::Duration;

use testkit::{Postgres, Sql};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    Group,
    idle::cpu,
    million::{DURABLE, complain, filled, float, plan, send},
};
use crate::{
    Result,
    entries::Entries,
    lab::{Lab, Server, call},
    line::Line,
    numbers::whole,
};

/// About these lines.
pub const GROUP: Group = Group {
    name: "spread",
    title: "From one node to another",
    about: "150,000 instances that beat every 30 s are 5,000 beats a second. A change is a registration at one node; \
            another is asked for it every 20 ms from the acknowledgement on, so that 20 ms are the polling's own.",
    apart: false,
};

/// As many as beat 5,000 times a second.
const ENTRIES: Entries = Entries::new(150_000, 3600);

/// Beats a second in all.
const BEATS: u32 = 5_000;

/// How often the other node is asked.
const POLL: Duration = Duration::from_millis(20);

/// Changes that are followed: one in a hundred may be later than the p99.
const CHANGES: u64 = 300;

/// Followed at a time, each by a task that makes the next when one was seen.
const AT_A_TIME: u64 = 6;

const PATIENCE: Duration = Duration::from_secs(30);

/// Nodes that take the beats.
const NODES: u32 = 5;

/// How long the CPU of the idle one is measured.
const IDLE: Duration = Duration::from_secs(20);

/// Measures them.
///
/// # Errors
/// See [`super::run`].
pub async fn run(lab: &Lab) -> Result<Vec<Line>> {
    let server = Postgres::start_with(&DURABLE);
    let database = filled(lab, &server, ENTRIES).await?;
    let mut nodes = Vec::new();
    for _ in 0..=NODES {
        nodes.push(lab.node(&database, &[]).await?);
    }
    let work = "change on one node until served by another, p99, polled every 20 ms";
    let idle = changes(&nodes, "idle").await?;
    let load = beats(&nodes, Duration::from_secs(60));
    // Until all nodes have their connections and the first rows were written.
    sleep(Duration::from_secs(3)).await;
    let before = cpu(nodes[NODES as usize].pid())?;
    let begun = Instant::now();
    sleep(IDLE).await;
    let used = cpu(nodes[NODES as usize].pid())?.saturating_sub(before);
    let share = used.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    let loaded = changes(&nodes, "loaded").await?;
    let sent = load.finish().await?;
    let expired =
        Sql::open(&database).await.number("SELECT count(*) FROM changes WHERE kind = 'expire'").await;
    if expired > 0 {
        return Err(format!("{expired} leases ended meanwhile").into());
    }
    let at = format!("{} beats/s", whole(BEATS.into()));
    Ok(vec![
        line(&format!("{work}: idle"), Duration::from_millis(50), &idle),
        line(&format!("{work}: at {at}"), Duration::from_millis(250), &loaded),
        Line::new(
            &format!("a sixth node that gets no request while five take {at} in all"),
            "≤ 10 % of a core",
            format!("{share:.1} %"),
            share <= 10.0,
        )
        .note(format!("over {} s; {} beats in all", IDLE.as_secs(), whole(float(sent)))),
    ])
}

fn line(work: &str, must: Duration, took: &[Duration]) -> Line {
    let ms = |per_mille: usize| took[(took.len() - 1) * per_mille / 1000].as_secs_f64() * 1e3;
    let p99 = ms(990);
    Line::new(
        work,
        &format!("≤ {} ms", must.as_millis()),
        format!("{p99:.1} ms"),
        p99 <= must.as_secs_f64() * 1e3,
    )
    .note(format!("p50 {:.1} ms, the slowest {:.1} ms, of {} changes", ms(500), ms(1000), took.len()))
}

/// Generators at all nodes but the last.
struct Load(JoinSet<Result<u64>>);

fn beats(nodes: &[Server], duration: Duration) -> Load {
    let mut sending = JoinSet::new();
    for (place, node) in (0..NODES).zip(nodes) {
        let mut plan = plan(node, BEATS / NODES, duration);
        plan.connections = 64;
        // Each node hears other instances, and all of them together every one in 30 s.
        let turn = move |turn: u64| turn * u64::from(NODES) + u64::from(place);
        sending.spawn(async move {
            let outcome = send(plan, move |number, out| ENTRIES.beat(turn(number), out)).await?;
            complain(&outcome)?;
            Ok(outcome.sent)
        });
    }
    Load(sending)
}

impl Load {
    async fn finish(mut self) -> Result<u64> {
        let mut sent = 0;
        while let Some(one) = self.0.join_next().await {
            sent += one??;
        }
        Ok(sent)
    }
}

/// Registers at the first node and asks the last; how long each took from its acknowledgement, sorted.
async fn changes(nodes: &[Server], round: &'static str) -> Result<Vec<Duration>> {
    let (first, last) = (nodes[0].port(), nodes[nodes.len() - 1].port());
    let mut tasks = JoinSet::new();
    for task in 0..AT_A_TIME {
        tasks.spawn(async move {
            let mut took = Vec::new();
            for number in 0..CHANGES / AT_A_TIME {
                let path = format!("/services/{round}-{task}/instances/i{number}");
                let body = r#"{"endpoint":"http://127.0.0.1:9","ttl_seconds":3600}"#;
                let answer = call(first, "PUT", &path, body).await?;
                if answer.status != 201 {
                    return Err(crate::Error::from(format!("{path}: {}", answer.status)));
                }
                let acknowledged = Instant::now();
                while call(last, "GET", &path, "").await?.status != 200 {
                    if acknowledged.elapsed() > PATIENCE {
                        return Err(format!("{path} never appeared").into());
                    }
                    sleep(POLL).await;
                }
                took.push(acknowledged.elapsed());
                // Out of step with whatever the nodes do at regular times.
                sleep(Duration::from_millis(20 + 7 * ((number + 3 * task) % 11))).await;
            }
            Ok(took)
        });
    }
    let mut all = Vec::new();
    while let Some(one) = tasks.join_next().await {
        all.extend(one??);
    }
    all.sort_unstable();
    Ok(all)
}
