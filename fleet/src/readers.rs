//! Readers: they ask at a fixed rate, whatever the answers, and note what they see.
//!
//! In: rates and a seed.
//! Owns: whom to ask for what, and when.
//! Out: reads in the history.

use std::{sync::Arc, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use registry_wire::Status;
use reqwest::Method;
use serde::Deserialize;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    client::{Client, Reply},
    history::{Answer, At, Listed, Operation, Others, Read, Subject, What},
    sidecar::Shared,
};

/// How long a read may take: as long as a sidecar's call.
const LIMIT: Duration = Duration::from_secs(8);

/// Pages of one list at the most.
const PAGES: usize = 1000;

/// What readers share.
#[derive(Debug)]
pub(crate) struct Readers {
    pub(crate) shared: Arc<Shared>,
    /// Connections of their own, so that sidecars never wait for readers.
    pub(crate) client: Client,
    pub(crate) targets: Vec<u8>,
}

/// What of an instance object the judge needs.
#[derive(Deserialize)]
struct Seen {
    service_name: String,
    instance_id: String,
    status: Status,
    draining: bool,
    stale: bool,
}

#[derive(Deserialize)]
struct Page {
    instances: Vec<Seen>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Usable {
    instances: Vec<Seen>,
}

/// Reads single services and instances at a rate until told to stop, then waits for the answers.
pub(crate) async fn singles(readers: Arc<Readers>, rate: f64, seed: u64, stop: watch::Receiver<bool>) {
    let mut rng = StdRng::seed_from_u64(seed);
    every(readers, rate, stop, |catalog| {
        let service = rng.random_range(0..catalog.services);
        match rng.random_range(0..10) {
            0 => Subject::Nobody,
            1 | 2 => Subject::Instance { instance: rng.random_range(catalog.of_service(service)) },
            3..=5 => Subject::Service { service, all: true },
            _ => Subject::Service { service, all: false },
        }
    })
    .await;
}

/// Reads whole lists at a rate until told to stop: names and instances in turn.
pub(crate) async fn lists(readers: Arc<Readers>, rate: f64, stop: watch::Receiver<bool>) {
    let mut turn = false;
    every(readers, rate, stop, |_| {
        turn = !turn;
        if turn { Subject::Instances } else { Subject::Services }
    })
    .await;
}

async fn every(
    readers: Arc<Readers>,
    rate: f64,
    mut stop: watch::Receiver<bool>,
    mut subject: impl FnMut(&crate::Catalog) -> Subject,
) {
    // Above a thousand a second several go out with each tick of the timer.
    let batch = (rate / 1000.0).ceil().max(1.0);
    let mut pace = interval(Duration::from_secs_f64((batch / rate).clamp(0.000_1, 3600.0)));
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = JoinSet::new();
    let mut turn = 0_usize;
    loop {
        tokio::select! {
            _ = pace.tick() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        while under_way.try_join_next().is_some() {}
        let mut left = batch;
        while left > 0.0 {
            left -= 1.0;
            turn = turn.wrapping_add(1);
            let target =
                readers.targets.get(turn % readers.targets.len().max(1)).copied().unwrap_or_default();
            let subject = subject(&readers.shared.catalog);
            let readers = Arc::clone(&readers);
            // Readers that find no turn skip theirs: a registry that does not answer must not pile them up.
            under_way.spawn(async move {
                if let Some(_turn) = readers.client.try_turn() {
                    readers.read(target, subject).await;
                }
            });
        }
    }
    while under_way.join_next().await.is_some() {}
}

impl Readers {
    async fn read(&self, target: u8, subject: Subject) {
        let start = self.shared.clock.at();
        let found = timeout(LIMIT, self.ask(target, subject)).await;
        self.note(start, target, subject, found.unwrap_or_default());
    }

    fn note(&self, start: At, target: u8, subject: Subject, found: Found) {
        let read = Read { subject, age: found.age, others: found.others, answer: found.answer };
        self.shared.recorder.add(Operation {
            start,
            end: self.shared.clock.at(),
            target,
            status: found.status,
            what: What::Read(read),
        });
    }

    async fn ask(&self, target: u8, subject: Subject) -> Found {
        let catalog = &self.shared.catalog;
        let path = match subject {
            Subject::Services => "/services".to_owned(),
            Subject::Instances => return self.all_pages(target).await,
            Subject::Service { service, all } => {
                format!("/services/{}{}", catalog.service(service), if all { "?all=true" } else { "" })
            }
            Subject::Instance { instance } => format!(
                "/services/{}/instances/{}",
                catalog.service(catalog.service_of(instance)),
                catalog.instance(instance)
            ),
            Subject::Nobody => format!("/services/{}/instances/nobody", catalog.service(0)),
        };
        let Some(reply) = self.get(target, &path).await else {
            return Found::default();
        };
        let mut others = Others::default();
        let list = match subject {
            Subject::Services => self.names(&reply).map(|(names, foreign)| {
                others = foreign;
                names
            }),
            Subject::Service { .. } => parse::<Usable>(&reply).map(|usable| self.list(&usable.instances).0),
            _ => parse::<Seen>(&reply).map(|seen| self.list(&[seen]).0),
        };
        let answer = match list {
            Some(list) => Answer::List(sorted(list)),
            None if reply.not_there() => Answer::NotThere,
            None => Answer::Nothing,
        };
        Found { status: reply.status, age: reply.age, others, answer }
    }

    async fn get(&self, target: u8, path: &str) -> Option<Reply> {
        self.client.send(usize::from(target), Method::GET, path, None).await
    }

    /// All pages of the list of instances, as one answer: as old as the oldest of them.
    async fn all_pages(&self, target: u8) -> Found {
        let mut list = Vec::new();
        let (mut others, mut age) = (Others::default(), 0);
        let mut path = "/instances?limit=1000".to_owned();
        for _ in 0..PAGES {
            let Some(reply) = self.get(target, &path).await else {
                return Found::default();
            };
            age = reply.age.max(age);
            let Some(page) = parse::<Page>(&reply) else {
                return Found { status: reply.status, ..Found::default() };
            };
            let (ours, foreign) = self.list(&page.instances);
            list.extend(ours);
            others.listed += foreign.listed;
            others.stale += foreign.stale;
            let Some(next) = page.next else {
                return Found { status: reply.status, age, others, answer: Answer::List(sorted(list)) };
            };
            // A cursor is made of names and a slash.
            path = format!("/instances?limit=1000&after={next}");
        }
        Found::default()
    }

    fn names(&self, reply: &Reply) -> Option<(Vec<Listed>, Others)> {
        let names: Vec<String> = parse(reply)?;
        let numbers = names.iter().filter_map(|name| self.shared.catalog.service_number(name));
        let ours: Vec<Listed> = numbers.map(Listed::new).collect();
        let listed = u32::try_from(names.len() - ours.len()).unwrap_or(u32::MAX);
        Some((ours, Others { listed, stale: 0 }))
    }

    fn list(&self, seen: &[Seen]) -> (Vec<Listed>, Others) {
        let mut ours = Vec::with_capacity(seen.len());
        let mut others = Others::default();
        for seen in seen {
            if let Some(number) = self.shared.catalog.instance_number(&seen.service_name, &seen.instance_id) {
                let critical = seen.status == Status::Critical;
                ours.push(Listed::new(number).flags(seen.stale, seen.draining, critical));
            } else {
                others.listed += 1;
                others.stale += u32::from(seen.stale);
            }
        }
        (ours, others)
    }
}

/// What a read came to.
struct Found {
    status: u16,
    age: u32,
    others: Others,
    answer: Answer,
}

impl Default for Found {
    fn default() -> Self {
        Self { status: 0, age: 0, others: Others::default(), answer: Answer::Nothing }
    }
}

/// A 200 with the documented body.
fn parse<'a, T: Deserialize<'a>>(reply: &'a Reply) -> Option<T> {
    if reply.status == 200 { serde_json::from_slice(&reply.body).ok() } else { None }
}

fn sorted(mut list: Vec<Listed>) -> Box<[Listed]> {
    list.sort_unstable_by_key(|listed| listed.number());
    list.dedup_by_key(|listed| listed.number());
    list.into()
}
