//! The store is sick: each kind of it costs no read, no long wait and no lease, and leaves nothing behind.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::StatusCode;
use rustix::process::{Pid, kill_process};
use sqlx::{Connection, PgConnection};
use testkit::{Postgres, Proxy, ProxyMode, Signal, Stopwatch, wait_until};
use tokio::time::{Instant, sleep};

use crate::support::{Client, Poller, Registry, SOON, TICK, TTL, execute};

/// No request at a node may take longer, whatever the store does.
const LONGEST: Duration = Duration::from_secs(2);

/// Within this time after the end of a fault everything is as it was.
const WHOLE_AGAIN: Duration = Duration::from_secs(5);

/// How long a fault lasts: longer than a lease, so that a node that counted on would let it end.
const LASTS: Duration = TTL.saturating_add(Duration::from_secs(1));

/// A node before which a store can be made sick, with an instance that beats.
struct Ward {
    node: Registry,
    poller: Poller,
    beating: tokio::task::JoinHandle<()>,
    resyncs: String,
}

/// What a node answered while its store was sick.
#[derive(Debug, Default)]
struct Answers {
    beats_refused: usize,
    registrations_refused: usize,
    registrations: usize,
}

async fn in_time<T>(call: impl Future<Output = reqwest::Result<T>>) -> T {
    let begun = Stopwatch::start();
    let reply = call.await.unwrap();
    assert!(begun.elapsed() < LONGEST, "{:?}", begun.elapsed());
    reply
}

async fn metric(client: &Client, name: &str) -> String {
    let text = in_time(client.get("/metrics")).await.body.as_str().unwrap_or_default().to_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
}

impl Ward {
    async fn open(database: &str) -> Self {
        let node = Registry::on(database).started().await;
        let client = node.client();
        client.register("kept", "one", "s", TTL.as_secs()).await;
        let poller = Poller::start(client.clone(), "kept", "one");
        let resyncs = metric(client, "registry_resyncs_total{reason=\"lost_history\"}").await;
        let beating = client.beating("kept", "one", "s");
        Self { node, poller, beating, resyncs }
    }

    /// Calls the node again and again for [`LASTS`].
    async fn watch(&self) -> Answers {
        let client = self.node.client();
        let (begun, mut answers) = (Instant::now(), Answers::default());
        while begun.elapsed() < LASTS {
            let name = format!("new-{}", answers.registrations);
            let (beat, registration, list) = tokio::join!(
                in_time(client.beat_once("kept", "one", "s")),
                in_time(client.register_once("new", &name)),
                in_time(client.get("/services/kept")),
            );
            assert!(list.lists("one"), "{list:?}");
            match beat.status {
                StatusCode::OK => {}
                StatusCode::SERVICE_UNAVAILABLE => answers.beats_refused += 1,
                _ => panic!("{beat:?}"),
            }
            answers.registrations += 1;
            match registration.status {
                StatusCode::OK | StatusCode::CREATED => {}
                StatusCode::SERVICE_UNAVAILABLE => {
                    assert!(registration.retry_after.is_some(), "{registration:?}");
                    answers.registrations_refused += 1;
                }
                _ => panic!("{registration:?}"),
            }
            sleep(Duration::from_millis(20)).await;
        }
        answers
    }

    /// Whether the node keeps calls from waiting.
    async fn breaker_open(&self) -> bool {
        metric(self.node.client(), "registry_circuit_breaker_open").await == "1"
    }

    /// Fails unless everything is as it was in time, and nothing ends falsely for a lease after that.
    async fn whole_again(self) {
        let client = self.node.client();
        let over = Stopwatch::start();
        wait_until(SOON, "the node is ready", async || client.ready().await).await;
        // More at once than there are connections.
        wait_until(SOON, "registrations are taken", async || {
            let calls =
                (0..8).map(|n| client.register_once(["after", "later"][n % 2], ["a", "b", "c", "d"][n / 2]));
            join_all(calls).await.into_iter().all(|reply| reply.unwrap().status.is_success())
        })
        .await;
        wait_until(SOON, "the breaker closes", async || !self.breaker_open().await).await;
        assert!(over.elapsed() < WHOLE_AGAIN, "{:?}", over.elapsed());
        let health = client.get("/health").await.unwrap().body;
        assert_eq!(
            (&health["breaker"], &health["store_reachable"]),
            (&"closed".into(), &true.into()),
            "{health}"
        );
        sleep(TTL + TICK * 2).await;
        assert_eq!(metric(client, "registry_resyncs_total{reason=\"lost_history\"}").await, self.resyncs);
        self.beating.abort();
        self.poller.finish();
    }
}

/// A fault of the network between the node and its store.
async fn survives(mode: ProxyMode) {
    let server = Postgres::shared();
    let proxy = Proxy::start(server.port());
    let database = server.fresh_database().await;
    let through = database.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port()));
    let ward = Ward::open(&through).await;
    proxy.set(mode);
    let (answers, ()) = tokio::join!(ward.watch(), async {
        wait_until(SOON, "the breaker opens", async || ward.breaker_open().await).await;
    });
    assert!(answers.registrations_refused > 0 && answers.beats_refused > 0, "{answers:?}");
    // Many calls were answered at once, instead of each after a call's deadline.
    assert!(answers.registrations > 20, "{answers:?}");
    proxy.set(ProxyMode::Pass);
    ward.whole_again().await;
}

#[tokio::test]
async fn packets_that_vanish() {
    survives(ProxyMode::BlackHole).await;
}

#[tokio::test]
async fn connections_refused() {
    survives(ProxyMode::Refuse).await;
}

#[tokio::test]
async fn connections_reset() {
    survives(ProxyMode::Reset).await;
}

#[tokio::test]
async fn five_seconds_of_latency() {
    survives(ProxyMode::Delay(Duration::from_secs(5))).await;
}

/// A beat that a node acknowledged while its store was going away is written when the store is back. The other nodes
/// must not take it for a new one: its service may have died at any time since.
#[tokio::test]
async fn a_beat_that_waited_for_the_store_is_old_on_every_node() {
    let server = Postgres::shared();
    let proxy = Proxy::start(server.port());
    let database = server.fresh_database().await;
    let through = database.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port()));
    let nodes = [Registry::on(&through).started().await, Registry::on(&through).started().await];
    beat_while_cut_off(&nodes, &proxy).await;
    for node in &nodes {
        wait_until(TTL + SOON, "stale", async || stale(node).await == Some(true)).await;
    }
    proxy.set(ProxyMode::Pass);
    for node in &nodes {
        wait_until(SOON, "the node sees", async || node.client().ready().await).await;
    }
    gone_and_never_fresh(&nodes).await;
}

/// As before, but only the node that acknowledged it was cut off, so that the others removed the entry meanwhile. The
/// acknowledged beat puts it back, as old as it is.
#[tokio::test]
async fn an_entry_that_is_put_back_is_as_old_as_its_beat() {
    let server = Postgres::shared();
    let proxy = Proxy::start(server.port());
    let database = server.fresh_database().await;
    let through = database.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port()));
    let nodes = [Registry::on(&through).started().await, Registry::on(&database).started().await];
    beat_while_cut_off(&nodes, &proxy).await;
    wait_until(TTL + SOON, "removed", async || {
        metric(nodes[1].client(), "registry_changes_total{kind=\"expire\"}").await == "1"
    })
    .await;
    proxy.set(ProxyMode::Pass);
    wait_until(SOON, "put back", async || {
        assert_ne!(stale(&nodes[1]).await, Some(false), "taken for alive");
        metric(nodes[0].client(), "registry_changes_total{kind=\"revive\"}").await == "1"
    })
    .await;
    gone_and_never_fresh(&nodes).await;
}

async fn stale(node: &Registry) -> Option<bool> {
    Some(node.client().instance("a", "one").await?["stale"] == true)
}

/// An instance that both nodes know. The first acknowledges a beat of it that it cannot write, as the proxy cuts it off.
async fn beat_while_cut_off(nodes: &[Registry; 2], proxy: &Proxy) {
    let begun = Instant::now();
    loop {
        proxy.set(ProxyMode::Pass);
        wait_until(SOON, "both see", async || {
            nodes[0].client().ready().await && nodes[1].client().ready().await
        })
        .await;
        nodes[0].client().register("a", "one", "s", TTL.as_secs()).await;
        wait_until(SOON, "known to both", async || nodes[1].client().lists("a", "one").await).await;
        proxy.set(ProxyMode::Refuse);
        // A node that was not run for a while is blind at once.
        if nodes[0].client().beat_once("a", "one", "s").await.unwrap().status == StatusCode::OK {
            return;
        }
        assert!(begun.elapsed() < 4 * SOON, "no beat is acknowledged");
    }
}

async fn gone_and_never_fresh(nodes: &[Registry; 2]) {
    wait_until(TTL + SOON, "gone for both", async || {
        let seen = [stale(&nodes[0]).await, stale(&nodes[1]).await];
        assert!(!seen.contains(&Some(false)), "taken for alive: {seen:?}");
        seen == [None, None]
    })
    .await;
}

#[tokio::test]
async fn a_store_that_is_read_only() {
    let server = Postgres::start();
    let database = server.fresh_database().await;
    let ward = Ward::open(&database).await;
    let client = ward.node.client();
    let failed_reads = "registry_store_calls_total{call=\"standings\",result=\"error\"}";
    execute(&database, "ALTER SYSTEM SET default_transaction_read_only = on").await;
    execute(&database, "SELECT pg_reload_conf()").await;
    let answers = ward.watch().await;
    assert!(answers.registrations_refused > 0 && answers.beats_refused > 0, "{answers:?}");
    // It answers, and reads go well: it is the commits that fail, and they are counted as what they are.
    assert!(!ward.breaker_open().await);
    let text = client.get("/metrics").await.unwrap().body.as_str().unwrap_or_default().to_owned();
    assert!(text.contains("registry_store_calls_total{call=\"commit\",result=\"error\"}"), "{text}");
    assert!(!text.contains(failed_reads), "{text}");
    execute(&database, "ALTER SYSTEM RESET default_transaction_read_only").await;
    execute(&database, "SELECT pg_reload_conf()").await;
    ward.whole_again().await;
}

#[tokio::test]
async fn tables_that_are_locked() {
    let database = Postgres::shared().fresh_database().await;
    let ward = Ward::open(&database).await;
    let mut other = PgConnection::connect(&database).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE head, instances, leases, changes, beats IN ACCESS EXCLUSIVE MODE")
        .execute(&mut other)
        .await
        .unwrap();
    let answers = ward.watch().await;
    assert!(answers.registrations_refused > 0 && answers.beats_refused > 0, "{answers:?}");
    assert!(ward.breaker_open().await);
    other.close().await.unwrap();
    ward.whole_again().await;
}

#[tokio::test]
async fn connections_that_are_used_up() {
    const MOST: u32 = 20;
    let server = Postgres::start_with(&[("max_connections", &MOST.to_string())]);
    let database = server.fresh_database().await;
    let ward = Ward::open(&database).await;
    let mut hogs = Vec::new();
    let hog = format!("{}?application_name=hog", server.url("postgres"));
    let mut killer = PgConnection::connect(&server.url("postgres")).await.unwrap();
    // Every place that the node leaves is taken by somebody else.
    wait_until(SOON, "no place is left", async || {
        sqlx::raw_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' \
             AND pid <> pg_backend_pid() AND application_name <> 'hog'",
        )
        .execute(&mut killer)
        .await
        .unwrap();
        while let Ok(hog) = PgConnection::connect(&hog).await {
            hogs.push(hog);
        }
        hogs.len() + 1 >= usize::try_from(MOST).unwrap()
    })
    .await;
    let answers = ward.watch().await;
    assert!(answers.registrations_refused > 0 && answers.beats_refused > 0, "{answers:?}");
    assert!(ward.breaker_open().await);
    drop(hogs);
    ward.whole_again().await;
}

/// The processes of the server's clients.
async fn backends(server: &Postgres) -> Vec<Pid> {
    let mut connection = PgConnection::connect(&server.url("postgres")).await.unwrap();
    let pids: Vec<i32> = sqlx::query_scalar(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    pids.into_iter().filter_map(Pid::from_raw).collect()
}

#[tokio::test]
async fn a_server_whose_processes_are_stopped() {
    let server = Postgres::start();
    let ward = Ward::open(&server.fresh_database().await).await;
    let backends = backends(&server).await;
    server.signal(Signal::STOP);
    // Those that ended meanwhile need no stop.
    let signal = |signal| {
        for pid in &backends {
            let _ = kill_process(*pid, signal);
        }
    };
    signal(Signal::STOP);
    let answers = ward.watch().await;
    assert!(answers.registrations_refused > 0 && answers.beats_refused > 0, "{answers:?}");
    assert!(ward.breaker_open().await);
    signal(Signal::CONT);
    server.signal(Signal::CONT);
    ward.whole_again().await;
}

#[tokio::test]
async fn a_server_whose_first_process_alone_is_stopped() {
    let server = Postgres::start();
    let ward = Ward::open(&server.fresh_database().await).await;
    server.signal(Signal::STOP);
    ward.watch().await;
    server.signal(Signal::CONT);
    ward.whole_again().await;
}
