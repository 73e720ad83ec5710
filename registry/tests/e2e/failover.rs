//! Postgres fails over to a standby; the nodes know the addresses of both.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use reqwest::StatusCode;
use testkit::{Postgres, StopMode, Stopwatch, wait_until};
use tokio::{task::JoinHandle, time::sleep};

use crate::support::{Client, Poller, Registry, SOON, TICK, TTL, execute, number};

/// A lease that does not end while a test runs.
const LONG: u64 = 60;

struct Pair {
    primary: Postgres,
    standby: Postgres,
    nodes: [Registry; 2],
    /// The database on each.
    on_primary: String,
    on_standby: String,
}

impl Pair {
    async fn start() -> Self {
        let primary = Postgres::start();
        let on_primary = primary.fresh_database().await;
        let standby = primary.standby();
        let (old, new) = (format!("127.0.0.1:{}", primary.port()), format!("127.0.0.1:{}", standby.port()));
        let on_standby = on_primary.replace(&old, &new);
        // The standby first: the order does not say which one can be written.
        let both =
            format!("{}?target_session_attrs=read-write", on_primary.replace(&old, &format!("{new},{old}")));
        let nodes = [Registry::on(&both).started().await, Registry::on(&both).started().await];
        Self { primary, standby, nodes, on_primary, on_standby }
    }

    fn clients(&self) -> [&Client; 2] {
        [self.nodes[0].client(), self.nodes[1].client()]
    }

    async fn ready(&self) {
        for node in &self.nodes {
            node.ready().await;
        }
    }

    /// How often history was lost, by each node's count.
    async fn losses(&self) -> [bool; 2] {
        let mut lost = [false; 2];
        for (lost, client) in lost.iter_mut().zip(self.clients()) {
            let text = client.look("/metrics").await.body.as_str().unwrap_or_default().to_owned();
            *lost = !text.contains("registry_resyncs_total{reason=\"lost_history\"} 0\n");
        }
        lost
    }
}

/// Registers one instance after the other, and keeps the names of those that were acknowledged.
fn registering(client: &Client, service: &'static str, names: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let (client, names) = (client.clone(), Arc::clone(names));
    tokio::spawn(async move {
        for n in 0.. {
            let instance = format!("i-{n}");
            if client.register_once(service, &instance).await.is_ok_and(|reply| reply.status.is_success()) {
                names.lock().unwrap().push(format!("{service}/instances/{instance}"));
            }
        }
    })
}

#[tokio::test]
async fn a_synchronous_standby_takes_over_and_nothing_acknowledged_is_lost() {
    let pair = Pair::start().await;
    execute(&pair.on_primary, "ALTER SYSTEM SET synchronous_standby_names = '*'").await;
    execute(&pair.on_primary, "SELECT pg_reload_conf()").await;
    wait_until(SOON, "the standby is synchronous", async || {
        number(&pair.on_primary, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").await
            == 1
    })
    .await;
    let names = Arc::new(Mutex::new(Vec::new()));
    let [one, two] = pair.clients();
    one.register("kept", "one", "s", LONG).await;
    wait_until(SOON, "known to the other node", async || two.lists("kept", "one").await).await;
    let poller = Poller::start(two.clone(), "kept", "one");
    let tasks = [registering(one, "a", &names), registering(two, "b", &names)];
    wait_until(SOON, "some are registered", async || names.lock().unwrap().len() > 50).await;
    pair.primary.kill_9();
    pair.standby.promote().await;
    pair.ready().await;
    let before = names.lock().unwrap().len();
    wait_until(SOON, "registrations go on", async || names.lock().unwrap().len() > before + 20).await;
    tasks.iter().for_each(JoinHandle::abort);
    let names = names.lock().unwrap().clone();
    for client in pair.clients() {
        for name in &names {
            wait_until(SOON, name, async || {
                client.get(&format!("/services/{name}")).await.unwrap().status == 200
            })
            .await;
        }
    }
    let stored = number(&pair.on_standby, "SELECT count(*) FROM instances").await;
    assert!(usize::try_from(stored).unwrap() > names.len(), "{stored} of {}", names.len() + 1);
    // A node may have lost history all the same: a dying primary shows for a moment what its standby never got.
    poller.finish();
}

#[tokio::test]
async fn what_an_asynchronous_standby_did_not_have_comes_back() {
    let pair = Pair::start().await;
    let [one, two] = pair.clients();
    one.register("kept", "one", "s", LONG).await;
    let on_standby = || number(&pair.on_standby, "SELECT revision FROM head");
    wait_until(SOON, "the standby has it", async || on_standby().await == 1).await;
    pair.standby.stop(StopMode::Fast);
    // Acknowledged, seen by both nodes, and on one server alone.
    let mut sidecars = Vec::new();
    for (n, client) in [one, two, one, two].into_iter().enumerate() {
        client.register(&format!("s-{n}"), "one", "once", LONG).await;
        let (client, service) = (client.clone(), format!("s-{n}"));
        sidecars.push(tokio::spawn(async move {
            loop {
                let beat = client.beat_once(&service, "one", "once").await;
                if beat.is_ok_and(|reply| reply.status == StatusCode::NOT_FOUND) {
                    drop(client.register_once(&service, "one").await);
                }
                sleep(TTL / 4).await;
            }
        }));
    }
    for client in [one, two] {
        wait_until(SOON, "seen by both", async || {
            client.lists("s-0", "one").await && client.lists("s-3", "one").await
        })
        .await;
    }
    let head = number(&pair.on_primary, "SELECT revision FROM head").await;
    assert_eq!(head, 5);
    let pollers = [one, two].map(|client| Poller::start(client.clone(), "s-2", "one"));
    pair.primary.kill_9();
    pair.standby.start_again();
    pair.standby.promote().await;
    let promoted = Stopwatch::start();
    pair.ready().await;
    wait_until(SOON, "the loss is known", async || pair.losses().await == [true, true]).await;
    wait_until(TTL + SOON, "each comes back", async || {
        number(&pair.on_standby, "SELECT count(*) FROM instances").await == 5
    })
    .await;
    for client in [one, two] {
        for service in ["kept", "s-0", "s-1", "s-2", "s-3"] {
            wait_until(SOON, "listed anew", async || {
                client.instance(service, "one").await.is_some_and(|entry| entry["stale"] == false)
            })
            .await;
        }
    }
    assert!(promoted.elapsed() < TTL + Duration::from_secs(7), "{:?}", promoted.elapsed());
    // No revision that was shown to anybody was given again.
    let again = format!("SELECT count(*) FROM changes WHERE revision > 1 AND revision <= {head}");
    assert_eq!(number(&pair.on_standby, &again).await, 0);
    pollers.into_iter().for_each(Poller::finish);
    sidecars.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn a_primary_that_became_read_only_is_left_for_the_new_one() {
    let pair = Pair::start().await;
    let [one, two] = pair.clients();
    one.register("kept", "one", "s", LONG).await;
    wait_until(SOON, "the standby has it", async || {
        number(&pair.on_standby, "SELECT revision FROM head").await == 1
    })
    .await;
    // The old one goes on answering, as one that was demoted without a restart does.
    execute(&pair.on_primary, "ALTER SYSTEM SET default_transaction_read_only = on").await;
    execute(&pair.on_primary, "SELECT pg_reload_conf()").await;
    wait_until(SOON, "it can only be read", async || !one.ready().await && !two.ready().await).await;
    pair.standby.promote().await;
    pair.ready().await;
    two.register("new", "one", "s", LONG).await;
    assert_eq!(number(&pair.on_standby, "SELECT count(*) FROM instances").await, 2);
    assert_eq!(number(&pair.on_primary, "SELECT count(*) FROM instances").await, 1);
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'registry'";
    wait_until(SOON, "nobody is left on the old one", async || number(&pair.on_primary, ours).await == 0)
        .await;
    sleep(TICK).await;
    wait_until(SOON, "a change is everywhere", async || one.lists("new", "one").await).await;
}
