use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{dir::dir, free_port, keeper::Keeper, programs::programs};

const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(20);
/// The server itself kills what is left of an immediate stop after 5 s.
const PATIENCE: Duration = Duration::from_secs(7);
const PAUSE: Duration = Duration::from_millis(20);

/// How a server is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// When the last client has gone.
    Smart,
    /// At once, clients cut off, everything written.
    Fast,
    /// At once, as in a crash.
    Immediate,
}

/// A private server on a port of the loopback interface, in a directory of its own. It ends when this value is
/// dropped, or when the process dies in any way.
///
/// Superuser `postgres`, no password. It does not wait for the disk unless `fsync` is switched on.
#[derive(Debug)]
pub struct Postgres {
    dir: PathBuf,
    port: u16,
    settings: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    server: Mutex<Option<Child>>,
    // Dropped last: it ends the server and removes the directory.
    _keeper: Keeper,
}

impl Postgres {
    /// Starts a server. Blocks until it answers.
    ///
    /// # Panics
    /// When Postgres is not installed or does not start.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with these settings, as in `postgresql.conf`.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_under(settings, &[])
    }

    /// [`Postgres::start_with`] with further environment variables.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub fn start_under(settings: &[(&str, &str)], environment: &[(&str, String)]) -> Self {
        Self::start_on(settings, environment, |data| programs().new_data(data))
    }

    /// Starts a standby that follows this server, by a copy of its data. Blocks until it answers.
    ///
    /// # Panics
    /// When it cannot be made, as where this server does not run.
    #[must_use]
    pub fn standby(&self) -> Self {
        Self::start_on(&[("hot_standby", "on")], &[], |data| programs().copy_of_server(self.port, data))
    }

    /// Makes a standby a server that can be written. Returns when it can.
    ///
    /// # Panics
    /// When it is none, or does not answer.
    pub async fn promote(&self) {
        let done = async {
            let mut connection = PgConnection::connect(&self.url("postgres")).await?;
            sqlx::query_scalar::<_, bool>("SELECT pg_promote(wait => true)").fetch_one(&mut connection).await
        };
        match done.await {
            Ok(promoted) => assert!(promoted, "the standby was not promoted in time:\n{}", self.log()),
            Err(error) => panic!("cannot promote: {error}"),
        }
    }

    fn start_on(settings: &[(&str, &str)], environment: &[(&str, String)], prepare: impl Fn(&Path)) -> Self {
        let owned = |pairs: &[(&str, &str)]| -> Vec<_> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let programs = programs();
        // Who asks for the disk's word waits for a disk.
        let on_disk = settings.contains(&("fsync", "on"));
        let dir = dir("testkit-postgres-", on_disk);
        programs.own(dir.path());
        let keeper = Keeper::of(dir.path());
        let mut postgres = Self {
            dir: dir.keep(),
            port: 0,
            settings: owned(settings),
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            server: Mutex::new(None),
            _keeper: keeper,
        };
        prepare(&postgres.dir.join("data"));
        for _ in 0..5 {
            postgres.port = free_port();
            if postgres.try_start() {
                return postgres;
            }
        }
        panic!("Postgres does not start:\n{}", postgres.log());
    }

    /// The server that all tests of this process share.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// The URL of one of its databases. `postgres` is always there.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The port that it listens on, also after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes an empty database and gives its URL.
    ///
    /// # Panics
    /// When the server does not make one.
    pub async fn fresh_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let made = async {
            let mut connection = PgConnection::connect(&self.url("postgres")).await?;
            sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
            connection.close().await
        };
        made.await.unwrap_or_else(|error| panic!("cannot make a database: {error}"));
        self.url(&name)
    }

    /// The server's process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server().as_ref().map(Child::id)
    }

    /// Stops the server and waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&self, mode: StopMode) {
        self.end(match mode {
            StopMode::Smart => Signal::TERM,
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        });
    }

    /// Kills the server's first process; the others end when they notice.
    ///
    /// # Panics
    /// When it does not end.
    pub fn kill_9(&self) {
        self.end(Signal::KILL);
    }

    /// Sends a signal to the server's first process: STOP leaves those of its clients at work.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, signal: Signal) {
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed())).expect("the server runs");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("cannot send a signal: {error}"));
    }

    /// Sends a signal to all of the server's processes, those of its clients first: STOP pauses it as a whole.
    ///
    /// # Panics
    /// When it does not run, or where there is no `/proc`.
    pub fn signal_all(&self, signal: Signal) {
        let pid = self.pid().expect("the server runs");
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .unwrap_or_else(|error| panic!("no /proc: {error}"));
        for child in children.split_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?)) {
            // It may have ended in this moment.
            let _ = kill_process(child, signal);
        }
        self.signal(signal);
    }

    /// Starts a stopped or killed server again, on the same port with the same data.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&self) {
        // What is left of a killed server may hold its memory for a moment.
        for _ in 0..50 {
            if self.try_start() {
                return;
            }
            sleep(PAUSE * 5);
        }
        panic!("Postgres does not start again:\n{}", self.log());
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn server(&self) -> MutexGuard<'_, Option<Child>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, signal: Signal) {
        let Some(mut child) = self.server().take() else {
            return;
        };
        let pid = Pid::from_child(&child);
        kill_process(pid, signal).unwrap_or_else(|error| panic!("cannot stop Postgres: {error}"));
        let mut waited = Duration::ZERO;
        while child.try_wait().is_ok_and(|status| status.is_none()) {
            assert!(waited < STOP, "Postgres does not stop:\n{}", self.log());
            sleep(PAUSE);
            waited += PAUSE;
            if signal == Signal::QUIT && (PATIENCE..PATIENCE + PAUSE).contains(&waited) {
                // A session that begins in the moment of an immediate stop is now and then waited for without end.
                // Nothing is lost by a harder end: an immediate stop is a crash for the data.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    /// False if the server ended instead of answering.
    fn try_start(&self) -> bool {
        let log = File::options().create(true).append(true).open(self.dir.join("log")).expect("a log file");
        let mut command = programs().as_server_under("postgres", &self.environment);
        command.arg("-D").arg(self.dir.join("data"));
        let port = self.port.to_string();
        let common = [
            ("listen_addresses", "127.0.0.1"),
            ("port", &port),
            ("unix_socket_directories", ""),
            ("max_connections", "200"),
            ("fsync", "off"),
            ("full_page_writes", "off"),
            // In its own directory, so that nothing is left of one that was killed.
            ("dynamic_shared_memory_type", "mmap"),
        ];
        let own = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in common.into_iter().chain(own) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .current_dir("/")
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let mut waited = Duration::ZERO;
        while waited < START {
            if child.try_wait().is_ok_and(|status| status.is_some()) {
                return false;
            }
            let answers = programs()
                .plain("pg_isready")
                .args(["-q", "-h", "127.0.0.1", "-p", &port])
                .status()
                .is_ok_and(|status| status.success());
            if answers {
                *self.server() = Some(child);
                return true;
            }
            sleep(PAUSE);
            waited += PAUSE;
        }
        let _ = child.kill();
        let _ = child.wait();
        false
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop(StopMode::Immediate);
    }
}
