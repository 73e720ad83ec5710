//! Half of a fleet falls silent at once, on three nodes that share a Postgres.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use reqwest::StatusCode;
use testkit::{Postgres, Stopwatch, wait_until};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::support::{Client, Registry, SOON, TTL};

/// Long enough for a TTL, two of hold, and two in which 10 of 20 are let go, on a busy machine.
const TO_THE_END: Duration = Duration::from_secs(60);

/// Between two beats of an instance.
const BEAT: Duration = Duration::from_millis(750);

/// Of the most that are held, and at least, so many are let go in a TTL.
const LET_GO: usize = 10;

const FLEET: usize = 40;

/// What the lists of a node showed.
#[derive(Debug, Default)]
struct Seen {
    /// The first list without an instance, by instance.
    missing: BTreeMap<String, Instant>,
    /// Those that the last list shows as stale.
    stale: BTreeSet<String>,
    lists: usize,
}

/// Reads a node's list over and over.
struct Reader {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Reader {
    fn start(client: Client) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let log = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                if let Ok(reply) = client.get("/services/fleet").await
                    && reply.status != StatusCode::SERVICE_UNAVAILABLE
                {
                    let none = Vec::new();
                    let list = reply.body["instances"].as_array().unwrap_or(&none);
                    let id = |entry: &serde_json::Value| entry["instance_id"].as_str().unwrap().to_owned();
                    let listed: BTreeSet<String> = list.iter().map(id).collect();
                    let now = Instant::now();
                    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                    for instance in names().filter(|name| !listed.contains(name)) {
                        log.missing.entry(instance).or_insert(now);
                    }
                    log.stale = list.iter().filter(|entry| entry["stale"] == true).map(id).collect();
                    log.lists += 1;
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        Self { seen, task }
    }

    fn with<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn names() -> impl Iterator<Item = String> {
    (0..FLEET).map(name)
}

fn name(number: usize) -> String {
    format!("i{number:02}")
}

/// When the last beat of each instance that was acknowledged was sent.
type LastBeats = Arc<Mutex<BTreeMap<String, Instant>>>;

/// Lets an instance beat at its node until the task is aborted.
fn beating(nodes: &[Registry], number: usize, last: &LastBeats) -> JoinHandle<()> {
    let (client, last) = (nodes[number % nodes.len()].client().clone(), Arc::clone(last));
    tokio::spawn(async move {
        loop {
            let sent = Instant::now();
            // An error is a missed beat; what follows from it is what the test looks at.
            let reply = client.beat_once("fleet", &name(number), "s").await;
            if reply.is_ok_and(|reply| reply.status == StatusCode::OK) {
                last.lock().unwrap_or_else(PoisonError::into_inner).insert(name(number), sent);
            }
            sleep(BEAT).await;
        }
    })
}

#[tokio::test]
async fn half_of_a_fleet_that_dies_is_held_and_let_go_by_itself_and_who_returns_was_never_missing() {
    let database = Postgres::shared().fresh_database().await;
    let mut nodes: Vec<_> = (0..3).map(|_| Registry::on(&database)).collect();
    nodes.iter_mut().for_each(Registry::start);
    join_all(nodes.iter().map(Registry::ready)).await;
    join_all((0..FLEET).map(async |number| {
        nodes[number % 3].client().register("fleet", &name(number), "s", TTL.as_secs()).await;
    }))
    .await;
    let last = LastBeats::default();
    let mut beats: Vec<_> = (0..FLEET).map(|number| beating(&nodes, number, &last)).collect();
    join_all(nodes.iter().map(|node| {
        wait_until(SOON, "all are listed", async || {
            let reply = node.client().get("/services/fleet").await.unwrap();
            names().all(|name| reply.lists(&name))
        })
    }))
    .await;
    let readers: Vec<_> = nodes.iter().map(|node| Reader::start(node.client().clone())).collect();
    sleep(TTL).await;

    // Nobody's beats arrive until every node holds all of them, and then they do again.
    beats.iter().for_each(JoinHandle::abort);
    wait_until(TO_THE_END, "every node holds all", async || {
        readers.iter().all(|reader| reader.with(|seen| seen.stale.len() == FLEET))
    })
    .await;
    beats = (0..FLEET).map(|number| beating(&nodes, number, &last)).collect();
    wait_until(TO_THE_END, "all are back", async || {
        readers.iter().all(|reader| reader.with(|seen| seen.stale.is_empty()))
    })
    .await;
    sleep(TTL * 2).await;
    for reader in &readers {
        reader.with(|seen| assert!(seen.missing.is_empty(), "missing while held: {:?}", seen.missing));
    }

    // Every other one dies for good.
    let dead: BTreeSet<String> = (0..FLEET).step_by(2).map(name).collect();
    for (number, beat) in beats.iter().enumerate() {
        if dead.contains(&name(number)) {
            beat.abort();
        }
    }
    let letting_go = Stopwatch::start();
    wait_until(TO_THE_END, "every node shows them as stale", async || {
        readers.iter().all(|reader| reader.with(|seen| seen.stale == dead))
    })
    .await;
    wait_until(TO_THE_END * 2, "they are let go everywhere", async || {
        readers.iter().all(|reader| reader.with(|seen| seen.missing.len() >= dead.len()))
    })
    .await;

    // The first list, of whichever node, that did not show it.
    let mut gone: BTreeMap<String, Instant> = BTreeMap::new();
    for reader in &readers {
        reader.with(|seen| {
            assert!(seen.lists > 100, "{} lists", seen.lists);
            for (instance, at) in &seen.missing {
                let first = gone.entry(instance.clone()).or_insert(*at);
                *first = (*first).min(*at);
            }
        });
    }
    assert_eq!(gone.keys().cloned().collect::<BTreeSet<_>>(), dead, "nobody who lives was ever missing");
    let last = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (instance, at) in &gone {
        let silent = at.duration_since(last[instance]);
        assert!(silent >= TTL * 3, "{instance} went {silent:?} after its last beat, a TTL and two of hold");
    }
    let first = *gone.values().min().unwrap();
    let mut after: Vec<Duration> = gone.values().map(|at| at.duration_since(first)).collect();
    after.sort_unstable();
    // Each was seen to be gone so much too late at most.
    let ttl = TTL.saturating_sub(letting_go.longest_stall());
    for (place, begin) in after.iter().enumerate() {
        let in_a_ttl = after[place..].iter().filter(|at| **at < *begin + ttl).count();
        // Three nodes that did not count each other's would let go up to 30.
        assert!(in_a_ttl <= LET_GO + 4, "{in_a_ttl} in a TTL: {after:?}");
    }
    // And every node says why.
    for node in &nodes {
        let reply = node.client().look(&format!("/services/fleet/instances/{}", name(0))).await;
        let reason = reply.body["reason"].as_str().unwrap();
        assert!(reason.starts_with("no heartbeat for 3 s, and let go after a hold of "), "{reply:?}");
    }
    beats.iter().for_each(JoinHandle::abort);
}
