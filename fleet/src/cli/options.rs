use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use registry_wire::Ttl;
use secrecy::SecretString;
use url::Url;

use crate::{Config, Target};

/// Loads a service registry with simulated sidecars, and judges what it answers.
#[derive(Parser)]
#[command(name = "fleet", version, disable_help_subcommand = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Run sidecars and readers against a registry, then judge it
    ///
    /// The services are named fleet-RUN-N, with another RUN each time, and are deregistered at the end, also after
    /// Ctrl-C; those that no registry takes back in time go when their leases end. Other entries of the registry are neither changed nor judged, but they are listed once in a while.
    ///
    /// Exit status: 0 nothing found, 1 a promise is broken, 64 wrong use, 69 no registry takes the load.
    Run(Run),
    /// Judge the history that an earlier run wrote
    Judge {
        /// A file that `run --history` wrote
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(super) struct Run {
    /// URLs of the registry, comma-separated: a balancer, or nodes
    #[arg(long, value_name = "URL", value_delimiter = ',', required = true)]
    pub(super) registry: Vec<Url>,
    /// How many services
    #[arg(long, value_name = "N", default_value_t = 500)]
    services: u32,
    /// How many instances each service has
    #[arg(long, value_name = "N", default_value_t = 2)]
    instances: u32,
    /// How long to run, with a unit: 500ms, 60s, 5m
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    pub(super) duration: Duration,
    /// The lease of every instance, in seconds: 3 to 3600
    #[arg(long, value_name = "SECONDS", default_value_t = 90)]
    ttl: u64,
    /// Seconds between two beats; a third of the lease, if that is less
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    interval: u64,
    /// The tick of the nodes, as they were told, with a unit; the judge's bounds follow from it
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    tick: Duration,
    /// Start the sidecars evenly over this time
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time)]
    ramp: Duration,
    /// Reads of single services and instances in a second
    #[arg(long, value_name = "N", default_value_t = 100.0)]
    reads_per_second: f64,
    /// Reads of the whole list in a second
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    lists_per_second: f64,
    /// Part of the sidecars to kill without a word after half the time, 0 to 1. To see what becomes of them, the other
    /// half must be longer than the lease and 7 s
    #[arg(long, value_name = "PART", default_value_t = 0.0)]
    pub(super) kill_fraction: f64,
    /// Calls under way at once, of sidecars and of readers each
    #[arg(long, value_name = "N", default_value_t = 512)]
    in_flight: usize,
    /// Repeat the random choices of an earlier run
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// File that holds the write token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Write every operation to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub(super) history: Option<PathBuf>,
    /// Megabytes that the history may take in memory; what comes after is not judged
    #[arg(long, value_name = "N", default_value_t = 2048)]
    history_mb: usize,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Run {
    /// The configuration, or the line that says what is wrong.
    pub(super) fn config(&self) -> Result<Config, String> {
        for url in &self.registry {
            if url.scheme() != "http" || url.host().is_none() {
                return Err(format!("--registry {url}: an http URL is needed; https is not built in"));
            }
        }
        if self.registry.len() > 255 {
            return Err("--registry: at most 255 URLs".to_owned());
        }
        let rates =
            [("reads-per-second", self.reads_per_second), ("lists-per-second", self.lists_per_second)];
        for (name, rate) in rates {
            if !(0.0..=100_000.0).contains(&rate) {
                return Err(format!("--{name} {rate}: must be 0 to 100000"));
            }
        }
        if !(0.0..=1.0).contains(&self.kill_fraction) {
            return Err(format!("--kill-fraction {}: must be 0 to 1", self.kill_fraction));
        }
        if self.interval == 0 {
            return Err("--interval: must be at least 1".to_owned());
        }
        if self.tick.is_zero() {
            return Err("--tick: must be longer than nothing".to_owned());
        }
        let ttl = Ttl::try_from(self.ttl).map_err(|error| format!("--ttl {}: {}", self.ttl, error.rule()))?;
        // Which of them are nodes is not said: an answer may come from any.
        let targets = self.registry.iter().cloned().map(Target::balancer).collect();
        let mut config = Config::new(targets);
        config.catalog.services = self.services;
        config.catalog.instances = self.instances;
        if !config.catalog.is_valid() {
            return Err("--services and --instances: must be at least 1, and not too many".to_owned());
        }
        config.ttl = ttl;
        config.interval = Duration::from_secs(self.interval);
        config.tick = self.tick;
        config.ramp = self.ramp;
        config.reads_per_second = self.reads_per_second;
        config.lists_per_second = self.lists_per_second;
        config.in_flight = self.in_flight.max(1);
        config.seed = self.seed.unwrap_or(config.seed);
        config.history_limit = self.history_mb.saturating_mul(1 << 20);
        config.token = self.token()?;
        Ok(config)
    }

    fn token(&self) -> Result<Option<SecretString>, String> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("--token-file {}: {error}", path.display()))?;
        let token = text.trim();
        if token.is_empty() {
            return Err(format!("--token-file {}: the file is empty", path.display()));
        }
        Ok(Some(token.into()))
    }
}

/// A time with its unit.
fn time(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let millis: u64 = match &text[number.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("a unit is needed: ms, s, m or h".to_owned()),
    };
    let number: u64 =
        number.parse().map_err(|_| "a whole number and a unit are needed, as 60s".to_owned())?;
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| "too long".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::catalog::PREFIX;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
        assert_eq!(PREFIX, "fleet-", "the help names it");
    }

    #[test]
    fn times_have_units() {
        for (text, millis) in [("0s", 0), ("500ms", 500), ("60s", 60_000), ("5m", 300_000), ("1h", 3_600_000)]
        {
            assert_eq!(time(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "60", "s", "-1s", "1.5s", "1 s", "1d", "99999999999999999999s", "18446744073709551615h"]
        {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
