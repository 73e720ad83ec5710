//! `sidecar doctor`: every step that a sidecar takes, once, without registering anything.
//!
//! In: a [`Config`].
//! Owns: the order of the steps and the advice for each.
//! Out: a line for each step, and whether all went well.

use std::{io::Write, sync::Arc, time::Duration};

use registry_wire::InstanceId;
use tokio::time::timeout;
use url::Url;

use crate::{
    Config,
    address::Finder,
    advice,
    client::Client,
    clock,
    http::{Fault, Origin, Reply},
    machine::{Answer, Kind, ProbeOutcome},
    probe::Prober,
    reply,
    tls::Tls,
};

/// How long each step may take.
const STEP_LIMIT: Duration = Duration::from_secs(8);

/// Writes a line for each step.
struct Steps<'a> {
    out: &'a mut dyn Write,
    failed: u32,
}

impl Steps<'_> {
    fn line(&mut self, word: &str, text: &str) {
        // A reader that went away is no reason to stop before the exit code is known.
        let _ = writeln!(self.out, "{word:7} {text}");
    }

    fn ok(&mut self, text: impl AsRef<str>) {
        self.line("ok", text.as_ref());
    }

    fn failed(&mut self, text: impl AsRef<str>) {
        self.failed += 1;
        self.line("failed", text.as_ref());
    }
}

/// Takes every step; true when all went well.
pub(crate) async fn examine(config: &Config, out: &mut dyn Write) -> bool {
    let mut steps = Steps { out, failed: 0 };
    let Ok(finder) = Finder::new(config) else {
        steps.failed("configuration: SERVICE_HOST makes no endpoint: set a host name or an IP address");
        return false;
    };
    let (finder, tls) = (Arc::new(finder), Tls::default());
    let client = Client::new(config, Arc::clone(&finder), &tls);
    steps.ok(format!(
        "configuration: service {}, lease {} s, a beat every {} s, {}",
        config.service,
        config.settings.ttl.seconds(),
        config.settings.interval.as_secs(),
        if config.token.is_some() { "with a token" } else { "without a token" },
    ));
    match finder.find().await {
        Ok(address) => steps.ok(format!("address: instance {} at {}", address.instance, address.endpoint)),
        Err(reason) => steps.failed(format!("address: {reason}; name the service in SERVICE_HOST instead")),
    }
    for (index, url) in config.registries.iter().enumerate() {
        registry(&mut steps, &client, index, url, config.token.is_some()).await;
    }
    if let Some(address) = finder.found() {
        service(&mut steps, &address.health, &Prober::new(tls)).await;
    }
    steps.failed == 0
}

async fn within<T>(step: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let late = |_| Err(Fault::from("no answer within 8 s"));
    timeout(STEP_LIMIT, step).await.unwrap_or_else(late)
}

async fn registry(steps: &mut Steps<'_>, client: &Client, index: usize, url: &Url, has_token: bool) {
    let Some(origin) = Origin::of(url) else {
        steps.failed(format!("{url}: has no host; change REGISTRY_URL"));
        return;
    };
    match within(origin.resolve()).await {
        Ok(addresses) => {
            let mut texts: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            texts.dedup();
            steps.ok(format!("{url}: {} resolves to {}", origin.host, texts.join(", ")));
        }
        Err(fault) => {
            steps.failed(format!(
                "{url}: {}; check the name in REGISTRY_URL, and that this container shares a network with the registry",
                fault.reason
            ));
            return;
        }
    }
    match within(origin.dial()).await {
        Ok(_) => steps.ok(format!("{url}: port {} takes connections", origin.port)),
        Err(fault) => {
            steps.failed(format!(
                "{url}: port {}: {}; check that the registry runs and listens there, and that no firewall is between",
                origin.port, fault.reason
            ));
            return;
        }
    }
    match within(client.get(index, "/readyz")).await {
        Ok(reply) if reply.status == 200 => {
            let tls = if origin.tls { "TLS is good, " } else { "" };
            steps.ok(format!("{url}: {tls}the registry is ready"));
        }
        Ok(reply) if reply.status == 503 => {
            steps.failed(format!("{url}: the registry is not ready (HTTP 503); look at its log"));
        }
        Ok(reply) => steps.failed(format!(
            "{url}: GET /readyz gave HTTP {}, as no registry does; check host, port and path of REGISTRY_URL",
            reply.status
        )),
        Err(fault) => {
            let advice = if let Some(advice) = advice::tls(&fault.reason) {
                advice
            } else if origin.tls {
                "check that this port speaks https"
            } else {
                "check that this port speaks http"
            };
            steps.failed(format!("{url}: {}; {advice}", fault.reason));
            return;
        }
    }
    match made_up_instance() {
        Some(instance) => {
            let answer = within(client.beat_nobody(index, &instance)).await;
            token(steps, url, answer, has_token);
        }
        None => steps.failed(format!("{url}: the token could not be tried")),
    }
}

/// An instance that nobody registers.
fn made_up_instance() -> Option<InstanceId> {
    let id: u64 = rand::Rng::random(&mut clock::rng());
    format!("doctor-{id:016x}").parse().ok()
}

/// A beat for an instance that does not exist: 404 from a registry means that the token may write.
fn token(steps: &mut Steps<'_>, url: &Url, answer: Result<Reply, Fault>, has_token: bool) {
    let reply = match answer {
        Ok(reply) => reply,
        Err(fault) => return steps.failed(format!("{url}: a beat got no answer: {}", fault.reason)),
    };
    let asked = reply.retry_after();
    match (reply.status, reply::read(Kind::Beat, reply.status, asked, &reply.body)) {
        (_, Answer::Unknown) if has_token => steps.ok(format!("{url}: the token is good")),
        (_, Answer::Unknown) => steps.ok(format!("{url}: beats are taken without a token")),
        (401, _) if has_token => {
            steps.failed(format!(
                "{url}: the token is wrong (HTTP 401); set REGISTRY_TOKEN to the registry's write token"
            ));
        }
        (401, _) => steps.failed(format!("{url}: a token is needed (HTTP 401); set REGISTRY_TOKEN")),
        (403, _) => steps.failed(format!(
            "{url}: the token lacks the right for this service (HTTP 403); ask for one that may register it"
        )),
        (
            _,
            Answer::Unavailable { reason, .. }
            | Answer::Overloaded { reason, .. }
            | Answer::Refused { reason },
        ) => {
            steps.failed(format!("{url}: a beat was answered: {reason}"));
        }
        (status, _) => {
            steps.failed(format!("{url}: a beat was answered with HTTP {status}, as no registry does"));
        }
    }
}

async fn service(steps: &mut Steps<'_>, health: &Url, prober: &Prober) {
    match prober.probe(health).await {
        ProbeOutcome::Healthy(_) => steps.ok(format!("{health}: the service is healthy")),
        ProbeOutcome::Unhealthy { reason } => steps.failed(format!(
            "{health}: {reason}; check that the service runs, and SERVICE_HOST, SERVICE_PORT and \
             SERVICE_HEALTH_ENDPOINT"
        )),
    }
}
