//! The bench's program; `scripts/bench` builds what it needs and runs it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use bench::{
    document::{Measured, render},
    lab::{Lab, Rounds},
    line::Line,
    lines::{self, GROUPS, Group},
    machine::Machine,
};
use clap::Parser;
use tokio::time::Instant;

/// A median of fewer says little.
const ROUNDS: usize = 5;

/// Long enough for some hundred thousand calls.
const SECONDS: u64 = 3;

/// Measures speed and scale, and writes docs/BENCHMARKS.md.
#[derive(Parser)]
struct Cli {
    /// The source tree
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// Where the release builds are
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Groups of lines to measure, separated by commas
    #[arg(long, env = "BENCH_ONLY", value_delimiter = ',')]
    only: Vec<String>,
    /// Rounds; ratios are their medians
    #[arg(long, env = "BENCH_ROUNDS", default_value_t = ROUNDS)]
    rounds: usize,
    /// Seconds for which each server is loaded in each round
    #[arg(long, env = "BENCH_SECONDS", default_value_t = SECONDS)]
    seconds: u64,
    /// The document to write, besides standard output
    #[arg(long)]
    out: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let unknown: Vec<_> =
        cli.only.iter().filter(|name| !GROUPS.iter().any(|group| group.name == *name)).collect();
    if !unknown.is_empty() || cli.rounds == 0 || cli.seconds == 0 {
        let names: Vec<_> = GROUPS.iter().map(|group| group.name).collect();
        eprintln!("bench: the groups are {}; rounds and seconds are at least 1", names.join(","));
        return ExitCode::from(64);
    }
    match measure(&cli).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures what was asked for. False if something could not be measured that should have been.
async fn measure(cli: &Cli) -> bench::Result<bool> {
    let start = Instant::now();
    let rounds = Rounds { count: cli.rounds, length: Duration::from_secs(cli.seconds) };
    let lab = Lab::new(&cli.root, &cli.programs, rounds)?;
    let machine = Machine::ask(&cli.root);
    let wanted = |group: &&Group| {
        if cli.only.is_empty() { !group.apart } else { cli.only.iter().any(|name| name == group.name) }
    };
    let mut measured = Vec::new();
    let mut whole = true;
    for group in GROUPS.iter().filter(wanted) {
        eprintln!("bench: {} ...", group.name);
        let lines = match lines::run(group, &lab).await {
            Ok(lines) => lines,
            Err(error) => {
                whole = false;
                eprintln!("bench: {}: {error}", group.name);
                vec![Line::left_out(group.title, "", format!("could not be measured: {error}"))]
            }
        };
        measured.push(Measured { group, lines });
    }
    let text = render(&machine, &command(cli), start.elapsed(), &measured);
    print!("{text}");
    if let Some(out) = &cli.out {
        write(out, &text)?;
    }
    Ok(whole)
}

/// How a person repeats this.
fn command(cli: &Cli) -> String {
    let mut words = Vec::new();
    if !cli.only.is_empty() {
        words.push(format!("BENCH_ONLY={}", cli.only.join(",")));
    }
    if cli.rounds != ROUNDS {
        words.push(format!("BENCH_ROUNDS={}", cli.rounds));
    }
    if cli.seconds != SECONDS {
        words.push(format!("BENCH_SECONDS={}", cli.seconds));
    }
    words.push("make bench".to_owned());
    words.join(" ")
}

/// Whole or not at all.
fn write(path: &Path, text: &str) -> bench::Result<()> {
    let half = path.with_extension("half");
    std::fs::write(&half, text)?;
    std::fs::rename(&half, path)?;
    Ok(())
}
