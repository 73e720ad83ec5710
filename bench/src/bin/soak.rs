//! `make soak`: see [`bench::soak`].

use std::{path::PathBuf, process::ExitCode, time::Duration};

use bench::{
    lab::{Lab, Rounds},
    machine::Machine,
    soak,
};
use clap::Parser;

/// Runs a node for a long time and writes docs/SOAK.md.
#[derive(Parser)]
struct Cli {
    /// The source tree
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// Where the release builds are
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// For how long
    #[arg(long, env = "SOAK_MINUTES", default_value_t = 30)]
    minutes: u64,
    /// The document to write, besides standard output
    #[arg(long)]
    out: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: &Cli) -> bench::Result<bool> {
    let lab = Lab::new(&cli.root, &cli.programs, Rounds { count: 1, length: Duration::from_secs(1) })?;
    let (text, kept) = soak::run(&lab, &Machine::ask(&cli.root), cli.minutes.max(1)).await?;
    print!("{text}");
    if let Some(out) = &cli.out {
        std::fs::write(out, &text)?;
    }
    Ok(kept)
}
