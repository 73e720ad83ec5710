//! A fleet at work: what a scenario starts, harms and ends.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use registry_sidecar::machine::Settings;
use reqwest::Method;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    catalog::Instance,
    client::Client,
    clock::Clock,
    config::Config,
    history::{Header, History, Place, Recorder},
    readers::{self, Readers},
    sidecar::{self, Orders, Process, Shared, State},
};

/// How long the sidecars may take to leave, and how much longer for each of them. One takes 5 s at the most.
const LEAVE: Duration = Duration::from_secs(10);
const LEAVE_EACH: Duration = Duration::from_millis(10);

/// How many leave at once.
const LEAVING: usize = 64;

/// How long each of the last calls may take, how often each is tried, the pause between, and the time for all.
const TIDY: Duration = Duration::from_secs(2);
const TIDY_TRIES: u32 = 10;
const TIDY_PAUSE: Duration = Duration::from_millis(500);
const TIDY_ALL: Duration = Duration::from_secs(30);

/// Why a fleet did not start: its configuration cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

/// A running fleet. Dropping it ends it without deregistering.
#[derive(Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
    sidecars: BTreeMap<Instance, Running>,
    stop_readers: watch::Sender<bool>,
    readers: Vec<JoinHandle<()>>,
    rng: StdRng,
}

#[derive(Debug)]
struct Running {
    orders: watch::Sender<Orders>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fleet {
    /// Starts all sidecars and readers, on the tokio runtime that it is called on. Does not wait for a registration.
    ///
    /// # Errors
    /// The configuration cannot be run.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        let clock = Clock::start();
        let places = |chosen: &[usize]| -> Result<Vec<u8>, StartError> {
            let all: Vec<usize> = (0..config.targets.len()).collect();
            let chosen = if chosen.is_empty() { &all } else { chosen };
            let in_range = |place: &usize| u8::try_from(*place).ok().filter(|_| *place < all.len());
            let places: Option<Vec<u8>> = chosen.iter().map(in_range).collect();
            places
                .filter(|places| !places.is_empty())
                .ok_or_else(|| StartError("name 1 to 255 registry URLs, and use only those".to_owned()))
        };
        let (write_to, read_from) = (places(&config.write_to)?, places(&config.read_from)?);
        if !config.catalog.is_valid() {
            return Err(StartError("services and instances do not make valid names".to_owned()));
        }
        if config.catalog.len() >= crate::history::Listed::LIMIT {
            return Err(StartError("too many instances".to_owned()));
        }
        let client = |in_flight| {
            Client::new(&config.targets, config.token.clone(), in_flight)
                .map_err(|error| StartError(error.to_string()))
        };
        let place = |target: &crate::Target| {
            let mut url = target.url.clone();
            let _ = url.set_password(None);
            let _ = url.set_username("");
            Place { url: url.into(), node: target.node }
        };
        let header = Header {
            catalog: config.catalog.clone(),
            targets: config.targets.iter().map(place).collect(),
            ttl: config.ttl,
            tick: config.tick,
            seed: config.seed,
        };
        let settings = Settings {
            interval: config.interval,
            ttl: config.ttl,
            registries: write_to.len(),
            health_interval: config.interval.min(Duration::from_secs(10)),
            ..Settings::default()
        };
        let count = config.catalog.len();
        let shared = Arc::new(Shared {
            clock,
            client: client(config.in_flight)?,
            recorder: Recorder::new(clock, header, config.history_limit),
            catalog: config.catalog.clone(),
            settings: Arc::new(settings),
            targets: write_to,
            states: (0..count).map(|_| State::default()).collect(),
        });
        let mut rng = StdRng::seed_from_u64(config.seed);
        let (stop_readers, stop) = watch::channel(false);
        let readers = Arc::new(Readers {
            shared: Arc::clone(&shared),
            client: client(config.in_flight)?,
            targets: read_from,
        });
        let mut tasks = Vec::new();
        if config.reads_per_second > 0.0 {
            let singles =
                readers::singles(Arc::clone(&readers), config.reads_per_second, rng.random(), stop.clone());
            tasks.push(tokio::spawn(singles));
        }
        if config.lists_per_second > 0.0 {
            tasks.push(tokio::spawn(readers::lists(readers, config.lists_per_second, stop)));
        }
        let mut fleet = Self { shared, sidecars: BTreeMap::new(), stop_readers, readers: tasks, rng };
        for instance in 0..count {
            let part = f64::from(instance) / f64::from(count);
            fleet.launch(instance, config.ramp.mul_f64(part));
        }
        Ok(fleet)
    }

    fn launch(&mut self, instance: Instance, delay: Duration) {
        let (orders, ordered) = watch::channel(Orders { process: Process::Runs, healthy: true });
        let seed = self.rng.random();
        let task = tokio::spawn(sidecar::run(Arc::clone(&self.shared), instance, delay, seed, ordered));
        // One that ran under this number is aborted here; what it had under way is in the history.
        drop(self.sidecars.insert(instance, Running { orders, task }));
        // A new process has not registered yet, whatever the old one had.
        let state = usize::try_from(instance).ok().and_then(|place| self.shared.states.get(place));
        if let Some(state) = state {
            state.registered.store(false, Ordering::Release);
        }
    }

    /// The history while it happens, for marks of faults.
    pub fn history(&self) -> &Recorder {
        &self.shared.recorder
    }

    /// How many instances there are, whatever they do.
    pub fn len(&self) -> u32 {
        self.shared.catalog.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.shared.catalog.is_empty()
    }

    /// How many sidecars are registered, as far as the registry told them.
    pub fn registered(&self) -> usize {
        self.shared.states.iter().filter(|state| state.registered.load(Ordering::Acquire)).count()
    }

    /// A random part of the instances, as the seed has it.
    pub fn pick(&mut self, count: usize) -> Vec<Instance> {
        let mut all: Vec<Instance> = (0..self.len()).collect();
        all.shuffle(&mut self.rng);
        all.truncate(count);
        all
    }

    /// Kills sidecars: they fall silent without a word.
    pub fn kill(&self, instances: &[Instance]) {
        self.order(instances, |orders| orders.process = Process::Killed);
    }

    /// Stops sidecars as SIGSTOP does.
    pub fn pause(&self, instances: &[Instance]) {
        self.order(instances, |orders| orders.process = Process::Paused);
    }

    /// Lets paused sidecars go on.
    pub fn resume(&self, instances: &[Instance]) {
        self.order(instances, |orders| orders.process = Process::Runs);
    }

    /// Lets sidecars leave politely.
    pub fn leave(&self, instances: &[Instance]) {
        self.order(instances, |orders| orders.process = Process::Leaves);
    }

    /// Makes the services beside sidecars fail their probes, or pass them again.
    pub fn set_healthy(&self, instances: &[Instance], healthy: bool) {
        self.order(instances, |orders| orders.healthy = healthy);
    }

    /// Starts new sidecars in the place of those that ran, within `spread`: as after a crash, with a new session.
    pub fn restart(&mut self, instances: &[Instance], spread: Duration) {
        let count = self.len();
        for instance in instances.iter().copied().filter(|instance| *instance < count) {
            self.kill(&[instance]);
            let delay = spread.mul_f64(self.rng.random_range(0.0..1.0));
            self.launch(instance, delay);
        }
    }

    fn order(&self, instances: &[Instance], order: impl Fn(&mut Orders)) {
        for running in instances.iter().filter_map(|instance| self.sidecars.get(instance)) {
            running.orders.send_modify(&order);
        }
    }

    /// Ends the run: readers first, then all sidecars leave, and what was killed is deregistered. Gives what happened
    /// until the readers stopped and the sidecars had left.
    pub async fn stop(mut self) -> History {
        self.stop_readers.send_replace(true);
        for reader in std::mem::take(&mut self.readers) {
            let _ = reader.await;
        }
        let running = std::mem::take(&mut self.sidecars);
        let deadline = LEAVE + LEAVE_EACH * self.len();
        // Not all at once: that would be another load than the one that was asked for.
        let left = stream::iter(running.into_values()).for_each_concurrent(LEAVING, async |mut running| {
            running.orders.send_modify(|orders| {
                if orders.process != Process::Killed {
                    orders.process = Process::Leaves;
                }
            });
            let _ = (&mut running.task).await;
        });
        let _ = timeout(deadline, left).await;
        let history = self.shared.recorder.seal();
        let left = last_left(&history);
        self.tidy(left).await;
        history
    }

    /// Deregisters whatever has not left by itself, as far as that is done in time; the rest goes with its lease.
    async fn tidy(&self, left: Vec<Instance>) {
        let gone = stream::iter(left).for_each_concurrent(LEAVING, async |instance| {
            for _ in 0..TIDY_TRIES {
                if self.deregister(instance).await {
                    return;
                }
                sleep(TIDY_PAUSE).await;
            }
        });
        let _ = timeout(TIDY_ALL, gone).await;
    }

    /// Whether a registry says that an instance is gone.
    async fn deregister(&self, instance: Instance) -> bool {
        let catalog = &self.shared.catalog;
        let service = catalog.service(catalog.service_of(instance));
        let path = format!("/services/{service}/instances/{}", catalog.instance(instance));
        for target in &self.shared.targets {
            let call = self.shared.client.send(usize::from(*target), Method::DELETE, &path, None);
            if let Ok(Some(reply)) = timeout(TIDY, call).await
                && matches!(reply.status, 204 | 404)
            {
                return true;
            }
        }
        false
    }
}

/// The instances that tried to register and were not seen to deregister.
fn last_left(history: &History) -> Vec<Instance> {
    use crate::history::{Act, Outcome, What};
    let mut there: BTreeMap<Instance, bool> = BTreeMap::new();
    for operation in &history.operations {
        if let What::Write(write) = operation.what {
            match (write.act, write.outcome) {
                (Act::Register, _) => there.insert(write.instance, true),
                (Act::Deregister, Outcome::Acknowledged | Outcome::NotThere) => {
                    there.insert(write.instance, false)
                }
                _ => None,
            };
        }
    }
    there.into_iter().filter_map(|(instance, there)| there.then_some(instance)).collect()
}
