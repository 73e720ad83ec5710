//! Calls to the registry.
//!
//! In: a [`Call`] of the machine.
//! Owns: one kept connection per registry URL, the token and its file, the bytes of a request.
//! Out: an [`Answer`].
//!
//! Has no time-out of its own: whoever waits knows the [`call_deadline`](crate::machine::Machine::call_deadline), and
//! dropping the call closes its connection.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request,
    header::{self, HeaderValue},
};
use registry_wire::{Endpoint, HealthPath, InstanceId, ServiceName, Ttl, request};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use serde::Serialize;
use tokio::{task::spawn_blocking, time::Instant};
use tracing::info;
use url::Url;

use crate::{
    Config,
    address::Finder,
    http::{Connection, Fault, Origin, Reply},
    machine::{Action, Answer, Call},
    reply,
    tls::Tls,
};

pub(crate) const USER_AGENT: &str = concat!("sidecar/", env!("CARGO_PKG_VERSION"));

/// How long a connection may lie idle before it is no longer trusted. Longer than the pause after 409, so that a proxy
/// which keeps connections sees one for all beats; what closes them earlier is noticed when it does.
const IDLE_MAX: Duration = Duration::from_secs(75);

struct Kept {
    connection: Connection,
    since: Instant,
}

struct Registry {
    origin: Origin,
    /// The URL's path without a slash at its end.
    base: String,
    kept: Mutex<Option<Kept>>,
}

/// Calls registries.
pub(crate) struct Client {
    service: ServiceName,
    health_endpoint: HealthPath,
    ttl: Ttl,
    registries: Vec<Registry>,
    authorization: Mutex<Option<HeaderValue>>,
    /// Where a token that is refused may have been replaced.
    token_file: Option<PathBuf>,
    address: Arc<Finder>,
    tls: Tls,
}

/// A request before it has a registry.
struct Draft {
    method: Method,
    path: String,
    body: Option<Bytes>,
}

impl Client {
    pub(crate) fn new(config: &Config, address: Arc<Finder>, tls: &Tls) -> Self {
        let registry = |url: &Url| {
            Some(Registry {
                origin: Origin::of(url)?,
                base: url.path().trim_end_matches('/').to_owned(),
                kept: Mutex::new(None),
            })
        };
        Self {
            service: config.service.clone(),
            health_endpoint: config.health_endpoint.clone(),
            ttl: config.settings.ttl,
            registries: config.registries.iter().filter_map(registry).collect(),
            authorization: Mutex::new(config.token.as_ref().and_then(bearer)),
            token_file: config.token_file.clone(),
            address,
            tls: tls.with(&config.registry_tls),
        }
    }

    /// Carries out a call.
    pub(crate) async fn call(&self, call: &Call) -> Answer {
        let address = match self.address.find().await {
            Ok(address) => address,
            Err(reason) => return Answer::unavailable(reason),
        };
        let draft = self.draft(&call.action, &address.instance, &address.endpoint);
        match self.send(call.registry, &draft).await {
            Ok(reply) => reply::read(call.action.kind(), reply.status, reply.retry_after(), &reply.body),
            Err(fault) => Answer::unavailable(fault.reason),
        }
    }

    /// A beat for an instance that does not exist, which changes nothing and needs the same right as a real one.
    pub(crate) async fn beat_nobody(&self, registry: usize, instance: &InstanceId) -> Result<Reply, Fault> {
        self.send(registry, &self.draft_beat(instance, &request::Heartbeat::default())).await
    }

    /// A plain GET below a registry's URL.
    pub(crate) async fn get(&self, registry: usize, path: &str) -> Result<Reply, Fault> {
        let draft = Draft { method: Method::GET, path: path.to_owned(), body: None };
        self.send(registry, &draft).await
    }

    fn draft(&self, action: &Action, instance: &InstanceId, endpoint: &Endpoint) -> Draft {
        let path = format!("/services/{}/instances/{instance}", self.service);
        match action {
            Action::Register { session, status, output, metadata } => {
                let body = request::Register {
                    endpoint: endpoint.clone(),
                    health_endpoint: Some(self.health_endpoint.clone()),
                    metadata: registry_wire::Metadata::clone(metadata),
                    ttl_seconds: Some(self.ttl),
                    session: Some(session.clone()),
                    status: Some(*status),
                    output: output.clone(),
                };
                put(path, &body)
            }
            Action::Beat { session, status, output } => {
                let body = request::Heartbeat {
                    session: Some(session.clone()),
                    status: Some(*status),
                    output: output.clone(),
                };
                self.draft_beat(instance, &body)
            }
            Action::Drain { session, reason } => {
                let body = request::Drain { reason: reason.clone(), session: Some(session.clone()) };
                put(path + "/drain", &body)
            }
            // Sessions are ours, and hexadecimal.
            Action::Deregister { session } => {
                Draft { method: Method::DELETE, path: format!("{path}?session={session}"), body: None }
            }
        }
    }

    fn draft_beat(&self, instance: &InstanceId, body: &request::Heartbeat) -> Draft {
        let path = format!("/services/{}/instances/{instance}/heartbeat", self.service);
        put(path, body)
    }

    fn request(&self, registry: &Registry, draft: &Draft) -> Result<Request<Full<Bytes>>, Fault> {
        let mut request = Request::builder()
            .method(draft.method.clone())
            .uri(format!("{}{}", registry.base, draft.path))
            .header(header::HOST, &registry.origin.authority)
            .header(header::USER_AGENT, USER_AGENT);
        if draft.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = self.authorization() {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        request
            .body(Full::new(draft.body.clone().unwrap_or_default()))
            .map_err(|error| error.to_string().into())
    }

    fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends, and once more where the token is refused and its file holds another by now.
    async fn send(&self, registry: usize, draft: &Draft) -> Result<Reply, Fault> {
        let reply = self.send_as_it_is(registry, draft).await?;
        if matches!(reply.status, 401 | 403) && self.read_token_again().await {
            return self.send_as_it_is(registry, draft).await;
        }
        Ok(reply)
    }

    /// Whether the token's file holds another token, which is sent from here on.
    async fn read_token_again(&self) -> bool {
        let Some(path) = self.token_file.clone() else {
            return false;
        };
        // A disk may hang.
        let read = spawn_blocking(move || fs::read_to_string(path).map(Zeroizing::new));
        let Ok(Ok(text)) = read.await else {
            return false;
        };
        let token = text.trim();
        let new = (!token.is_empty()).then(|| bearer(&SecretString::from(token))).flatten();
        let mut kept = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        if new.is_none() || *kept == new {
            return false;
        }
        *kept = new;
        drop(kept);
        info!("the token was refused, and its file holds another one: trying that");
        true
    }

    /// Sends over the kept connection if there is one. When that fails without an answer, the server had closed it
    /// while it lay idle, as servers do: not a fault of the registry, and worth one new connection. Every call of ours
    /// may safely arrive twice.
    async fn send_as_it_is(&self, registry: usize, draft: &Draft) -> Result<Reply, Fault> {
        let Some(registry) = self.registries.get(registry) else {
            return Err("there is no such registry URL".into());
        };
        if let Some(mut connection) = registry.take() {
            match connection.exchange(self.request(registry, draft)?).await {
                Ok(reply) => {
                    registry.keep(connection);
                    return Ok(reply);
                }
                Err(fault) if fault.silent => {}
                Err(fault) => return Err(fault),
            }
        }
        let mut connection = registry.origin.connect(&self.tls).await?;
        let reply = connection.exchange(self.request(registry, draft)?).await?;
        registry.keep(connection);
        Ok(reply)
    }
}

impl Registry {
    fn take(&self) -> Option<Connection> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let good = !kept.connection.closed() && kept.since.elapsed() < IDLE_MAX;
        good.then_some(kept.connection)
    }

    fn keep(&self, connection: Connection) {
        let kept = Kept { connection, since: Instant::now() };
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
    }
}

fn put(path: String, body: &impl Serialize) -> Draft {
    Draft { method: Method::PUT, path, body: serde_json::to_vec(body).ok().map(Bytes::from) }
}

/// The header of a token. `None` for one that no header can carry; the configuration refuses those.
pub(crate) fn bearer(token: &SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).ok()?;
    value.set_sensitive(true);
    Some(value)
}
