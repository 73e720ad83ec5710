//! P3: Postgres is there and does not work, in each way that we know. Reads go on, nothing waits for long, and the pool
//! is whole again soon after.

use std::{
    os::unix::fs::{MetadataExt, chown},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use fleet::{
    FaultKind,
    history::{Act, What},
};
use testkit::{ProxyMode, Signal, Sql, wait_until};
use tokio::time::{Instant, sleep};

use crate::support::{
    Client, Load, Plan, Registrar, Registrations, SERVICES, Scale, Stage, is_error, is_read, scenario,
    through_nginx,
};

/// No call takes longer at a node.
const AT_NODE: Duration = Duration::from_secs(2);

/// No call takes longer through nginx.
const AT_NGINX: Duration = Duration::from_secs(6);

/// From the end of the sickness until each node takes registrations on all of its connections.
const WHOLE: Duration = Duration::from_secs(5);

/// Registrations at once that say that the pool is whole: more than it has connections.
const ABREAST: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sickness {
    PostmasterPaused,
    AllPaused,
    PacketsDropped,
    ConnectionsReset,
    FiveSecondsLate,
    ConnectionsUsedUp,
    ReadOnly,
    TablesLocked,
    DiskFull,
}

impl Sickness {
    /// Sessions that are open work on.
    fn blinds(self) -> bool {
        self != Self::PostmasterPaused
    }
}

const TABLES: [&str; 7] = ["head", "instances", "leases", "changes", "ended_sessions", "beats", "writers"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p03_a_postgres_that_cannot_be_reached_fails_no_read() {
    play(vec![Sickness::PacketsDropped, Sickness::ConnectionsReset, Sickness::FiveSecondsLate]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p03_a_postgres_that_is_paused_or_locked_fails_no_read() {
    play(vec![Sickness::PostmasterPaused, Sickness::AllPaused, Sickness::TablesLocked]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p03_a_postgres_that_takes_nothing_fails_no_read() {
    let mut sicknesses = vec![Sickness::ConnectionsUsedUp, Sickness::ReadOnly];
    if SmallDisk::possible() {
        sicknesses.push(Sickness::DiskFull);
    } else {
        println!("P3: a full disk needs a file system of its own, which only root can make: left out");
    }
    play(sicknesses).await;
}

async fn play(sicknesses: Vec<Sickness>) {
    let load = |scale: &Scale| Load {
        services: scale.pick(20, 1000),
        instances: scale.pick(5, 30),
        reads_per_second: scale.pick(100.0, 500.0),
        lists_per_second: scale.pick(2.0, 0.2),
    };
    scenario(Plan::new("P3", Duration::from_secs(1500)).load(load), async |mut stage| {
        let disk = if sicknesses.contains(&Sickness::DiskFull) {
            Some(SmallDisk::under(&stage).await)
        } else {
            None
        };
        let direct: Vec<Client> = stage.nodes().map(|node| stage.direct(node)).collect();
        let at_nodes = Registrar::start(direct, "p3a", 30.0);
        let at_nginx = Registrar::start(vec![stage.nginx()], "p3b", 30.0);
        let mut whole = Vec::new();
        for sickness in &sicknesses {
            let took = catch(&stage, *sickness, disk.as_ref()).await;
            whole.push((*sickness, took));
            sleep(stage.scale.tick * 4).await;
        }
        let at_nodes = at_nodes.stop().await;
        let at_nginx = at_nginx.stop().await;
        stage.others = 2 * SERVICES + 1;
        let time = stage.scale.seconds(3.0, 60.0).as_secs();
        let mut outcome = stage.end(&format!("{sicknesses:?}, each for {time} s")).await;
        outcome.none("failed reads", |call| through_nginx(call) && is_read(call) && is_error(call));
        outcome.none("beats with another answer than 2xx or 503", |call| {
            through_nginx(call)
                && matches!(call.what, What::Write(write) if write.act == Act::Beat)
                && !matches!(call.status, 200..=299 | 503)
        });
        let longest = |nginx: bool, further: &Registrations| {
            let calls = outcome.calls().filter(|call| through_nginx(call) == nginx);
            let longest = calls.map(|call| call.end.since(call.start)).max().unwrap_or_default();
            longest.max(further.longest)
        };
        let (node, nginx) = (longest(false, &at_nodes), longest(true, &at_nginx));
        outcome.at_most("longest call at a node", node, AT_NODE);
        outcome.at_most("longest call through nginx", nginx, AT_NGINX);
        for (what, found) in [("at nodes", &at_nodes), ("through nginx", &at_nginx)] {
            outcome.figure(format!(
                "registrations {what}: {} acknowledged, {} refused",
                found.acknowledged.len(),
                found.refused.len()
            ));
            outcome.expect(found.wrong.is_empty(), || format!("registrations {what}: {:?}", found.wrong));
            outcome.expect(!found.refused.is_empty() && !found.acknowledged.is_empty(), || {
                format!("the faults had no effect on registrations {what}")
            });
        }
        for (sickness, took) in whole {
            outcome.at_most(&format!("whole after {sickness:?}"), took, WHOLE);
        }
        outcome
    })
    .await;
}

/// Lets the store be sick for a time, and returns how long it took to be whole again.
async fn catch(stage: &Stage, sickness: Sickness, disk: Option<&SmallDisk>) -> Duration {
    let mut cause = Cause { stage, disk, sessions: Vec::new() };
    let time = stage.scale.seconds(3.0, 60.0);
    let history = stage.fleet.history();
    let fault = history.fault(FaultKind::Store);
    cause.begin(sickness).await;
    if sickness.blinds() {
        stage.blind().await;
        history.held(fault);
    }
    sleep(time).await;
    history.lifting(fault);
    let lifted = Instant::now();
    cause.end(sickness).await;
    stage.cluster.ready().await;
    for node in stage.nodes() {
        let client = stage.direct(node);
        wait_until(WHOLE * 4, "registrations on all connections", async || takes(&client, node).await).await;
    }
    history.over(fault);
    lifted.elapsed()
}

/// Whether as many registrations as there are connections are taken at once.
async fn takes(client: &Client, node: u8) -> bool {
    let names = (0..ABREAST).map(|number| format!("w{node}-{number}"));
    let calls: Vec<_> = names
        .map(|name| {
            let client = client.clone();
            tokio::spawn(async move { client.register("p3-whole", &name, 3600).await })
        })
        .collect();
    let mut all = true;
    for call in calls {
        all &= call.await.unwrap().is_some_and(|reply| matches!(reply.status, 200 | 201));
    }
    all
}

struct Cause<'a> {
    stage: &'a Stage,
    disk: Option<&'a SmallDisk>,
    sessions: Vec<Sql>,
}

impl Cause<'_> {
    fn link(&self, mode: ProxyMode) {
        self.stage.cluster.nodes.iter().for_each(|node| node.store().set(mode));
    }

    async fn open(&self) -> Sql {
        Sql::open(&self.stage.cluster.database).await
    }

    async fn begin(&mut self, sickness: Sickness) {
        match sickness {
            Sickness::PostmasterPaused => self.stage.postgres.signal(Signal::STOP),
            Sickness::AllPaused => self.stage.postgres.signal_all(Signal::STOP),
            Sickness::PacketsDropped => self.link(ProxyMode::BlackHole),
            Sickness::ConnectionsReset => self.link(ProxyMode::Reset),
            Sickness::FiveSecondsLate => self.link(ProxyMode::Delay(Duration::from_secs(5))),
            Sickness::ConnectionsUsedUp => {
                let mut session = self.open().await;
                let own = "datname = current_database() AND application_name <> 'chaos'";
                session.run("SET application_name = 'chaos'").await;
                // The nodes take what is free until nothing is.
                let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {own}");
                let count = format!("SELECT count(*) FROM pg_stat_activity WHERE {own}");
                let url = format!("{}?application_name=chaos", self.stage.cluster.database);
                loop {
                    while let Some(session) = Sql::try_open(&url).await {
                        self.sessions.push(session);
                    }
                    if session.number(&count).await == 0 {
                        break;
                    }
                    session.run(&end).await;
                }
                self.sessions.push(session);
            }
            Sickness::ReadOnly => {
                let mut session = self.open().await;
                session.run("ALTER SYSTEM SET default_transaction_read_only = on").await;
                session.run("SELECT pg_reload_conf()").await;
            }
            Sickness::TablesLocked => {
                let mut session = self.open().await;
                let tables = TABLES.join(", ");
                session.run("BEGIN").await;
                session.run(&format!("LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")).await;
                self.sessions.push(session);
            }
            Sickness::DiskFull => self.disk.expect("there is a small disk").fill(),
        }
    }

    async fn end(&mut self, sickness: Sickness) {
        match sickness {
            Sickness::PostmasterPaused => self.stage.postgres.signal(Signal::CONT),
            Sickness::AllPaused => self.stage.postgres.signal_all(Signal::CONT),
            Sickness::PacketsDropped | Sickness::ConnectionsReset | Sickness::FiveSecondsLate => {
                self.link(ProxyMode::Pass);
            }
            Sickness::ConnectionsUsedUp | Sickness::TablesLocked => self.sessions.clear(),
            Sickness::ReadOnly => {
                let mut session = self.open().await;
                session.run("SET default_transaction_read_only = off").await;
                session.run("ALTER SYSTEM RESET default_transaction_read_only").await;
                session.run("SELECT pg_reload_conf()").await;
            }
            Sickness::DiskFull => self.disk.expect("there is a small disk").clear(),
        }
    }
}

/// A file system of its own under the tables, small enough to be filled.
struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    fn possible() -> bool {
        rustix::process::geteuid().is_root()
    }

    async fn under(stage: &Stage) -> Self {
        let dir = tempfile::Builder::new().prefix("chaos-disk-").tempdir().unwrap().keep();
        let disk = Self { dir };
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "none"]).arg(&disk.dir));
        let server = std::fs::metadata(format!("/proc/{}", stage.postgres.pid().unwrap())).unwrap();
        chown(&disk.dir, Some(server.uid()), Some(server.gid())).unwrap();
        let mut session = Sql::open(&stage.cluster.database).await;
        session.run(&format!("CREATE TABLESPACE small LOCATION '{}'", disk.dir.display())).await;
        for table in TABLES {
            session.run(&format!("ALTER TABLE {table} SET TABLESPACE small")).await;
        }
        // A page of the table takes few rows, so that the next one is needed soon.
        session.run("ALTER TABLE beats SET (fillfactor = 10)").await;
        disk
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.dir.join("filler")).unwrap();
        // Until there is no room.
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    }

    fn clear(&self) {
        std::fs::remove_file(self.dir.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The server may use it still.
        let _ = Command::new("umount").arg("--lazy").arg(&self.dir).status();
        let _ = std::fs::remove_dir(&self.dir);
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
