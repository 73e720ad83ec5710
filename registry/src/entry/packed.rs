use std::fmt::Write;

use registry_wire::{Endpoint, HealthPath, Metadata, Output, Reason, ServiceName, Session, Status, Ttl};
use serde::Deserialize;

use super::{Key, Record};

/// A [`Record`] in as few bytes as may be, as a node holds a million of them. What readers get of it is JSON already,
/// as it changes with membership only; the rest stands behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed {
    /// Shared by all instances of the service, where whoever packed it had one to share.
    service: ServiceName,
    /// [`Packed::json`], then the session, then the observed address.
    text: Box<str>,
    rare: Option<Box<Rare>>,
    /// When this session registered, in Unix seconds of the node that took it. For people.
    pub registered_at: f64,
    /// The lease.
    pub ttl_seconds: Ttl,
    /// Where the JSON ends.
    json: u32,
    /// Where the value of `metadata` begins in it.
    metadata: u32,
    /// Bytes of the session, 0 without one.
    session: u16,
    /// Bytes of the instance's name.
    instance: u8,
    /// How its last health check went.
    pub status: Status,
}

/// What few entries have.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rare {
    output: Option<Output>,
    operator_drain: Option<Reason>,
    session_drain: Option<Reason>,
}

/// What a packed record is made of, every text in order: checked, and `metadata` as JSON with its keys sorted and
/// without white space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Texts<'a> {
    pub(crate) instance: &'a str,
    pub(crate) endpoint: &'a str,
    pub(crate) health_endpoint: &'a str,
    pub(crate) metadata: &'a str,
    pub(crate) session: Option<&'a str>,
    pub(crate) observed_address: Option<&'a str>,
}

/// Bytes that memory hands out at a time, on the machines that we know.
const CACHE_LINE: usize = 64;

const INSTANCE: &str = "\",\"instance_id\":\"";

/// A key and a value as the text of metadata has them.
#[derive(Debug)]
pub struct Pair(String);

impl Pair {
    /// Of this key and value.
    pub fn new(key: &str, value: &str) -> Self {
        let mut pair = String::with_capacity(key.len() + value.len() + 6);
        push_quoted(&mut pair, key);
        pair.push(':');
        push_quoted(&mut pair, value);
        Self(pair)
    }
}

impl Packed {
    /// `None`: a text is longer than any that is in order.
    pub(crate) fn new(
        service: ServiceName,
        texts: &Texts<'_>,
        ttl_seconds: Ttl,
        status: Status,
        registered_at: f64,
    ) -> Option<Self> {
        let Texts { instance, endpoint, health_endpoint, metadata, session, observed_address } = *texts;
        let (session, address) = (session.unwrap_or_default(), observed_address.unwrap_or_default());
        let fixed = 96;
        let about = [instance, endpoint, health_endpoint, metadata, session, address].map(str::len);
        let mut text = String::with_capacity(fixed + about.iter().sum::<usize>());
        text.push_str(INSTANCE);
        text.push_str(instance);
        text.push_str("\",\"endpoint\":");
        push_quoted(&mut text, endpoint);
        text.push_str(",\"health_endpoint\":");
        push_quoted(&mut text, health_endpoint);
        text.push_str(",\"metadata\":");
        let metadata_at = text.len();
        text.push_str(metadata);
        text.push(',');
        let json = text.len();
        text.push_str(session);
        text.push_str(address);
        Some(Self {
            service,
            text: text.into(),
            rare: None,
            registered_at,
            ttl_seconds,
            json: json.try_into().ok()?,
            metadata: metadata_at.try_into().ok()?,
            session: session.len().try_into().ok()?,
            instance: instance.len().try_into().ok()?,
            status,
        })
    }

    /// With what few entries have.
    #[must_use]
    pub(crate) fn with_rare(
        self,
        output: Option<Output>,
        operator_drain: Option<Reason>,
        session_drain: Option<Reason>,
    ) -> Self {
        let rare = Rare { output, operator_drain, session_drain };
        Self { rare: (rare != Rare::default()).then(|| Box::new(rare)), ..self }
    }

    /// With a name of its service that others share.
    #[must_use]
    pub fn sharing(self, service: ServiceName) -> Self {
        Self { service, ..self }
    }

    /// The service.
    pub const fn service(&self) -> &ServiceName {
        &self.service
    }

    /// The instance.
    pub fn instance(&self) -> &str {
        &self.text[INSTANCE.len()..][..self.instance.into()]
    }

    /// Its name.
    pub fn key(&self) -> Key {
        let instance = self.instance().parse().unwrap_or_else(|_| unreachable!("it was one before"));
        Key { service: self.service.clone(), instance }
    }

    /// The process that registered it.
    pub fn session(&self) -> Option<&str> {
        Some(&self.text[self.json()..][..self.session.into()]).filter(|session| !session.is_empty())
    }

    /// The address that the registration came from.
    pub fn observed_address(&self) -> Option<&str> {
        Some(&self.text[self.json() + usize::from(self.session)..]).filter(|address| !address.is_empty())
    }

    /// The text that came with the last change of status.
    pub fn output(&self) -> Option<&Output> {
        self.rare.as_ref()?.output.as_ref()
    }

    /// Listed, but not handed out.
    pub fn draining(&self) -> bool {
        self.drain_reason().is_some()
    }

    /// Why it drains; the operator's reason before the session's.
    pub fn drain_reason(&self) -> Option<&Reason> {
        let rare = self.rare.as_ref()?;
        rare.operator_drain.as_ref().or(rare.session_drain.as_ref())
    }

    /// Whether traffic may be sent there.
    pub fn usable(&self) -> bool {
        self.status.usable() && !self.draining()
    }

    /// Appends `"service_name":…,"instance_id":…,"endpoint":…,"health_endpoint":…,"metadata":…,`.
    pub fn push_names(&self, out: &mut String) {
        out.push_str("\"service_name\":\"");
        out.push_str(self.service.as_str());
        out.push_str(&self.text[..self.json()]);
    }

    /// The length of its texts, of which every part is asked for: those of all instances of a service are fetched from
    /// memory side by side then, and not one after the other, each when it is written.
    pub fn fetch(&self) -> usize {
        std::hint::black_box(self.text.as_bytes().iter().step_by(CACHE_LINE).fold(0, |all, byte| all ^ byte));
        self.text.len()
    }

    /// `"endpoint":…,"health_endpoint":…,"metadata":…,`
    fn address(&self) -> &str {
        &self.text[INSTANCE.len() + usize::from(self.instance) + 2..self.json()]
    }

    /// How many of the bytes that [`Packed::push_names`] appends, from `"endpoint"` on, say where it is.
    pub fn address_len(&self) -> u32 {
        // Of the length of a text that has 32 bits.
        u32::try_from(self.address().len()).unwrap_or_else(|_| unreachable!("a part is not longer"))
    }

    /// Whether its metadata say this of it.
    pub fn says(&self, pair: &Pair) -> bool {
        // A quotation mark within a text has a backslash before it, so that only a pair looks like one.
        self.text[self.metadata as usize..self.json()].contains(&pair.0)
    }

    /// The record again. It costs much more than what the other methods give.
    pub fn record(&self) -> Record {
        #[derive(Deserialize)]
        struct Address {
            endpoint: Endpoint,
            health_endpoint: HealthPath,
            metadata: Metadata,
        }
        let json = format!("{{{}}}", self.address().trim_end_matches(','));
        let Address { endpoint, health_endpoint, metadata } =
            serde_json::from_str(&json).unwrap_or_else(|error| unreachable!("packed as {json}: {error}"));
        let Key { service, instance } = self.key();
        let rare = self.rare.as_deref().cloned().unwrap_or_default();
        Record {
            service_name: service,
            instance_id: instance,
            endpoint,
            health_endpoint,
            metadata,
            ttl_seconds: self.ttl_seconds,
            session: self.session().and_then(|session| session.parse::<Session>().ok()),
            status: self.status,
            output: rare.output,
            operator_drain: rare.operator_drain,
            session_drain: rare.session_drain,
            registered_at: self.registered_at,
            observed_address: self.observed_address().map(str::to_owned),
        }
    }

    const fn json(&self) -> usize {
        self.json as usize
    }
}

impl From<&Record> for Packed {
    fn from(record: &Record) -> Self {
        let mut metadata = String::from("{");
        for (key, value) in record.metadata.iter() {
            if metadata.len() > 1 {
                metadata.push(',');
            }
            push_quoted(&mut metadata, key);
            metadata.push(':');
            push_quoted(&mut metadata, value);
        }
        metadata.push('}');
        let texts = Texts {
            instance: record.instance_id.as_str(),
            endpoint: record.endpoint.as_str(),
            health_endpoint: record.health_endpoint.as_str(),
            metadata: &metadata,
            session: record.session.as_ref().map(Session::as_str),
            observed_address: record.observed_address.as_deref(),
        };
        let service = record.service_name.clone();
        Self::new(service, &texts, record.ttl_seconds, record.status, record.registered_at)
            .unwrap_or_else(|| unreachable!("the limits of a record are far below these"))
            .with_rare(record.output.clone(), record.operator_drain.clone(), record.session_drain.clone())
    }
}

impl PartialEq<Record> for Packed {
    fn eq(&self, other: &Record) -> bool {
        let other = Self::from(other);
        *self == other
    }
}

/// Appends a JSON string. Most texts hold nothing that JSON would escape.
pub fn push_quoted(out: &mut String, text: &str) {
    if text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        let quoted = serde_json::Value::from(text);
        write!(out, "{quoted}").unwrap_or_else(|_| unreachable!("writing to a string does not fail"));
    } else {
        out.push('"');
        out.push_str(text);
        out.push('"');
    }
}

#[cfg(test)]
mod tests;
