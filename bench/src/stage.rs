//! What the lines about throughput are measured on.

use std::{path::PathBuf, process::Command};

use testkit::Postgres;

use crate::{
    Result,
    lab::{Answer, Lab, Server, call},
    population::Population,
    rounds, wrk,
};

/// How long a server is loaded before the first round.
const WARM_UP: std::time::Duration = std::time::Duration::from_secs(1);

/// A call that is measured.
pub trait Calls {
    /// The names of its files.
    const NAME: &'static str;

    /// Method, path and body of one for the instance of this number.
    fn of(population: &Population, n: usize) -> (&'static str, String, String);
}

/// A node with Postgres behind it and the usual population, and the limit that answers as it does.
#[derive(Debug)]
pub struct Stage {
    /// The node.
    pub node: Server,
    /// The limit.
    pub limit: Server,
    /// The file of the requests.
    pub requests: String,
    postgres: Postgres,
}

impl Stage {
    /// Starts everything, and loads each server for a moment.
    ///
    /// # Errors
    /// Something does not start, or an answer is no success.
    pub async fn open<C: Calls>(lab: &Lab) -> Result<Self> {
        let population = lab.population();
        let postgres = Postgres::start();
        let node = lab.node(&postgres.fresh_database().await, &[]).await?;
        population.register(node.port()).await?;
        let file = lab.dir().join(format!("{}.requests", C::NAME));
        wrk::requests(&file, (0..population.len()).map(|n| C::of(&population, n)))?;
        let answer = usual::<C>(&node, &population).await?;
        let limit = limit(lab, C::NAME, &answer).await?;
        let requests = file.to_str().ok_or("a path that is no text")?.to_owned();
        let stage = Self { node, limit, requests, postgres };
        for server in [&stage.limit, &stage.node] {
            rounds::load(lab, server, None, &stage.requests, WARM_UP).await?;
        }
        Ok(stage)
    }

    /// The first process of the Postgres behind the node.
    ///
    /// # Errors
    /// It has ended.
    pub fn store(&self) -> Result<u32> {
        Ok(self.postgres.pid().ok_or("Postgres has ended")?)
    }
}

/// The answer of median length among some of the node's.
async fn usual<C: Calls>(node: &Server, population: &Population) -> Result<Answer> {
    let mut answers = Vec::new();
    for n in (0..population.len()).step_by((population.len() / 50).max(1)) {
        let (method, path, body) = C::of(population, n);
        let answer = call(node.port(), method, &path, &body).await?;
        if answer.status != 200 {
            return Err(format!("{method} {path} was answered {}", answer.status).into());
        }
        answers.push(answer);
    }
    answers.sort_by_key(|answer| answer.body.len());
    Ok(answers.swap_remove(answers.len() / 2))
}

/// Starts the limit.
async fn limit(lab: &Lab, name: &str, answer: &Answer) -> Result<Server> {
    let file: PathBuf = lab.dir().join(format!("{name}.answer"));
    std::fs::write(&file, format!("{}\r\n\r\n{}", answer.head, answer.body))?;
    lab.serve("limit", |port| {
        let mut command = Command::new(lab.program("bench-limit"));
        command.arg("--port").arg(port.to_string()).arg("--answer").arg(file);
        command
    })
    .await
}
