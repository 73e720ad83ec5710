//! Asking the service how it is.
//!
//! In: the URL of a health endpoint.
//! Owns: the limits of a probe: 2 s, 64 KiB, no redirect, no compression, a connection of its own each time.
//! Out: a [`ProbeOutcome`], with what a JSON answer says of the service.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, header};
use registry_wire::{Object, Output};
use serde_json::value::RawValue;
use tokio::{sync::Semaphore, time::timeout};
use url::Url;

use crate::{
    client::USER_AGENT,
    http::{Fault, Origin, Reply, Turn},
    machine::{Facts, ProbeOutcome},
    tls::Tls,
};

/// How long a probe may take, from resolving the name to the last byte.
pub const LIMIT: Duration = Duration::from_secs(2);

/// Asks a service.
pub(crate) struct Prober {
    tls: Tls,
    turn: Turn,
}

impl Prober {
    pub(crate) fn new(tls: Tls) -> Self {
        Self { tls, turn: Arc::new(Semaphore::new(1)) }
    }

    /// Asks once.
    pub(crate) async fn probe(&self, url: &Url) -> ProbeOutcome {
        match timeout(LIMIT, self.ask(url)).await {
            Ok(Ok(reply)) => judge(&reply),
            Ok(Err(fault)) => ProbeOutcome::unhealthy(fault.reason),
            Err(_) => ProbeOutcome::unhealthy("no answer within 2 s"),
        }
    }

    async fn ask(&self, url: &Url) -> Result<Reply, Fault> {
        let origin = Origin::in_turn(url, Arc::clone(&self.turn)).ok_or("the health URL has no host")?;
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        // A new connection each time: a kept one breaks whenever the service's idle time-out is near the probe's interval,
        // and says nothing about whether the service still accepts any.
        let request = Request::get(path)
            .header(header::HOST, &origin.authority)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, "*/*")
            .header(header::ACCEPT_ENCODING, "identity")
            .header(header::CONNECTION, "close")
            .body(Full::<Bytes>::default())
            .map_err(|error| error.to_string())?;
        origin.connect(&self.tls).await?.exchange(request).await
    }
}

fn judge(reply: &Reply) -> ProbeOutcome {
    match reply.status {
        200..=299 => {}
        status @ 300..=399 => {
            return ProbeOutcome::unhealthy(format!("HTTP {status}, a redirect, which is not followed"));
        }
        status => return ProbeOutcome::unhealthy(format!("HTTP {status}")),
    }
    match reply.headers.get(header::CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            ProbeOutcome::unhealthy("compressed answer, which was not asked for")
        }
        _ => ProbeOutcome::Healthy(facts(&reply.body)),
    }
}

/// `version` and `status` of a JSON object, whatever their types; nothing of any other body.
fn facts(body: &[u8]) -> Facts {
    let Ok(object) = Object::parse(body) else {
        return Facts::default();
    };
    let text = |field| {
        let raw: &RawValue = object.optional(field).ok()??;
        let text = Output::fit(&as_text(raw.get())).as_str().to_owned();
        (!text.is_empty()).then_some(text)
    };
    Facts { version: text("version"), status: text("status") }
}

/// A JSON text's content; any other value as it is written, without the white space between its parts.
fn as_text(json: &str) -> String {
    if let Ok(text) = serde_json::from_str(json) {
        return text;
    }
    let (mut in_text, mut escaped) = (false, false);
    let part = |c: &char| {
        if escaped {
            escaped = false;
        } else if *c == '"' {
            in_text = !in_text;
        } else if in_text && *c == '\\' {
            escaped = true;
        }
        in_text || !c.is_ascii_whitespace()
    };
    json.chars().filter(part).collect()
}

#[cfg(test)]
mod tests;
