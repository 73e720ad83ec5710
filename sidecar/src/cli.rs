//! The binary's commands.
//!
//! In: arguments, environment, signals.
//! Owns: exit codes (those of sysexits.h) and the texts of the commands.
//! Out: an exit code.

use std::{env, ffi::OsString, io, process, time::Duration};

use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{Config, ConfigError, RunError, Source, doctor, log::Log, run, socket};

const HELP: &str = "\
Registers the service beside it, keeps its lease, and takes it back on SIGTERM.

Usage: sidecar               run
       sidecar healthcheck   ask the running sidecar whether its last beat was acknowledged within a lease
       sidecar doctor        try every step once, register nothing, say what is wrong
       sidecar --help | --version

Environment:
  SERVICE_NAME               required
  SERVICE_HOST               required; the host as readers reach it, or 'auto': the address towards the registry
  SERVICE_PORT               8080
  SERVICE_SCHEME             http
  SERVICE_HEALTH_ENDPOINT    /health
  SERVICE_METADATA           none; k=v,k=v, which wins over 'version' and 'status' of a JSON health answer
  SERVICE_TTL                three heartbeats; 3 to 3600 seconds
  INSTANCE_ID                SERVICE_HOST:SERVICE_PORT
  REGISTRY_URL               http://vertice-register-lb:8888; a list with commas is tried in order
  REGISTRY_TOKEN             none; else VERTICE_REGISTRY_TOKEN, else REGISTRY_AUTH_TOKEN; each also with _FILE
  HEARTBEAT_INTERVAL         30 seconds, or less if the registry asks for less
  INITIAL_WAIT_TIMEOUT       60 seconds, then registers as critical
  HEALTH_INTERVAL            10 seconds
  HEALTH_FAILURES            3
  DRAIN_SECONDS              0
  SIDECAR_LISTEN             none; ADDRESS:PORT for /health and /metrics
  SIDECAR_LOG                info; off, error, warn, info, debug or trace; or a list: info,sidecar=debug
  SIDECAR_LOG_FORMAT         text on a terminal, else json
  REGISTRY_CA_FILE           the system's; certificates to trust of registries with https, in PEM, instead
  REGISTRY_CLIENT_CERT_FILE  none; the certificate to show to registries, in PEM
  REGISTRY_CLIENT_KEY_FILE   none; its key, in PEM
  SSL_CERT_FILE              the system's; certificates to trust for https, in PEM

Proxies named in the environment are not used: the registry is asked directly.
Exit codes: 0 done, 1 healthcheck or doctor found something, 64 wrong use or configuration, 69 address taken.
";

/// Wrong use or configuration.
const USAGE: u8 = 64;
/// Something that is needed is not to be had.
const UNAVAILABLE: u8 = 69;
/// A failed check.
const FAILED: u8 = 1;

/// Does what the arguments say. Gives the exit code; the last words are on stderr by then.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<String> =
        arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => run_until_told(),
        ["healthcheck"] => health_check(),
        ["doctor"] => examine(),
        ["--help" | "-h" | "help"] => print(HELP),
        ["--version" | "-V"] => print(concat!("sidecar ", env!("CARGO_PKG_VERSION"), "\n")),
        [first, ..] => {
            let first = first.escape_debug();
            fail(USAGE, &format!("'{first}' is no command here: see sidecar --help"))
        }
    }
}

fn print(text: &str) -> u8 {
    match io::Write::write_all(&mut io::stdout(), text.as_bytes()) {
        Ok(()) => 0,
        Err(_) => FAILED,
    }
}

fn fail(code: u8, line: &str) -> u8 {
    let _ = io::Write::write_all(&mut io::stderr(), format!("sidecar: {line}\n").as_bytes());
    code
}

fn variable(name: &str) -> Option<OsString> {
    env::var_os(name)
}

/// One thread, and one more only while a name is being resolved.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_keep_alive(Duration::from_millis(100))
        .build()
}

fn run_until_told() -> u8 {
    let source = Source::new(&variable);
    let (log, config) = match (Log::from_source(&source), Config::from_source(&source)) {
        (Ok(log), Ok(config)) => (log, config),
        (Err(error), _) | (_, Err(error)) => return usage(&error),
    };
    log.install();
    let result = runtime().and_then(|runtime| {
        let context = runtime.enter();
        let signals = Signals::install()?;
        drop(context);
        // As a task: waking the future that the runtime blocks on costs a write and a poll of the system each time.
        let sidecar = runtime.spawn(run(config, signals.first()));
        let result = runtime.block_on(sidecar);
        // Dropping it would wait for a name that is being looked up.
        runtime.shutdown_background();
        Ok(result?)
    });
    match result {
        Ok(Ok(())) => 0,
        Ok(Err(RunError::Config(error))) => usage(&error),
        Ok(Err(error @ RunError::Listen { .. })) => fail(UNAVAILABLE, &error.to_string()),
        Err(error) => fail(UNAVAILABLE, &format!("cannot start: {error}")),
    }
}

fn usage(error: &ConfigError) -> u8 {
    fail(USAGE, &error.to_string())
}

fn health_check() -> u8 {
    match Config::from_source(&Source::new(&variable)) {
        Err(error) => usage(&error),
        Ok(config) => match socket::ask(&config.name()) {
            Ok(_) => 0,
            Err(why) => fail(FAILED, &why),
        },
    }
}

fn examine() -> u8 {
    let config = match Config::from_source(&Source::new(&variable)) {
        Ok(config) => config,
        Err(error) => {
            print(&format!("failed  configuration: {error}\n"));
            return USAGE;
        }
    };
    match runtime() {
        Ok(runtime) => {
            let good = runtime.block_on(doctor::examine(&config, &mut io::stdout()));
            runtime.shutdown_background();
            if good { 0 } else { FAILED }
        }
        Err(error) => fail(UNAVAILABLE, &format!("cannot start: {error}")),
    }
}

/// The signals that ask to leave. Handlers are installed, because PID 1 has none and the kernel gives it no default
/// action either.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", 15),
            _ = self.interrupt.recv() => ("SIGINT", 2),
        }
    }

    /// The name of the first signal. The second one ends the process at once.
    async fn first(mut self) -> String {
        let (name, _) = self.next().await;
        tokio::spawn(async move {
            let (_, number) = self.next().await;
            process::exit(128 + number);
        });
        name.to_owned()
    }
}
