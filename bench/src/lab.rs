//! Where things are measured: private servers of which each ends with this process.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;
use testkit::{Process, free_port, wait_until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{Result, population::Population};

/// Longest that a server takes to start.
const START: Duration = Duration::from_secs(60);

/// How long and how often is measured.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// How many; a ratio is their median.
    pub count: usize,
    /// How long each server is loaded in each.
    pub length: Duration,
}

/// The workplace: programs, a temporary directory, the length of rounds.
#[derive(Debug)]
pub struct Lab {
    dir: TempDir,
    root: PathBuf,
    programs: PathBuf,
    rounds: Rounds,
    population: Population,
}

/// A server that was started, on 127.0.0.1. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Server {
    process: Process,
    port: u16,
}

impl Server {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its process, to send it signals or wait for its end.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Lab {
    /// A workplace. `root` is the source tree, `programs` the directory with the release builds.
    ///
    /// # Errors
    /// A temporary directory cannot be made.
    pub fn new(root: &Path, programs: &Path, rounds: Rounds) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("bench-").tempdir()?;
        Ok(Self {
            dir,
            root: root.canonicalize()?,
            programs: programs.canonicalize()?,
            rounds,
            population: Population::USUAL,
        })
    }

    /// The workplace with another population for the lines about throughput.
    #[must_use]
    pub fn with_population(self, population: Population) -> Self {
        Self { population, ..self }
    }

    /// Who is there in the lines about throughput.
    pub fn population(&self) -> Population {
        self.population
    }

    /// How long and how often to measure.
    pub fn rounds(&self) -> Rounds {
        self.rounds
    }

    /// The temporary directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file of the bench in the source tree.
    pub fn file(&self, name: &str) -> PathBuf {
        self.root.join("bench").join(name)
    }

    /// A program that was built.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Whether a program of the system is installed.
    pub fn has(&self, name: &str) -> bool {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths).any(|dir| dir.join(name).is_file())
    }

    /// Starts a server that is told its port by `command`, and waits until it listens.
    ///
    /// # Errors
    /// It ends, or does not listen within a minute.
    pub async fn serve(&self, name: &str, command: impl FnOnce(u16) -> Command) -> Result<Server> {
        let port = free_port();
        let mut command = command(port);
        command.current_dir(self.dir());
        let process = Process::start(name, self.dir(), &mut command);
        let listens = async {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
                if let Some(status) = process.ended() {
                    let log = process.stderr();
                    return Err(crate::Error::from(format!("{name} ended with {status}: {log}")));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        };
        timeout(START, listens).await.map_err(|_| format!("{name} does not listen"))??;
        Ok(Server { process, port })
    }

    /// A registry node on this database, with further settings by the names of their environment variables, started
    /// and ready.
    ///
    /// # Errors
    /// It does not start.
    pub async fn node(&self, database: &str, settings: &[(&str, &str)]) -> Result<Server> {
        let program = self.program("registry");
        let node = self
            .serve("registry", |port| {
                let mut command = Command::new(program);
                command
                    .env("REGISTRY_LISTEN", format!("127.0.0.1:{port}"))
                    .env("DATABASE_URL", database)
                    .env("REGISTRY_LOG_FORMAT", "json")
                    // One token is everybody here, and the store is to be the bound.
                    .env("REGISTRY_MAX_CHANGES_PER_TOKEN", "1000000")
                    .envs(settings.iter().copied());
                command
            })
            .await?;
        wait_until(START, "the node is ready", async || {
            call(node.port(), "GET", "/readyz", "").await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
        Ok(node)
    }
}

/// An answer, as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Status line and headers, without the empty line behind them.
    pub head: String,
    /// The body.
    pub body: String,
}

/// One call on a connection of its own. A body is sent as JSON.
///
/// # Errors
/// There is no answer within ten seconds.
pub async fn call(port: u16, method: &str, path: &str, body: &str) -> Result<Answer> {
    let exchange = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no end of the head")?;
        let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
        Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
    };
    timeout(Duration::from_secs(10), exchange).await.map_err(|_| format!("{method} {path}: no answer"))?
}
