//! The command line.

mod dev;
mod healthcheck;
mod token;

use std::{
    ffi::OsString,
    io::{IsTerminal, Write},
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
};

use clap::{Parser, Subcommand, error::ErrorKind};
use tracing::info;

use crate::{
    app::{self, RunError},
    config::{Config, Settings},
    http, lifecycle, log,
    store::StoreError,
};

/// The command line or a setting is wrong (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// Something that is needed is not there: the port, the directory, the file (`EX_UNAVAILABLE` of sysexits.h).
pub const EXIT_UNAVAILABLE: u8 = 69;

/// A service registry: leases over HTTP, kept in Postgres or SQLite, answered from memory.
#[derive(Parser)]
#[command(name = "registry", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Clone, Subcommand)]
enum Command {
    /// Run a node (the default)
    Serve,
    /// Run a node on ./registry.db with a sample service and its sidecar, to try things out
    Dev,
    /// Ask the node on this machine whether it is alive; exit 0 if it is
    Healthcheck,
    /// Keys and signed tokens: make, show, revoke
    #[command(subcommand, arg_required_else_help = true)]
    Token(token::Command),
    /// A small service with /health, for `dev` and docker-compose.yml
    #[command(hide = true)]
    Sample {
        /// Port to listen on at 127.0.0.1 [default: what a node would listen on]
        port: Option<u16>,
    },
}

/// Why the program ends, in one line, and with which exit status.
struct Exit(u8, String);

/// Runs the program.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match execute(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Exit(status, message)) => {
            // Standard error may be closed; there is nowhere else to say it.
            drop(writeln!(std::io::stderr(), "registry: {message}"));
            ExitCode::from(status)
        }
    }
}

/// Help and version are no errors; of an error its first line says all.
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        drop(error.print());
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    drop(writeln!(std::io::stderr(), "registry: {line} (see registry --help)"));
    ExitCode::from(EXIT_USAGE)
}

fn execute(cli: &Cli) -> Result<(), Exit> {
    let usage = |error: crate::config::ConfigError| Exit(EXIT_USAGE, error.to_string());
    let command = cli.command.clone().unwrap_or(Command::Serve);
    match &command {
        Command::Healthcheck => {
            return healthcheck::run(&cli.settings).map_err(|message| Exit(1, message));
        }
        Command::Token(command) => return token::run(command, &cli.settings),
        Command::Serve | Command::Dev | Command::Sample { .. } => {}
    }
    let logging = cli.settings.logging(std::io::stderr().is_terminal()).map_err(usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Exit(EXIT_UNAVAILABLE, format!("threads cannot be started: {error}")))?;
    match command {
        Command::Sample { port } => {
            let address = match port {
                Some(port) => (Ipv4Addr::LOCALHOST, port).into(),
                None => cli.settings.listen().map_err(usage)?,
            };
            runtime.block_on(sample(address)).map_err(|error| unavailable(&error))
        }
        Command::Dev => {
            let config = cli.settings.config().map_err(usage)?;
            log::start(&logging);
            runtime.block_on(dev::run(config)).map_err(|message| Exit(EXIT_UNAVAILABLE, message))
        }
        Command::Serve | Command::Healthcheck | Command::Token(_) => {
            let config = cli.settings.config().map_err(usage)?;
            log::start(&logging);
            runtime.block_on(serve(config))
        }
    }
}

async fn sample(address: SocketAddr) -> std::io::Result<()> {
    let stop = lifecycle::stop_signal()?;
    http::sample(address, async {
        stop.await;
    })
    .await
}

async fn serve(config: Config) -> Result<(), Exit> {
    let first = lifecycle::stop_signal().map_err(|error| unavailable(&error))?;
    let listener = app::bind(config.listen).map_err(|error| exit(&error))?;
    let address = listener.local_addr().map_err(|error| unavailable(&error))?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    info!(%address, scheme, node = config.node_id, version = env!("CARGO_PKG_VERSION"), "listening");
    let stop = async {
        let name = first.await;
        info!("{name} received");
        if let Ok(second) = lifecycle::stop_signal() {
            tokio::spawn(async move {
                second.await;
                std::process::exit(1);
            });
        }
    };
    app::run(config, listener, stop).await.map_err(|error| exit(&error))
}

fn exit(error: &RunError) -> Exit {
    let status = match error {
        RunError::Url(_) => EXIT_USAGE,
        RunError::Store(StoreError::Unusable(_) | StoreError::Unavailable(_)) | RunError::Listen { .. } => {
            EXIT_UNAVAILABLE
        }
        RunError::Metrics(_) | RunError::Signal(_) => 70,
    };
    Exit(status, error.to_string())
}

fn unavailable(error: &std::io::Error) -> Exit {
    Exit(EXIT_UNAVAILABLE, error.to_string())
}
