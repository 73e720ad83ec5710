//! The loop: the machine with a clock, sockets and a log around it.
//!
//! In: a [`Config`] and the wish to leave.
//! Owns: the machine while it runs, and who is told when it changed.
//! Out: carried-out probes and calls, logged events.

use std::{
    convert::Infallible,
    future::{Future, pending},
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::rngs::StdRng;
use tokio::{net::TcpListener, sync::Notify, time::sleep_until};
use tokio_retry::RetryIf;
use tracing::{error, info, warn};
use url::Url;

use crate::{
    Config, ConfigError,
    address::Finder,
    advice,
    client::Client,
    clock::{self, Clock},
    machine::{Answer, Event, Machine, Moment, ProbeOutcome, Report},
    probe::Prober,
    socket, status,
    tls::Tls,
};

/// Why a sidecar could not start. Once it runs, nothing ends it but the wish to leave.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration cannot be run.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The status address cannot be listened on.
    #[error("SIDECAR_LISTEN is '{address}', which cannot be listened on: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// Runs a sidecar until `shutdown` is ready, then drains, waits and deregisters, and returns within
/// [`Settings::drain`](crate::machine::Settings::drain) and 5 s. What `shutdown` gives is the reason that readers of
/// the registry see. Dropping the future leaves the registration to end with its lease.
///
/// Needs a tokio runtime with time and I/O; logs with `tracing`; never panics on what a registry or a service answers.
///
/// # Errors
/// The configuration cannot be run, or its status address is taken.
pub async fn run(mut config: Config, shutdown: impl Future<Output = String> + Send) -> Result<(), RunError> {
    if config.registries.is_empty() {
        return Err(ConfigError::new("REGISTRY_URL is empty: name at least one registry").into());
    }
    config.settings.registries = config.registries.len();
    let finder = Finder::new(&config).map_err(|error| ConfigError::new(error.to_string()))?;
    let listener = match config.listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let sidecar = Arc::new(Sidecar::new(&config, finder));
    let name = config.name();
    info!(sidecar = name, registry = %join(&config.registries), "started");
    let report = || sidecar.report();
    let status_page = async {
        match listener {
            Some(listener) => status::serve(listener, Arc::clone(&sidecar)).await,
            None => pending().await,
        }
    };
    tokio::select! {
        () = sidecar.call_registry() => {}
        never = sidecar.probe_service() => match never {},
        never = sidecar.leave_after(shutdown) => match never {},
        never = socket::serve(&name, report) => match never {},
        never = status_page => match never {},
    }
    sidecar.log_events();
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| RunError::Listen { address, source })
}

fn join(urls: &[Url]) -> String {
    let urls: Vec<&str> = urls.iter().map(Url::as_str).collect();
    urls.join(",")
}

/// A running sidecar.
pub(crate) struct Sidecar {
    machine: Mutex<(Machine, StdRng)>,
    /// Told after every change of the machine.
    changed: Notify,
    clock: Clock,
    client: Client,
    address: Arc<Finder>,
    prober: Prober,
    pub(crate) config: Config,
}

/// A registration that has to be tried again.
struct Again;

impl Sidecar {
    fn new(config: &Config, finder: Finder) -> Self {
        let (clock, mut rng) = (Clock::start(), clock::rng());
        let machine = Machine::new(Arc::new(config.settings.clone()), clock.now(), &mut rng);
        let (address, tls) = (Arc::new(finder), Tls::default());
        Self {
            machine: Mutex::new((machine, rng)),
            changed: Notify::new(),
            clock,
            client: Client::new(config, Arc::clone(&address), &tls),
            prober: Prober::new(tls),
            address,
            config: config.clone(),
        }
    }

    /// How it is.
    pub(crate) fn report(&self) -> Report {
        self.lock().0.report(self.clock.now())
    }

    /// The instance id, or what is configured in its place while `SERVICE_HOST=auto` has found no address.
    pub(crate) fn instance(&self) -> String {
        match self.address.found() {
            Some(address) => address.instance.to_string(),
            None => self.config.name(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Machine, StdRng)> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the machine, logs what came of it and tells the others.
    fn change<T>(&self, change: impl FnOnce(&mut Machine, Moment, &mut StdRng) -> T) -> T {
        let result = {
            let (machine, rng) = &mut *self.lock();
            change(machine, self.clock.now(), rng)
        };
        self.log_events();
        self.changed.notify_waiters();
        result
    }

    /// Waits until `ready` gives something. It is asked again after every change, and at the moment that `wake` names.
    async fn wait<T>(
        &self,
        mut ready: impl FnMut(&mut Machine, Moment) -> Option<T>,
        wake: impl Fn(&Machine) -> Option<Moment>,
    ) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Before the look, or a change between look and wait would be missed.
            changed.as_mut().enable();
            let next = {
                let machine = &mut self.lock().0;
                if let Some(result) = ready(machine, self.clock.now()) {
                    return result;
                }
                wake(machine)
            };
            let alarm = async {
                match next {
                    Some(moment) => sleep_until(self.clock.instant(moment)).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = changed => {}
                () = alarm => {}
            }
        }
    }

    /// Makes the calls that are due, one after the other, until the machine has finished.
    async fn call_registry(&self) {
        while self.call_due().await {
            if self.lock().0.registering() {
                // The pauses between registrations are tokio-retry's to keep, and the machine's to choose.
                let goes_on = |_: &Again| !self.lock().0.leaving();
                let registered = RetryIf::start(Pauses(self), || self.attempt(), goes_on);
                let leaving =
                    self.wait(|machine, _| (machine.leaving() && !machine.calling()).then_some(()), |_| None);
                tokio::select! {
                    _ = registered => {}
                    () = leaving => {}
                }
            } else {
                let _ = self.attempt().await;
            }
        }
    }

    /// Waits for the next call to be due; false when there will be none.
    async fn call_due(&self) -> bool {
        let due = self.wait(
            |machine, now| {
                let due = machine.call_due(now);
                (due || machine.finished()).then_some(due)
            },
            Machine::wake_call,
        );
        let due = due.await;
        self.log_events();
        due
    }

    /// Makes the call that is due. Asks for another when the registry does not know this sidecar yet.
    async fn attempt(&self) -> Result<(), Again> {
        let call = self.change(|machine, now, _| machine.poll_call(now));
        let answer = match call {
            None => return Err(Again),
            Some(call) => {
                let late = self.wait(
                    |machine, now| {
                        let over = machine.call_deadline().is_none_or(|deadline| now >= deadline);
                        over.then(|| Answer::unavailable(late(machine)))
                    },
                    Machine::call_deadline,
                );
                tokio::select! {
                    biased;
                    answer = self.client.call(&call) => answer,
                    answer = late => answer,
                }
            }
        };
        self.change(|machine, now, rng| {
            machine.answered(now, answer, rng);
            if machine.registering() { Err(Again) } else { Ok(()) }
        })
    }

    /// Asks the service whenever that is due.
    async fn probe_service(&self) -> Infallible {
        loop {
            self.wait(|machine, now| machine.poll_probe(now).then_some(()), Machine::wake_probe).await;
            let outcome = match self.address.find().await {
                Ok(address) => self.prober.probe(&address.health).await,
                Err(reason) => ProbeOutcome::Unhealthy { reason },
            };
            self.change(|machine, now, _| machine.probed(now, outcome));
        }
    }

    async fn leave_after(&self, shutdown: impl Future<Output = String>) -> Infallible {
        let reason = shutdown.await;
        info!(reason, "asked to leave");
        self.change(|machine, now, _| machine.shutdown(now, &reason));
        pending().await
    }

    fn log_events(&self) {
        loop {
            // Not held while the line is written.
            let event = self.lock().0.poll_event();
            match event {
                Some(event) => self.log(event),
                None => return,
            }
        }
    }

    fn log(&self, event: Event) {
        let url = |registry: usize| self.config.registries.get(registry).map_or("", Url::as_str);
        let service = self.config.service.as_str();
        match event {
            Event::Ready => info!(service, "the service is healthy"),
            Event::WaitOver { output } => {
                warn!(service, output, advice = advice::SERVICE, "registering as critical, and probing on");
            }
            Event::Registered { registry, status, interval } => info!(
                service,
                registry = url(registry),
                status = status.as_str(),
                interval_seconds = interval.as_secs(),
                "registered"
            ),
            Event::Lost => {
                warn!(service, "the registry does not know this instance any more, registering again");
            }
            Event::Superseded => warn!(
                service,
                "another process has registered this instance id; looking again every 60 s. If two sidecars share an \
                 INSTANCE_ID, give each its own"
            ),
            Event::Failing { output } => {
                warn!(service, output, "the service is not healthy, reporting critical");
            }
            Event::Recovered => info!(service, "the service is healthy again, reporting passing"),
            Event::Trouble { registry, error: true, reason, failures } => {
                let advice = advice::call(&reason, self.config.token.is_some());
                error!(registry = url(registry), reason = &*reason, advice, failures, "the registry refuses");
            }
            Event::Trouble { registry, error: false, reason, failures } => {
                let advice = advice::call(&reason, self.config.token.is_some());
                let registry = url(registry);
                warn!(registry, reason = &*reason, advice, failures, "no good answer from the registry");
            }
            Event::Reached { registry, failures } => {
                info!(registry = url(registry), failures, "the registry answers again");
            }
            Event::Leaving { drain } => info!(service, drain_seconds = drain.as_secs(), "draining"),
            Event::Deregistered => info!(service, "deregistered"),
            Event::LeftBehind => {
                warn!(service, "could not deregister in time; the entry goes when its lease ends");
            }
        }
    }
}

fn late(machine: &Machine) -> &'static str {
    if machine.leaving() { "no answer before it was time to leave" } else { "no answer within 8 s" }
}

/// The pauses of a registration, as the machine chose them after the last answer. Never ends.
struct Pauses<'a>(&'a Sidecar);

impl Iterator for Pauses<'_> {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let due = self.0.lock().0.wake_call();
        Some(due.unwrap_or_default().saturating_sub(self.0.clock.now()))
    }
}
