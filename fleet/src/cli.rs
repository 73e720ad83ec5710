//! The command line.
//!
//! In: arguments, signals.
//! Owns: the texts, the exit status: 0 innocent, 1 guilty, 64 wrong use, 69 no registry that takes the load.
//! Out: figures and verdicts, for people or as JSON; a history as JSON lines.

mod options;

use std::{
    ffi::OsString,
    fs::File,
    io::{BufReader, BufWriter, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, error::ErrorKind};
use registry_wire::Problem;
use reqwest::Method;
use serde::Serialize;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};

use self::options::{Cli, Command, Run};
use crate::{
    Config, Fleet, History, StartError,
    client::{Client, Reply},
    figures::Figures,
    judge::{self, Judgement},
};

/// Wrong use (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;
/// No registry that takes the load, or a file that cannot be used (`EX_UNAVAILABLE` of sysexits.h).
pub const EXIT_UNAVAILABLE: u8 = 69;
/// A promise was broken.
pub const EXIT_GUILTY: u8 = 1;

/// How long a registry may take to answer before the run.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

struct Exit(u8, String);

impl From<StartError> for Exit {
    fn from(error: StartError) -> Self {
        Self(EXIT_USAGE, error.to_string())
    }
}

/// Runs the program.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let done = match cli.command {
        Command::Run(run) => execute(&run),
        Command::Judge { file, json } => again(&file, json),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_GUILTY),
        Err(Exit(status, message)) => {
            // Standard error may be closed; there is nowhere else to say it.
            drop(writeln!(std::io::stderr(), "fleet: {message}"));
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
    drop(writeln!(std::io::stderr(), "fleet: {line} (see fleet run --help)"));
    ExitCode::from(EXIT_USAGE)
}

fn execute(run: &Run) -> Result<bool, Exit> {
    let config = run.config().map_err(|text| Exit(EXIT_USAGE, text))?;
    let history_file = run.history.as_deref().map(create).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Exit(EXIT_UNAVAILABLE, format!("threads cannot be started: {error}")))?;
    let history = runtime.block_on(load(run, config))?;
    if let Some(file) = history_file {
        let mut out = BufWriter::new(file);
        history
            .write_lines(&mut out)
            .and_then(|()| out.flush())
            .map_err(|error| Exit(EXIT_UNAVAILABLE, format!("the history cannot be written: {error}")))?;
    }
    Ok(tell(&history, run.json))
}

fn create(path: &Path) -> Result<File, Exit> {
    File::create(path)
        .map_err(|error| Exit(EXIT_UNAVAILABLE, format!("{} cannot be written: {error}", path.display())))
}

/// Judges the history of an earlier run.
fn again(path: &Path, json: bool) -> Result<bool, Exit> {
    let cannot = |text: String| Exit(EXIT_UNAVAILABLE, format!("{}: {text}", path.display()));
    let file = File::open(path).map_err(|error| cannot(error.to_string()))?;
    let history = History::read_lines(BufReader::new(file)).map_err(|error| cannot(error.to_string()))?;
    Ok(tell(&history, json))
}

async fn load(run: &Run, config: Config) -> Result<History, Exit> {
    let cannot = |error: std::io::Error| Exit(EXIT_UNAVAILABLE, format!("no signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    preflight(&config).await?;
    let count = config.catalog.len();
    say(&format!(
        "seed {}: {} services of {} instances, named {}, at {}",
        config.seed,
        config.catalog.services,
        config.catalog.instances,
        config.catalog.service(0),
        run.registry.iter().map(url::Url::as_str).collect::<Vec<_>>().join(", ")
    ));
    let (half, tick) = (run.duration / 2, config.tick);
    let mut fleet = Fleet::start(&config)?;
    let scenario = async {
        sleep(half).await;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a fraction between 0 and 1 of a count"
        )]
        let doomed = fleet.pick((f64::from(count) * run.kill_fraction).round() as usize);
        if !doomed.is_empty() {
            say(&format!("killing {} sidecars", doomed.len()));
            fleet.kill(&doomed);
        }
        sleep(run.duration.saturating_sub(half)).await;
    };
    tokio::select! {
        () = scenario => {}
        _ = interrupt.recv() => say("interrupted: deregistering"),
        _ = terminate.recv() => say("interrupted: deregistering"),
    }
    let registered = fleet.registered();
    say(&format!(
        "{registered} of {count} sidecars were registered at the end; deregistering (tick {tick:?})"
    ));
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(EXIT_UNAVAILABLE.into());
    });
    let history = fleet.stop().await;
    if registered == 0 {
        return Err(Exit(EXIT_UNAVAILABLE, "no registration was acknowledged".to_owned()));
    }
    Ok(history)
}

/// Asks each registry once whether it would take the load, before anything is made.
async fn preflight(config: &Config) -> Result<(), Exit> {
    let client = Client::new(&config.targets, config.token.clone(), 1)
        .map_err(|error| Exit(EXIT_USAGE, error.to_string()))?;
    let mut trouble = String::new();
    let mut answered = false;
    for (target, named) in config.targets.iter().enumerate() {
        let refused = |reply: &Reply| {
            let detail = serde_json::from_slice::<Problem>(&reply.body).map(|problem| problem.detail);
            format!("{} answers {}: {}", named.url, reply.status, detail.unwrap_or_default())
        };
        let list = timeout(FIRST_ANSWER, client.send(target, Method::GET, "/services?limit=1", None)).await;
        match list {
            Ok(Some(reply)) if reply.status == 200 => {}
            Ok(Some(reply)) => {
                trouble = refused(&reply);
                continue;
            }
            _ => {
                trouble = format!("{} does not answer", named.url);
                continue;
            }
        }
        // A beat of an instance that is not there changes nothing and needs the same right as a real one.
        let path = format!("/services/{}/instances/nobody/heartbeat", config.catalog.service(0));
        let beat = timeout(FIRST_ANSWER, client.send(target, Method::PUT, &path, None)).await;
        match beat {
            Ok(Some(reply)) if reply.not_there() => answered = true,
            Ok(Some(reply)) if matches!(reply.status, 401 | 403) => {
                return Err(Exit(EXIT_UNAVAILABLE, format!("{} (see --token-file)", refused(&reply))));
            }
            Ok(Some(reply)) => trouble = refused(&reply),
            _ => trouble = format!("{} does not answer a heartbeat", named.url),
        }
    }
    if answered { Ok(()) } else { Err(Exit(EXIT_UNAVAILABLE, trouble)) }
}

/// Progress goes to standard error, so that standard output holds the result alone.
fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "fleet: {text}"));
}

#[derive(Serialize)]
struct Told<'a> {
    seed: u64,
    innocent: bool,
    figures: &'a Figures,
    judgement: &'a Judgement,
}

/// Prints the figures and verdicts. Whether the registry is innocent.
fn tell(history: &History, json: bool) -> bool {
    let (figures, judgement) = (Figures::of(history), judge::judge(history));
    let innocent = judgement.innocent();
    let text = if json {
        let told = Told { seed: history.header.seed, innocent, figures: &figures, judgement: &judgement };
        serde_json::to_string_pretty(&told).unwrap_or_default() + "\n"
    } else {
        let word = if innocent { "innocent" } else { "GUILTY" };
        let unanswered = figures.unanswered_percent();
        let note = if unanswered >= 10 {
            format!(", but {unanswered} % of the calls got no good answer: little could be seen")
        } else {
            String::new()
        };
        format!(
            "{}\n{}\nverdict: {word}{note} (seed {})\n",
            figures.table(),
            history.explain_all(&judgement),
            history.header.seed
        )
    };
    drop(std::io::stdout().write_all(text.as_bytes()));
    innocent
}
