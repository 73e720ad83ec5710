//! What a node and a sidecar cost that have little to do.

use std::{fs, process::Command, time::Duration};

use testkit::{Postgres, Process, free_port};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{Instant, sleep},
};

use super::{
    Group,
    million::{DURABLE, complain, filled, plan, send},
};
use crate::{Result, entries::Entries, lab::Lab, line::Line};

/// About these lines.
pub const GROUP: Group = Group {
    name: "idle",
    title: "With little to do",
    about: "A node with 1,000 services that beat every 30 s and nobody who reads; a sidecar with its default settings, \
            which beats every 30 s and asks its service for its health every 10 s. CPU as the kernel's scheduler counts \
            it, in nanoseconds. `BENCH_IDLE_SECONDS` is how long.",
    apart: false,
};

const ENTRIES: Entries = Entries::new(1_000, 90);

/// Measures them.
///
/// # Errors
/// See [`super::run`].
pub async fn run(lab: &Lab) -> Result<Vec<Line>> {
    let seconds: u64 = match std::env::var("BENCH_IDLE_SECONDS") {
        Ok(text) => text.parse()?,
        Err(_) => 90,
    };
    let server = Postgres::start_with(&DURABLE);
    let database = filled(lab, &server, ENTRIES).await?;
    let node = lab.node(&database, &[]).await?;
    let service = service().await?;
    let mut command = Command::new(lab.program("sidecar"));
    command.envs([
        ("SERVICE_NAME", "idle"),
        ("SERVICE_HOST", "127.0.0.1"),
        ("SERVICE_PORT", &service.to_string()),
        ("REGISTRY_URL", &node.url()),
    ]);
    let sidecar = Process::start("sidecar", lab.dir(), &mut command);
    let mut load = plan(&node, 33, Duration::from_secs(seconds + 12));
    load.connections = 8;
    let beating = tokio::spawn(send(load, |turn, out| ENTRIES.beat(turn, out)));
    // The sidecar has registered by then, and what a start costs is over.
    sleep(Duration::from_secs(10)).await;
    let (begun, node_before, sidecar_before) = (Instant::now(), cpu(node.pid())?, cpu(sidecar.pid())?);
    sleep(Duration::from_secs(seconds)).await;
    let took = begun.elapsed().as_secs_f64();
    let node_share = cpu(node.pid())?.saturating_sub(node_before).as_secs_f64() / took * 100.0;
    let sidecar_hour = cpu(sidecar.pid())?.saturating_sub(sidecar_before).as_secs_f64() / took * 3600.0 * 1e3;
    complain(&beating.await??)?;
    let over = format!("over {seconds} s");
    Ok(vec![
        Line::new(
            "idle node with 1,000 beating services",
            "≤ 1 % of a core",
            format!("{node_share:.2} %"),
            node_share <= 1.0,
        )
        .note(over.clone()),
        Line::new(
            "idle sidecar",
            "≤ 250 ms CPU per hour with its probes",
            format!("{sidecar_hour:.0} ms"),
            sidecar_hour <= 250.0,
        )
        .note(format!("{over}, times {:.0}", 3600.0 / took)),
    ])
}

/// A service that says that it is well, on this port.
async fn service() -> Result<u16> {
    let port = free_port();
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{\"status\":\"healthy\"}";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(port)
}

/// CPU of all threads that live.
pub(super) fn cpu(pid: u32) -> Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let counted = fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += counted.split_whitespace().next().ok_or("an empty schedstat")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}
