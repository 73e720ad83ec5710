//! Starts a registry on a store of its own and runs a command beside it:
//! `with-registry PROGRAM sqlite|postgres COMMAND …`
//!
//! The command finds `REGISTRY_URL`, and in `REGISTRY_STORE` the file or the URL of the store. The node gets those
//! settings of the environment that begin with `REGISTRY_`. The exit status is that of the command, or 1 where the node ended before it was told to.

use std::{
    env,
    process::{Command, ExitCode},
    time::Duration,
};

use testkit::{Postgres, Process, Signal, free_port, get, memory_dir, wait_until};

/// Longest that a node may take to start and to stop.
const SOON: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let (program, store, command) = (arguments.next(), arguments.next(), arguments.next());
    let (Some(program), Some(store), Some(command)) = (program, store, command) else {
        eprintln!("usage: with-registry PROGRAM sqlite|postgres COMMAND ...");
        return ExitCode::from(64);
    };
    let dir = memory_dir();
    let postgres = (store == "postgres").then(Postgres::start);
    let file = dir.path().join("registry.db").display().to_string();
    let (store, database) = match &postgres {
        Some(postgres) => {
            let url = postgres.fresh_database().await;
            (url.clone(), url)
        }
        None => (file.clone(), format!("sqlite://{file}")),
    };
    let port = free_port();
    let mut node = Command::new(program);
    node.envs(env::vars().filter(|(name, _)| name.starts_with("REGISTRY_")));
    node.env("REGISTRY_LISTEN", format!("127.0.0.1:{port}")).env("DATABASE_URL", database);
    let node = Process::start("registry", dir.path(), &mut node);
    let url = format!("http://127.0.0.1:{port}");
    wait_until(SOON, "the node is ready", async || {
        assert!(node.ended().is_none(), "the node ended: {}", node.stderr());
        get(port, "/readyz").await.is_some_and(|(status, _)| status == 200)
    })
    .await;
    let status = Command::new(command)
        .args(arguments)
        .env("REGISTRY_URL", url)
        .env("REGISTRY_STORE", store)
        .status()
        .expect("the command starts");
    if let Some(ended) = node.ended() {
        eprintln!("with-registry: the node ended by itself, {ended}:\n{}", node.stderr());
        return ExitCode::FAILURE;
    }
    node.signal(Signal::TERM);
    let ended = node.wait(SOON).await;
    let text = node.stderr() + &node.stdout();
    if !ended.success() || text.contains("panicked at") {
        eprintln!("with-registry: the node ended with {ended}:\n{text}");
        return ExitCode::FAILURE;
    }
    ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))
}
