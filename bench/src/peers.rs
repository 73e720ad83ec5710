//! Redis and etcd, beside which beats are measured.

use std::{process::Command, time::Duration};

use testkit::free_port;
use tokio::task::JoinSet;

use crate::{
    Result,
    lab::{Lab, Server, call},
    wrk,
};

/// Why the line is left out where it is missing.
pub const REDIS_MISSING: &str = "Redis is not installed (Debian: redis-server redis-tools)";

/// Why the line is left out where it is missing.
pub const ETCD_MISSING: &str = "etcd is not installed (Debian: etcd-server)";

/// What redis-benchmark is told to do at first, to learn how much it does in a second.
const TRIAL: u64 = 50_000;

/// Leases of etcd: as many as there are instances.
const LEASES: usize = 10_000;

/// Calls at a time that grant them.
const GRANTS: usize = 32;

/// A Redis in memory alone.
#[derive(Debug)]
pub struct Redis {
    server: Server,
    rate: f64,
}

impl Redis {
    /// Whether it and its benchmark are installed.
    pub fn is_installed(lab: &Lab) -> bool {
        lab.has("redis-server") && lab.has("redis-benchmark")
    }

    /// Starts one.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(lab: &Lab) -> Result<Self> {
        let server = lab
            .serve("redis", |port| {
                let mut command = Command::new("redis-server");
                command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
                command.args(["--save", "", "--appendonly", "no"]);
                command
            })
            .await?;
        let rate = set(&server, TRIAL).await?;
        Ok(Self { server, rate })
    }

    /// `SET` with a time to live for about this long; how many a second.
    ///
    /// # Errors
    /// redis-benchmark fails.
    pub async fn load(&self, length: Duration) -> Result<f64> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some hundred thousand")]
        let calls = (self.rate * length.as_secs_f64()) as u64;
        set(&self.server, calls).await
    }
}

async fn set(server: &Server, calls: u64) -> Result<f64> {
    let output = tokio::process::Command::new("redis-benchmark")
        .args(["-h", "127.0.0.1", "-p", &server.port().to_string(), "-c", &wrk::CONNECTIONS.to_string()])
        .args(["-n", &calls.to_string(), "-r", "10000", "--csv"])
        .args(["SET", "instance:__rand_int__", "passing", "EX", "90"])
        .kill_on_drop(true)
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout);
    rate_of_csv(&text).ok_or_else(|| format!("redis-benchmark: {text}").into())
}

/// The column `rps` of what redis-benchmark writes.
fn rate_of_csv(text: &str) -> Option<f64> {
    let cells = |line: &str| -> Vec<String> {
        line.split("\",\"").map(|cell| cell.trim_matches('"').to_owned()).collect()
    };
    let mut lines = text.lines().skip_while(|line| !line.starts_with("\"test\""));
    let column = cells(lines.next()?).iter().position(|cell| cell == "rps")?;
    cells(lines.next()?).get(column)?.parse().ok()
}

/// An etcd with leases.
#[derive(Debug)]
pub struct Etcd {
    server: Server,
    requests: String,
}

impl Etcd {
    /// Whether it is installed.
    pub fn is_installed(lab: &Lab) -> bool {
        lab.has("etcd")
    }

    /// Starts one, with its leases granted.
    ///
    /// # Errors
    /// It does not start, or grants none.
    pub async fn start(lab: &Lab) -> Result<Self> {
        let peer = format!("http://127.0.0.1:{}", free_port());
        let server = lab
            .serve("etcd", |port| {
                let client = format!("http://127.0.0.1:{port}");
                let mut command = Command::new("etcd");
                command.args(["--data-dir", "etcd.data"]);
                command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
                command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
                command.args(["--initial-cluster", &format!("default={peer}")]);
                command
            })
            .await?;
        // Not before it has a leader.
        grant(server.port()).await?;
        let mut granting = JoinSet::new();
        for _ in 0..GRANTS {
            let port = server.port();
            granting.spawn(async move {
                let mut ids = Vec::new();
                for _ in 0..LEASES / GRANTS {
                    ids.push(grant(port).await?);
                }
                Ok::<_, crate::Error>(ids)
            });
        }
        let mut requests = Vec::new();
        while let Some(ids) = granting.join_next().await {
            requests.extend(
                ids??
                    .into_iter()
                    .map(|id| ("POST", "/v3/lease/keepalive".to_owned(), format!(r#"{{"ID":"{id}"}}"#))),
            );
        }
        let file = lab.dir().join("etcd.requests");
        wrk::requests(&file, requests.into_iter())?;
        Ok(Self { server, requests: file.to_str().ok_or("a path that is no text")?.to_owned() })
    }

    /// Keeps leases alive; how many a second.
    ///
    /// # Errors
    /// See [`wrk::run`].
    pub async fn load(&self, lab: &Lab) -> Result<f64> {
        let length = lab.rounds().length;
        Ok(wrk::run(lab, self.server.port(), "random.lua", &[&self.requests], length).await?.rate)
    }
}

/// The number of a new lease. Right after its start an etcd has no leader yet.
async fn grant(port: u16) -> Result<String> {
    for _ in 0..100 {
        let answer = call(port, "POST", "/v3/lease/grant", r#"{"TTL":"3600"}"#).await?;
        let id = answer.body.split("\"ID\":\"").nth(1).and_then(|rest| rest.split('"').next());
        if let Some(id) = id.filter(|_| answer.status == 200) {
            return Ok(id.to_owned());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("etcd grants no lease".into())
}

#[cfg(test)]
mod tests;
