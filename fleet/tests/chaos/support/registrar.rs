use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::Client;

/// Long enough for what nothing beats for to outlive a scenario.
const TTL: u32 = 3600;

/// Services that new instances are spread over.
pub(crate) const SERVICES: u32 = 20;

/// Calls under way at once.
const IN_FLIGHT: usize = 200;

/// What came of the registrations.
#[derive(Debug, Default)]
pub(crate) struct Registrations {
    pub(crate) asked: usize,
    /// `service/instance` of those that were acknowledged.
    pub(crate) acknowledged: BTreeSet<String>,
    /// Those that were answered 503 with a Retry-After: when they were sent and when the answer was there.
    pub(crate) refused: Vec<(Instant, Instant)>,
    /// Anything else, in words.
    pub(crate) wrong: Vec<String>,
    /// The longest call.
    pub(crate) longest: Duration,
}

/// Registers new instances at a rate, whatever the answers are.
#[derive(Debug)]
pub(crate) struct Registrar {
    stop: watch::Sender<bool>,
    task: JoinHandle<Registrations>,
}

impl Registrar {
    /// Starts it with these clients in turn; the names begin with `prefix`.
    pub(crate) fn start(clients: Vec<Client>, prefix: &'static str, per_second: f64) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self { stop, task: tokio::spawn(run(clients, prefix, per_second, stopped)) }
    }

    /// Waits for the calls under way.
    pub(crate) async fn stop(self) -> Registrations {
        self.stop.send_replace(true);
        timeout(Duration::from_secs(20), self.task).await.unwrap().unwrap()
    }
}

async fn run(
    clients: Vec<Client>,
    prefix: &'static str,
    per_second: f64,
    mut stop: watch::Receiver<bool>,
) -> Registrations {
    let turns = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut pace = interval(Duration::from_secs_f64(1.0 / per_second));
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut calls = JoinSet::new();
    let mut done = Registrations::default();
    loop {
        tokio::select! {
            _ = pace.tick() => {}
            Some(ended) = calls.join_next() => {
                done.note(ended.unwrap());
                continue;
            }
            _ = stop.wait_for(|stop| *stop) => break,
        }
        let Ok(turn) = Arc::clone(&turns).try_acquire_owned() else { continue };
        let number = done.asked;
        done.asked += 1;
        let client = clients[number % clients.len()].clone();
        calls.spawn(async move {
            let service = format!("{prefix}-{}", number % usize::try_from(SERVICES).unwrap());
            let instance = format!("n{number}");
            let sent = Instant::now();
            let reply = client.register(&service, &instance, TTL).await;
            drop(turn);
            let answer = reply.map(|reply| (reply.status, reply.retry_after));
            Call { name: format!("{service}/{instance}"), sent, answered: Instant::now(), answer }
        });
    }
    while let Some(ended) = calls.join_next().await {
        done.note(ended.unwrap());
    }
    done
}

struct Call {
    name: String,
    sent: Instant,
    answered: Instant,
    answer: Option<(u16, Option<String>)>,
}

impl Registrations {
    fn note(&mut self, call: Call) {
        let took = call.answered - call.sent;
        self.longest = self.longest.max(took);
        match call.answer {
            Some((200 | 201, _)) => {
                self.acknowledged.insert(call.name);
            }
            Some((503, Some(after))) if after.parse::<u32>().is_ok() => {
                self.refused.push((call.sent, call.answered));
            }
            other => self.wrong.push(format!("{} after {took:?}: {other:?}", call.name)),
        }
    }
}
