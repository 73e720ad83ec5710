//! A node without a store and without a network: its leases and its view are real and full, and what it hands on to be
//! committed is answered as if it had been, and changes nothing. So every input meets the same node.

use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use registry::{
    clock::{self, Moment, Sight},
    config::Config,
    entry::{EntryId, Key, Packed, Record},
    http::{App, Guard, Node, Tokens},
    lease::{Bounds, Leases, Looks, Outcome, Submission, Write},
    metrics::{Breaker, Metrics},
    view::{Update, View},
};
use registry_wire::{Metadata, Status, Ttl, limits};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, watch},
};

/// A node never gets as old as this; its sight holds for three of them.
const TICK: Duration = Duration::from_hours(1000);

/// Sooner than the shortest lease of [`records`] ends.
const RENEW: Duration = Duration::from_mins(10);

/// Entries of a few services: usable, draining and critical ones. In a service of several one alone is usable, so that
/// none is picked at random.
pub(crate) fn records(count: usize) -> Vec<Record> {
    let record = |number: usize| {
        let (service, place) = (["web", "a", "b.c-d", "orders_2"][number / 4 % 4], number % 4);
        let mut metadata = Metadata::default();
        for (key, value) in [("zone", ["north", "south"][number % 2]), ("n", &number.to_string())] {
            metadata.insert(key, value).expect("a valid pair");
        }
        let key = Key {
            service: service.parse().expect("a name"),
            instance: ["a", "b:80", "c", "default"][place].parse().expect("an id"),
        };
        let key = if number < 16 {
            key
        } else {
            Key { instance: format!("i-{number}").parse().expect("an id"), ..key }
        };
        Record {
            metadata,
            ttl_seconds: Ttl::try_from(u64::from(limits::TTL_MAX)).expect("a lease"),
            session: (place == 0).then(|| "session-1".parse().expect("a session")),
            status: if place == 2 || number >= 16 { Status::Critical } else { Status::Passing },
            operator_drain: (place % 2 == 1).then(|| "by hand".parse().expect("a reason")),
            ..Record::new(key, "http://10.0.0.1:8080".parse().expect("an endpoint"))
        }
    };
    (0..count).map(record).collect()
}

/// A node to call.
pub(crate) struct Bed {
    app: App,
    view: Arc<View>,
    committed: Arc<AtomicU64>,
    renewed: Cell<Moment>,
    runtime: Runtime,
}

impl Bed {
    /// A node with these settings that holds these entries. One that is not `seeing` has loaded them and lost its
    /// store.
    pub(crate) fn new(config: &Config, entries: &[Record], seeing: bool) -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        let (submit, submissions) = mpsc::channel(16);
        let (look, looks) = Looks::new();
        let now = clock::now();
        let sight = Sight::continuous(TICK);
        sight.advance(now, now);
        if !seeing {
            sight.lose(now);
        }
        let leases = Leases::new(sight, look, submit, config.default_ttl, Bounds::none());
        let view = Arc::new(View::default());
        let updates = entries.iter().zip(1..).map(|(record, id)| put(&leases, id, record, now)).collect();
        view.apply(updates);
        let node = Node {
            leases,
            view: Arc::clone(&view),
            metrics: Arc::new(Metrics::new().expect("metrics")),
            breaker: watch::channel(Breaker::Closed).1,
            tokens: Tokens::new(config),
            trusted_proxies: config.trusted_proxies.clone(),
            guard: Guard::new(config.limits),
            node_id: "under-test".into(),
            stopping: AtomicBool::new(false),
        };
        let committed = Arc::new(AtomicU64::new(0));
        runtime.spawn(see(looks));
        runtime.spawn(commit(submissions, Arc::clone(&view), Arc::clone(&committed)));
        Self { app: App::new(Arc::new(node)), view, committed, renewed: Cell::new(now), runtime }
    }

    /// Answers a request that came from an address of the documentation, which is no neighbour.
    pub(crate) fn call(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let peer = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        self.runtime.block_on(async {
            let (head, body) = self.app.call(request, peer).await.into_parts();
            let body = body.collect().await.expect("a whole body").to_bytes();
            Response::from_parts(head, body)
        })
    }

    /// Lets no lease end, however long the inputs come.
    pub(crate) fn refresh(&self) {
        let now = clock::now();
        if now.since(self.renewed.get()) > RENEW {
            self.renewed.set(now);
            self.view.each_service(None, |service| {
                service.entries().iter().for_each(|entry| entry.pulse.beat(now));
                true
            });
        }
    }

    /// How many changes there would have been by now.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// The beats of its entries: when each was heard of last.
    pub(crate) fn beats(&self) -> Vec<Moment> {
        let mut beats = Vec::new();
        self.view.each_service(None, |service| {
            beats.extend(service.entries().iter().map(|entry| entry.pulse.last_seen()));
            true
        });
        beats
    }
}

fn put(leases: &Leases, id: EntryId, record: &Record, now: Moment) -> Update {
    Update::Put(leases.put(id, id, Packed::from(record), None, now, true))
}

/// Answers each question for a look at the change log at once: there is nothing new in it.
async fn see(looks: Looks) {
    loop {
        looks.asked().await;
        looks.done(clock::now());
    }
}

/// Answers what is to be committed as the store would, without keeping it.
async fn commit(mut submissions: mpsc::Receiver<Submission>, view: Arc<View>, committed: Arc<AtomicU64>) {
    while let Some(Submission { key, write, reply, .. }) = submissions.recv().await {
        let known = view.entry(&key).map(|entry| entry.record.record());
        let outcome = match (write, known) {
            (Write::Register(asked), known) => {
                let record = Record {
                    health_endpoint: asked.health_endpoint,
                    metadata: asked.metadata,
                    ttl_seconds: asked.ttl,
                    session: asked.session,
                    status: asked.status,
                    output: asked.output,
                    registered_at: asked.at,
                    observed_address: asked.observed_address,
                    ..Record::new(key, asked.endpoint)
                };
                Outcome::Done { record: Box::new(record), new: known.is_none() }
            }
            (_, Some(record)) => Outcome::Done { record: Box::new(record), new: false },
            (_, None) => Outcome::Unknown,
        };
        committed.fetch_add(u64::from(outcome != Outcome::Unknown), Ordering::Relaxed);
        // Who asked may be gone.
        drop(reply.send(outcome));
    }
}
