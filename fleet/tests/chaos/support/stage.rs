use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use fleet::{Catalog, Config, Fleet, Target};
use rand::{SeedableRng, rngs::StdRng};
use testkit::{Cluster, ClusterOptions, Postgres, Stopwatch, WallClock, wait_until};
use tokio::{
    sync::Semaphore,
    task::block_in_place,
    time::{Instant, sleep, timeout},
};

use super::{Client, Outcome, Scale};

/// Scenarios that run at once, whatever number of threads the test harness has: each has ten processes.
static TURNS: Semaphore = Semaphore::const_new(2);

/// How often a scaled scenario is played at most when it is broken while the machine itself stands still for longer than
/// a tick. It is not played again for any other reason.
const ATTEMPTS: u32 = 3;

/// How much is asked of the registry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) services: u32,
    /// Of each service.
    pub(crate) instances: u32,
    pub(crate) reads_per_second: f64,
    pub(crate) lists_per_second: f64,
}

impl Load {
    /// 2,000 calls a second, reads and beats half each; scaled: some hundred.
    pub(crate) fn mixed(scale: &Scale) -> Self {
        Self {
            services: scale.pick(20, 1000),
            instances: scale.pick(5, 30),
            reads_per_second: scale.pick(150.0, 1000.0),
            lists_per_second: scale.pick(4.0, 0.5),
        }
    }

    /// With fewer services where `CHAOS_SERVICES` says what percentage of them this machine carries. The line that a
    /// scenario prints names what there was.
    fn shrunk(self) -> Self {
        let percent: Option<u32> = std::env::var("CHAOS_SERVICES").ok().map(|percent| {
            percent
                .parse()
                .ok()
                .filter(|percent| (1..=100).contains(percent))
                .expect("CHAOS_SERVICES is 1 to 100")
        });
        Self { services: (self.services * percent.unwrap_or(100) / 100).max(1), ..self }
    }

    /// The sidecars start over this time: a thousand registrations a second at most, which are no part of what is
    /// tested.
    fn ramp(&self, scale: &Scale) -> Duration {
        let instances = Duration::from_millis((self.services * self.instances).into());
        scale.pick(Duration::from_secs(1), scale.interval.max(instances))
    }
}

/// A cluster under load.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) promise: &'static str,
    pub(crate) scale: Scale,
    pub(crate) load: Load,
    pub(crate) catalog: Catalog,
    pub(crate) fleet: Fleet,
    pub(crate) cluster: Cluster,
    pub(crate) postgres: Postgres,
    pub(crate) rng: StdRng,
    /// Services that a scenario registered besides the fleet, and that are there at its end.
    pub(crate) others: u32,
}

/// What a scenario runs on.
#[derive(Debug)]
pub(crate) struct Plan {
    promise: &'static str,
    bound: Duration,
    load: fn(&Scale) -> Load,
    settings: BTreeMap<String, String>,
    clock: Option<Arc<WallClock>>,
}

impl Plan {
    /// Three nodes under [`Load::mixed`] on a Postgres of their own; all of it takes no longer than `bound`.
    pub(crate) fn new(promise: &'static str, bound: Duration) -> Self {
        Self { promise, bound, load: Load::mixed, settings: BTreeMap::new(), clock: None }
    }

    /// Another load.
    pub(crate) fn load(self, load: fn(&Scale) -> Load) -> Self {
        Self { load, ..self }
    }

    /// A further setting of all nodes.
    pub(crate) fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Postgres runs by this clock.
    pub(crate) fn clock_of_postgres(self, clock: Arc<WallClock>) -> Self {
        Self { clock: Some(clock), ..self }
    }
}

/// Runs a scenario: the faults and the checks are `body`, which ends with [`Stage::end`].
pub(crate) async fn scenario(plan: Plan, body: impl AsyncFn(Stage) -> Outcome) {
    let (promise, bound) = (plan.promise, plan.bound);
    if let Ok(only) = std::env::var("CHAOS_ONLY")
        && !only.is_empty()
        && !only.split(',').any(|one| one.trim() == promise)
    {
        println!("{promise}: left out, CHAOS_ONLY={only}");
        return;
    }
    let scale = Scale::chosen();
    let _turn = TURNS.acquire_many(scale.pick(1, 2)).await.unwrap();
    for attempt in 1.. {
        let (begun, watch) = (Instant::now(), Stopwatch::start());
        let played = timeout(bound, async { body(Stage::begin(&plan, scale).await).await }).await;
        let mut outcome = played.unwrap_or_else(|_| panic!("{promise} took longer than {bound:?}"));
        let stall = watch.longest_stall();
        outcome.figure(format!("longest stall of this machine {} ms", stall.as_millis()));
        // Scaled time is a quarter of the real one, and tests share the machine with other tests.
        let starved = !scale.full && stall > scale.tick;
        if outcome.is_kept() || !starved || attempt == ATTEMPTS {
            return outcome.tell(begun.elapsed());
        }
        println!(
            "{promise}: broken, but this machine stood still for {stall:?}: once more\n{}",
            outcome.broken()
        );
    }
}

/// A program that cargo put beside this one.
pub(crate) fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.ancestors().nth(2).unwrap().join(name);
    assert!(path.is_file(), "{} is missing: cargo build --workspace first", path.display());
    path
}

impl Stage {
    async fn begin(plan: &Plan, scale: Scale) -> Self {
        let (promise, load) = (plan.promise, (plan.load)(&scale).shrunk());
        let seed = std::env::var("CHAOS_SEED").ok().map(|seed| seed.parse().expect("CHAOS_SEED is a number"));
        let clock = plan.clock.as_ref().map(|clock| clock.environment()).unwrap_or_default();
        let postgres = block_in_place(|| Postgres::start_under(&[], &clock));
        let mut settings = plan.settings.clone();
        let log = scale.pick("info,registry=debug", "info");
        settings.insert("REGISTRY_LOG".to_owned(), log.to_owned());
        let options =
            ClusterOptions { tick: scale.tick, settings, ..ClusterOptions::new(program("registry")) };
        let cluster = Cluster::start(options, &postgres).await;
        let mut targets = vec![Target::balancer(cluster.nginx.url().parse().unwrap())];
        for (number, node) in (0..).zip(&cluster.nodes) {
            targets.push(Target::node(node.url().parse().unwrap(), number));
        }
        let mut config = Config::new(targets);
        config.seed = seed.unwrap_or(config.seed);
        let config = Config {
            write_to: vec![0],
            // Each node as well, past nginx: what a node says must be right whoever asks.
            read_from: vec![0, 1, 0, 2, 0, 3],
            catalog: Catalog {
                run: promise.to_lowercase(),
                services: load.services,
                instances: load.instances,
            },
            ttl: scale.ttl,
            interval: scale.interval,
            tick: scale.tick,
            ramp: load.ramp(&scale),
            // Sidecars do not wait for each other: a call that had to wait for its turn is cut short before its answer,
            // and would count as one without an answer.
            in_flight: scale.pick(256, 4096),
            reads_per_second: load.reads_per_second,
            lists_per_second: load.lists_per_second,
            ..config
        };
        let (seed, catalog) = (config.seed, config.catalog.clone());
        let fleet = Fleet::start(&config).unwrap();
        let rng = StdRng::seed_from_u64(seed);
        let stage = Self { promise, scale, load, catalog, fleet, cluster, postgres, rng, others: 0 };
        stage.whole().await;
        stage
    }

    /// Waits until every sidecar is registered.
    pub(crate) async fn whole(&self) {
        let all = usize::try_from(self.fleet.len()).unwrap();
        let patience = self.load.ramp(&self.scale) + self.scale.ttl() + Duration::from_secs(60);
        wait_until(patience, "all sidecars are registered", async || self.fleet.registered() == all).await;
    }

    /// `service/instance`.
    pub(crate) fn name(&self, instance: u32) -> String {
        self.catalog.name(instance)
    }

    /// The names of all sidecars.
    pub(crate) fn everybody(&self) -> BTreeSet<String> {
        (0..self.fleet.len()).map(|number| self.name(number)).collect()
    }

    /// A client of nginx.
    pub(crate) fn nginx(&self) -> Client {
        Client::new(&self.cluster.nginx.url())
    }

    /// A client of a node.
    pub(crate) fn direct(&self, node: u8) -> Client {
        Client::new(&self.node(node).url())
    }

    /// Goes on for a TTL and a beat without faults, waits until everybody is registered and the nodes agree, ends the
    /// run and judges it.
    pub(crate) async fn end(self, fault: &str) -> Outcome {
        sleep(self.scale.ttl() + self.scale.interval).await;
        self.whole().await;
        self.agree(self.load.services + self.others).await;
        self.end_now(fault).await
    }

    /// Ends the run at once, whatever is registered, and judges it.
    pub(crate) async fn end_now(self, fault: &str) -> Outcome {
        let until = self.fleet.history().now();
        let history = self.fleet.stop().await;
        Outcome::new(self.promise, self.scale, fault, until, history)
    }
}
