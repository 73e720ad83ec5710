//! Nodes on a Postgres of their own, and a fleet for them, all at a quarter of a second for a tick.

use std::{path::PathBuf, process::Command, time::Duration};

use fleet::{Catalog, Config, FaultKind, Fleet, History, Target, judge};
use registry_wire::Ttl;
use tempfile::TempDir;
use testkit::{Postgres, Process, Signal, Stopwatch, WallClock, free_port, wait_until};
use tokio::time::{Instant, sleep};

/// Twelve in a lease.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// The shortest that the protocol allows: three beats of one second.
pub(crate) const TTL: Duration = Duration::from_secs(3);
/// For what takes no time but the machine's, which other tests share.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The program of a node, which cargo puts beside the fleet's.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_fleet")).with_file_name(name);
    assert!(
        path.is_file(),
        "{} is missing: cargo build --workspace --bins, and again with --features registry/seeded-bugs \
         --bin registry-seeded",
        path.display()
    );
    path
}

/// Nodes on one Postgres.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    pub(crate) postgres: Postgres,
    http: reqwest::Client,
    bug: Option<&'static str>,
    environment: Vec<(&'static str, String)>,
}

struct Node {
    // Dropped, and so killed, before its directory is removed.
    process: Option<Process>,
    port: u16,
    dir: TempDir,
}

impl Cluster {
    /// Starts nodes, which make a mistake if one is named, and waits until they are ready.
    pub(crate) async fn start(count: usize, bug: Option<&'static str>) -> Self {
        Self::start_under(count, bug, Vec::new()).await
    }

    /// The same by a wall clock that can be set.
    pub(crate) async fn start_by(clock: &WallClock, count: usize, bug: Option<&'static str>) -> Self {
        Self::start_under(count, bug, clock.environment()).await
    }

    async fn start_under(
        count: usize,
        bug: Option<&'static str>,
        environment: Vec<(&'static str, String)>,
    ) -> Self {
        let postgres = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
        let node = || Node { process: None, port: free_port(), dir: tempfile::tempdir().unwrap() };
        let nodes = (0..count).map(|_| node()).collect();
        let mut cluster = Self { nodes, postgres, http: reqwest::Client::new(), bug, environment };
        (0..count).for_each(|node| cluster.launch(node));
        cluster.ready().await;
        cluster
    }

    /// Starts a node, or starts it again, on the same port.
    pub(crate) fn launch(&mut self, node: usize) {
        let name = if self.bug.is_some() { "registry-seeded" } else { "registry" };
        let mut command = Command::new(program(name));
        let url = self.postgres.url("postgres");
        let node = &mut self.nodes[node];
        command
            .env("REGISTRY_LISTEN", format!("127.0.0.1:{}", node.port))
            .env("DATABASE_URL", url)
            .env("REGISTRY_TICK_MS", TICK.as_millis().to_string())
            .env("REGISTRY_LOG_FORMAT", "text")
            .envs(self.environment.iter().cloned());
        if let Some(bug) = self.bug {
            command.env("REGISTRY_SEEDED_BUG", bug);
        }
        // The one before is gone before another one takes its port.
        node.process = None;
        node.process = Some(Process::start("registry", node.dir.path(), &mut command));
    }

    pub(crate) fn signal(&self, node: usize, signal: Signal) {
        self.process(node).signal(signal);
    }

    pub(crate) async fn kill_9(&self, node: usize) {
        self.process(node).kill_9().await;
    }

    fn process(&self, node: usize) -> &Process {
        self.nodes[node].process.as_ref().expect("the node was started")
    }

    /// Waits until every node sees its store.
    pub(crate) async fn ready(&self) {
        for node in &self.nodes {
            let url = format!("http://127.0.0.1:{}/readyz", node.port);
            wait_until(SOON, "a node is ready", async || {
                self.http.get(&url).send().await.is_ok_and(|reply| reply.status().is_success())
            })
            .await;
        }
    }

    /// Waits until a node answers at all.
    pub(crate) async fn answers(&self, node: usize) {
        let url = format!("http://127.0.0.1:{}/livez", self.nodes[node].port);
        wait_until(SOON, "a node answers", async || self.http.get(&url).send().await.is_ok()).await;
    }

    /// Registers an instance that is not of a fleet and lives for a minute without a beat: a node whose list would be
    /// empty gives none while it is blind.
    pub(crate) async fn lasting(&self) {
        let url = format!("http://127.0.0.1:{}/services/lasting/instances/one", self.nodes[0].port);
        let body = r#"{"endpoint":"http://127.0.0.1:9","ttl_seconds":60}"#;
        wait_until(SOON, "an instance is registered", async || {
            let call = self.http.put(&url).header("Content-Type", "application/json").body(body);
            call.send().await.is_ok_and(|reply| reply.status().is_success())
        })
        .await;
    }

    /// A fleet of 20 services of two instances for all nodes.
    pub(crate) fn config(&self) -> Config {
        let url = |node: &Node| format!("http://127.0.0.1:{}", node.port).parse().unwrap();
        let targets = (0..).zip(&self.nodes).map(|(number, node)| Target::node(url(node), number));
        let mut config = Config::new(targets.collect());
        config.catalog = Catalog { services: 20, instances: 2, ..config.catalog };
        config.ttl = Ttl::try_from(TTL.as_secs()).unwrap();
        config.interval = Duration::from_secs(1);
        config.tick = TICK;
        config.reads_per_second = 60.0;
        config.lists_per_second = 20.0;
        config
    }

    /// Stops Postgres as by a crash for a time that counts from when it is gone.
    pub(crate) async fn without_postgres(&self, fleet: &Fleet, pause: Duration) {
        let fault = fleet.history().fault(FaultKind::Store);
        tokio::task::block_in_place(|| self.postgres.stop(testkit::StopMode::Immediate));
        fleet.history().held(fault);
        tokio::time::sleep(pause).await;
        fleet.history().lifting(fault);
        tokio::task::block_in_place(|| self.postgres.start_again());
        self.ready().await;
        fleet.history().over(fault);
    }
}

/// Starts a fleet and waits until all of it is registered.
pub(crate) async fn registered(config: Config) -> Fleet {
    let seed = config.seed;
    let fleet = Fleet::start(&config).unwrap();
    println!("seed {seed}");
    wait_until(SOON, "every sidecar is registered", async || {
        fleet.registered() == usize::try_from(fleet.len()).unwrap()
    })
    .await;
    fleet
}

/// Waits for a time in which this machine never stood still for so long that nodes were blind, as all leases count anew
/// after that, and the judge excuses what they answer. Gives up after a minute.
pub(crate) async fn calm(time: Duration) {
    let begun = Instant::now();
    let (mut since, mut watch) = (Instant::now(), Stopwatch::start());
    while since.elapsed() < time && begun.elapsed() < SOON {
        sleep(TICK).await;
        if watch.longest_stall() > TICK {
            (since, watch) = (Instant::now(), Stopwatch::start());
        }
    }
}

/// Ends a fleet, and judges what happened.
pub(crate) async fn verdict(fleet: Fleet) -> (History, judge::Judgement) {
    let history = fleet.stop().await;
    let judgement = judge::judge(&history);
    println!("{}\n{}", fleet::figures::Figures::of(&history).table(), history.explain_all(&judgement));
    (history, judgement)
}
