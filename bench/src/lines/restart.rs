//! Very many sidecars that restart at once.

use std::time::Duration;

use fleet::{Catalog, Config, Fleet, Target};
use testkit::Postgres;
use tokio::time::{Instant, sleep};

use super::{Group, million::DURABLE};
use crate::{
    Result,
    lab::{Lab, Server, call},
    line::Line,
};

/// About this line.
pub const GROUP: Group = Group {
    name: "restart",
    title: "A restart of everything",
    about: "Simulated sidecars (`fleet/`) that run the real state machine, with their pauses and repeats; one node.",
    apart: false,
};

const SERVICES: u32 = 500;
const INSTANCES: u32 = 20;

/// All are restarted within it.
const WITHIN: Duration = Duration::from_secs(1);

const MUST: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);

/// Measures it.
///
/// # Errors
/// See [`super::run`].
pub async fn run(lab: &Lab) -> Result<Vec<Line>> {
    let server = Postgres::start_with(&DURABLE);
    let node = lab.node(&server.fresh_database().await, &[]).await?;
    let mut config = Config::new(vec![Target::node(node.url().parse()?, 0)]);
    config.catalog = Catalog { services: SERVICES, instances: INSTANCES, ..config.catalog };
    config.ramp = Duration::from_secs(10);
    (config.reads_per_second, config.lists_per_second) = (0.0, 0.0);
    let mut fleet = Fleet::start(&config)?;
    let all = usize::try_from(fleet.len())?;
    until(|| fleet.registered() == all).await?;
    let everybody = fleet.pick(all);
    let before = newest(&node).await?.1;
    let begun = Instant::now();
    fleet.restart(&everybody, WITHIN);
    sleep(WITHIN).await;
    until(|| fleet.registered() == all).await?;
    let mut listed;
    loop {
        listed = newest(&node).await?.0.into_iter().filter(|at| *at > before).count();
        if listed == all || begun.elapsed() > PATIENCE {
            break;
        }
        sleep(POLL).await;
    }
    let took = begun.elapsed();
    drop(fleet);
    Ok(vec![
        Line::new(
            "10,000 sidecars restarting within a second",
            "all listed ≤ 15 s",
            format!("{:.1} s", took.as_secs_f64()),
            listed == all && took <= MUST,
        )
        .note(format!("{listed} are listed, each with a registration of its new process")),
    ])
}

async fn until(mut done: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() > PATIENCE {
            return Err("not everybody is registered".into());
        }
        sleep(POLL).await;
    }
    Ok(())
}

/// When the instances that are listed registered, and the last of these moments.
async fn newest(node: &Server) -> Result<(Vec<f64>, f64)> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let answer = call(node.port(), "GET", &format!("/instances?limit=1000{after}"), "").await?;
        for part in answer.body.split("\"registered_at\":").skip(1) {
            let number: String = part.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            all.push(number.parse()?);
        }
        let next = answer.body.rsplit_once("\"next\":\"").and_then(|(_, next)| next.split_once('"'));
        let Some((next, _)) = next else { break };
        after = format!("&after={}", next.replace('/', "%2F"));
    }
    let last = all.iter().copied().fold(0.0, f64::max);
    Ok((all, last))
}
