use registry_wire::answer;
use serde::Serialize;

use super::{Entry, Service};
use crate::{
    clock::{self, Moment, Sighting},
    entry::Record,
};

/// The parts of an instance's JSON that change with its membership only, so that a read writes nothing but times.
#[derive(Debug)]
pub(super) struct Rendered {
    /// From the brace to `draining` and its reason.
    head: Box<str>,
    /// From the comma after `registered_at` to the brace, `last_heartbeat` left out.
    observed_address: Box<str>,
}

impl Rendered {
    pub(super) fn new(record: &Record) -> Self {
        let mut head = String::from("{");
        field(&mut head, "service_name", &record.service_name);
        field(&mut head, "instance_id", &record.instance_id);
        field(&mut head, "endpoint", &record.endpoint);
        field(&mut head, "health_endpoint", &record.health_endpoint);
        field(&mut head, "metadata", &record.metadata);
        field(&mut head, "status", &record.status);
        if let Some(output) = &record.output {
            field(&mut head, "output", output);
        }
        field(&mut head, "draining", &record.draining());
        if let Some(reason) = record.drain_reason() {
            field(&mut head, "drain_reason", reason);
        }
        let mut observed_address = String::new();
        if let Some(address) = &record.observed_address {
            field(&mut observed_address, "observed_address", address);
        }
        Self { head: head.into(), observed_address: observed_address.into() }
    }
}

/// Appends `"name":value,`.
fn field(out: &mut String, name: &str, value: &impl Serialize) {
    out.push('"');
    out.push_str(name);
    out.push_str("\":");
    out.push_str(
        &serde_json::to_string(value).expect("texts, numbers and maps of texts can be written as JSON"),
    );
    out.push(',');
}

/// Appends `"name":value,` for a whole number or a boolean, without a detour.
fn number(out: &mut String, name: &str, value: impl std::fmt::Display) {
    use std::fmt::Write;
    write!(out, "\"{name}\":{value},").expect("writing to a string does not fail");
}

/// The times of an entry, in Unix seconds, and what is left of its lease.
fn times(out: &mut String, entry: &Entry, sighting: &Sighting, unix_now: f64) {
    let last_seen = entry.pulse.last_seen();
    let ttl = entry.record.ttl_seconds;
    number(out, "stale", entry.stale(sighting));
    number(out, "ttl_seconds", ttl.seconds());
    number(out, "ttl_remaining", entry.remaining(sighting));
    field(out, "registered_at", &entry.record.registered_at);
    field(out, "last_heartbeat", &clock::unix_at(last_seen, sighting.now, unix_now));
}

fn close(out: &mut String) {
    if out.ends_with(',') {
        out.pop();
    }
    out.push('}');
}

/// Appends an instance object; `unix_now` is the wall clock's reading of `sighting.now`.
pub fn write_instance(out: &mut String, entry: &Entry, sighting: &Sighting, unix_now: f64) {
    out.push_str(&entry.rendered.head);
    times(out, entry, sighting, unix_now);
    out.push_str(&entry.rendered.observed_address);
    close(out);
}

/// Appends the answer to `GET /services/{service}`: `picked` spread at the top, and the usable instances beside it
/// (`all`: those that are critical or draining too).
pub fn write_service(
    out: &mut String,
    service: &Service,
    picked: Option<&Entry>,
    all: bool,
    sighting: &Sighting,
    unix_now: f64,
) {
    out.push('{');
    field(out, "service_name", service.name());
    if let Some(entry) = picked {
        let last_seen = entry.pulse.last_seen();
        field(out, "endpoint", &entry.record.endpoint);
        field(out, "health_endpoint", &entry.record.health_endpoint);
        field(out, "metadata", &entry.record.metadata);
        field(out, "registered_at", &entry.record.registered_at);
        field(out, "last_heartbeat", &clock::unix_at(last_seen, sighting.now, unix_now));
        number(out, "ttl_remaining", entry.remaining(sighting));
    }
    out.push_str("\"instances\":[");
    let mut first = true;
    for entry in service.listed(sighting).filter(|entry| all || entry.record.usable()) {
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        write_instance(out, entry, sighting, unix_now);
    }
    out.push_str("]}");
}

/// The instance object as a value, of a record that need not be in the view.
pub fn instance(record: Record, last_seen: Moment, sighting: &Sighting, unix_now: f64) -> answer::Instance {
    let ttl = record.ttl_seconds;
    answer::Instance {
        draining: record.draining(),
        drain_reason: record.drain_reason().map(|reason| reason.as_str().to_owned()),
        stale: sighting.stale(last_seen, ttl.duration()),
        ttl_seconds: ttl.seconds(),
        ttl_remaining: sighting.remaining(last_seen, ttl.duration()),
        last_heartbeat: clock::unix_at(last_seen, sighting.now, unix_now),
        service_name: record.service_name,
        instance_id: record.instance_id,
        endpoint: record.endpoint,
        health_endpoint: record.health_endpoint,
        metadata: record.metadata,
        status: record.status,
        output: record.output.map(|output| output.as_str().to_owned()),
        registered_at: record.registered_at,
        observed_address: record.observed_address,
    }
}
