use registry_wire::answer;
use serde::Serialize;

use super::{Entry, Service};
use crate::{
    clock::{self, Moment, Sighting},
    entry::{Record, push_quoted},
};

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

/// Appends an instance object; `unix_now` is the wall clock's reading of `sighting.now`. Nothing of it but the times is
/// put into JSON here.
pub fn write_instance(out: &mut String, entry: &Entry, sighting: &Sighting, unix_now: f64) {
    let record = &entry.record;
    out.push('{');
    record.push_names(out);
    out.push_str("\"status\":\"");
    out.push_str(record.status.as_str());
    out.push_str("\",");
    if let Some(output) = record.output() {
        field(out, "output", output);
    }
    if let Some(reason) = record.drain_reason() {
        out.push_str("\"draining\":true,");
        field(out, "drain_reason", reason);
    } else {
        out.push_str("\"draining\":false,");
    }
    times(out, entry, sighting, unix_now);
    if let Some(address) = record.observed_address() {
        out.push_str("\"observed_address\":");
        push_quoted(out, address);
    }
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
        out.push_str(entry.record.address());
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
