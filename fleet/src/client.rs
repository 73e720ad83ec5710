//! Calls to the registry over shared, kept connections, with a bound on how many are under way.
//!
//! In: what a sidecar or a reader asks for.
//! Owns: the connections, the tokens, the meaning of an answer for the history.
//! Out: a status and a body of bounded size, or that there was no answer.

use std::time::Duration;

use registry_wire::{Problem, ProblemType};
use reqwest::{Method, Response, header, redirect};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Semaphore, SemaphorePermit};
use url::Url;

use crate::Target;

/// A list of 1,000 instances is around half a megabyte.
const BODY_MAX: usize = 16 << 20;

/// Shorter than the 8 s after which a node closes a connection that lies idle, so that none is closed under a request.
const IDLE: Duration = Duration::from_secs(3);

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) age: u32,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Whether it is a 404 in the registry's own words, about a service or an instance.
    pub(crate) fn not_there(&self) -> bool {
        const KINDS: [ProblemType; 3] =
            [ProblemType::UnknownInstance, ProblemType::UnknownService, ProblemType::NoUsableInstance];
        let problem = || serde_json::from_slice::<Problem>(&self.body).ok();
        self.status == 404 && problem().is_some_and(|problem| KINDS.iter().any(|kind| problem.is(*kind)))
    }
}

/// Calls registries.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    targets: Vec<Url>,
    token: Option<SecretString>,
    permits: Semaphore,
}

impl Client {
    pub(crate) fn new(
        targets: &[Target],
        token: Option<SecretString>,
        in_flight: usize,
    ) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("fleet/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(in_flight.max(1))
            .build()?;
        let targets = targets.iter().map(|target| target.url.clone()).collect();
        Ok(Self { http, targets, token, permits: Semaphore::new(in_flight.max(1)) })
    }

    /// Waits for the turn to call. What is measured begins after it.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.permits.acquire().await.ok()
    }

    /// The turn, if nobody waits for one.
    pub(crate) fn try_turn(&self) -> Option<SemaphorePermit<'_>> {
        self.permits.try_acquire().ok()
    }

    /// Sends a request, and reads the answer. `None`: there was none, or not a whole one.
    pub(crate) async fn send(
        &self,
        target: usize,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Option<Reply> {
        let base = self.targets.get(target)?;
        let url = format!("{}{path}", base.as_str().trim_end_matches('/'));
        let mut request = self.http.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        }
        read(request.send().await.ok()?).await
    }
}

async fn read(mut response: Response) -> Option<Reply> {
    let number = |name: header::HeaderName| {
        let number = response.headers().get(name)?.to_str().ok()?.trim().parse::<u64>().ok()?;
        Some(u32::try_from(number).unwrap_or(u32::MAX))
    };
    let (age, retry_after) = (number(header::AGE), number(header::RETRY_AFTER));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > BODY_MAX {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(Reply {
        status: response.status().as_u16(),
        age: age.unwrap_or_default(),
        retry_after: retry_after.map(|seconds| Duration::from_secs(seconds.into())),
        body,
    })
}
