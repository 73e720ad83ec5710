//! Durable registrations.

use std::{path::Path, time::Duration};

use testkit::{Postgres, Sql};

use super::{Group, ratio};
use crate::{
    Result,
    lab::{Lab, call},
    line::Line,
    numbers::{over_rounds, whole},
    pgbench,
    population::Population,
    usage, wrk,
};

/// About these lines.
pub const GROUP: Group = Group {
    name: "registrations",
    title: "Durable registrations",
    about: "\
wrk registers new instances on 64 kept connections, each in one of 1,000 services; an answer comes after the commit, \
and Postgres waits for the disk (`fsync` and `synchronous_commit` are on). The same change made one call at a time is \
the node's own SQL function, called by pgbench on 64 connections with a batch of one, as if every registration had a \
transaction of its own: it alone, without HTTP, without what a node reads first, and without fan-out. The plain `INSERT` \
is one row of four columns a transaction, by pgbench on 64 connections, into a table with a primary key. All three work on \
the same server in turn.",
    apart: false,
};

const WORK: &str = "durable registrations, 64 connections";
const SINGLE: f64 = 8.0;
const INSERT: f64 = 0.4;

/// Rates of one round, a second.
struct Round {
    node: wrk::Report,
    single: f64,
    insert: f64,
    node_cpu: f64,
    store_cpu: f64,
}

/// Measures them.
///
/// # Errors
/// See [`super::run`].
pub async fn run(lab: &Lab) -> Result<Vec<Line>> {
    let promises = [format!("≥ {SINGLE} × one call at a time"), format!("≥ {INSERT} × plain `INSERT`")];
    let missing = [("wrk", wrk::MISSING), ("pgbench", pgbench::MISSING)];
    if let Some((_, why)) = missing.into_iter().find(|(program, _)| !lab.has(program)) {
        return Ok(promises.iter().map(|promise| Line::left_out(WORK, promise, why)).collect());
    }
    let durable = [("fsync", "on"), ("full_page_writes", "on"), ("synchronous_commit", "on")];
    let postgres = Postgres::start_with(&durable);
    let rounds = measure(lab, &postgres).await?;
    let single = over_rounds(&rounds, |round| round.node.rate / round.single);
    let insert = over_rounds(&rounds, |round| round.node.rate / round.insert);
    let figure = |of: fn(&Round) -> f64| over_rounds(&rounds, of).median;
    let notes = format!(
        "{} registrations/s, p99 {:.1} ms; node {:.0} µs, Postgres {:.0} µs of CPU each",
        whole(figure(|round| round.node.rate)),
        figure(|round| round.node.p99.as_secs_f64() * 1e3),
        figure(|round| round.node_cpu),
        figure(|round| round.store_cpu),
    );
    Ok(vec![
        Line::new(WORK, &promises[0], ratio(single, "one call at a time"), single.median >= SINGLE)
            .note(format!("{notes}; {} one at a time", whole(figure(|round| round.single)))),
        Line::new(WORK, &promises[1], ratio(insert, "`INSERT`"), insert.median >= INSERT)
            .note(format!("{} `INSERT`s/s", whole(figure(|round| round.insert)))),
    ])
}

async fn measure(lab: &Lab, postgres: &Postgres) -> Result<Vec<Round>> {
    let length = lab.rounds().length;
    let database = postgres.fresh_database().await;
    let node = lab.node(&database, &[]).await?;
    // Another database: what is written there without a node is not read by this one.
    let other = postgres.fresh_database().await;
    let scripts = Scripts::write(lab, &database, &other, node.port()).await?;
    let store = postgres.pid().ok_or("Postgres has ended")?;
    let body = lab.dir().join("registration.body");
    std::fs::write(&body, Population::USUAL.registration(0))?;
    let body = body.to_str().ok_or("a path that is no text")?;
    wrk::run(lab, node.port(), "register.lua", &[body, "warm-"], Duration::from_secs(1)).await?;
    let mut rounds = Vec::new();
    for round in 0..lab.rounds().count {
        let before = (usage::cpu(node.pid())?, usage::cpu_with_children(store)?);
        let report =
            wrk::run(lab, node.port(), "register.lua", &[body, &format!("r{round}-")], length).await?;
        let after = (usage::cpu(node.pid())?, usage::cpu_with_children(store)?);
        let each = |before: Duration, after: Duration| {
            after.saturating_sub(before).as_secs_f64() * 1e6 / report.calls
        };
        rounds.push(Round {
            node: report,
            single: pgbench::run(&other, &scripts.single, length).await?,
            insert: pgbench::run(&other, &scripts.insert, length).await?,
            node_cpu: each(before.0, after.0),
            store_cpu: each(before.1, after.1),
        });
    }
    Ok(rounds)
}

/// What pgbench is told to do.
struct Scripts {
    single: std::path::PathBuf,
    insert: std::path::PathBuf,
}

impl Scripts {
    /// Registers one instance, and takes from the log what change that was.
    async fn write(lab: &Lab, database: &str, other: &str, node: u16) -> Result<Self> {
        let (n, population) = (0, Population::USUAL);
        let answer = call(node, "PUT", &population.path(n), &population.registration(n)).await?;
        if answer.status != 201 {
            return Err(format!("a registration was answered {}", answer.status).into());
        }
        let body = Sql::open(database)
            .await
            .text("SELECT body::text FROM changes ORDER BY revision DESC LIMIT 1")
            .await;
        // The other database gets its tables from a node that is gone at once.
        drop(lab.node(other, &[]).await?);
        Sql::open(other)
            .await
            .run("CREATE TABLE plain (id bigserial PRIMARY KEY, service text, instance text, endpoint text)")
            .await;
        let single = lab.dir().join("single.sql");
        std::fs::write(&single, call_of(&body)?)?;
        let insert = lab.dir().join("insert.sql");
        write_insert(&insert)?;
        Ok(Self { single, insert })
    }
}

/// A call of the function for a new instance, with everything else as in `body`.
fn call_of(body: &str) -> Result<String> {
    let id = "\"instance_id\": \"";
    let (before, rest) = body.split_once(id).ok_or_else(|| format!("no instance_id in {body}"))?;
    let (_, after) = rest.split_once('"').ok_or("an instance_id without an end")?;
    let quoted = |text: &str| text.replace('%', "%%").replace('\'', "''");
    let (before, after) = (quoted(before), quoted(after));
    let item = format!(
        "[{{\"kind\":\"register\",\"beats\":true,\"removes\":false,\"expected\":null,\"named\":null,\"noted\":null,\
         \"reason\":null,\"actor\":\"127.0.0.1\",\"body\":{before}{id}host-%s:8080\"{after}}}]"
    );
    if item.contains(COLON) {
        return Err(format!("{item} holds {COLON}").into());
    }
    let item = item.replace(':', COLON);
    Ok(format!(
        "\\set n random(1, 1000000000000)\n\
         SELECT * FROM commit_changes_after(replace(format('{item}', CAST(:n AS bigint)), '{COLON}', chr(58))::jsonb, \
         3600, 0);\n"
    ))
}

/// Stands for a colon, after which pgbench takes every word for a variable, within quotes too.
const COLON: &str = "~";

fn write_insert(path: &Path) -> Result<()> {
    let statement = "INSERT INTO plain (service, instance, endpoint) VALUES \
                     ('service-1', format('host-%s.8080', CAST(:n AS bigint)), 'http-host-1.8080');";
    Ok(std::fs::write(path, format!("\\set n random(1, 1000000000000)\n{statement}\n"))?)
}

#[cfg(test)]
mod tests;
