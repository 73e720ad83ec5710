use registry_wire::answer;
use serde::Serialize;

use super::{Entry, Service};
use crate::{
    clock::{self, Moment, Sighting},
    entry::{Record, push_quoted},
};

/// What the fixed parts and the times of an object have of bytes, about; more only makes the buffer grow.
const FIXED_MAX: usize = 240;

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

/// Appends a whole number.
fn number(out: &mut String, value: impl itoa::Integer) {
    out.push_str(itoa::Buffer::new().format(value));
}

/// Appends seconds as JSON has them. Whole milliseconds, which all of ours are, without a detour: of so few digits the
/// decimal is the shortest that reads back as the same number, which is what JSON is written with elsewhere.
fn seconds(out: &mut String, seconds: f64) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "compared with what it came from"
    )]
    let milliseconds = (seconds * 1000.0 + 0.5) as u64;
    #[expect(
        clippy::cast_precision_loss,
        clippy::float_cmp,
        reason = "the same number, or another way to write it"
    )]
    let whole = seconds.is_sign_positive()
        && milliseconds < 1_000_000_000_000_000
        && milliseconds as f64 / 1000.0 == seconds;
    if !whole {
        out.push_str(&serde_json::to_string(&seconds).expect("numbers can be written as JSON"));
        return;
    }
    number(out, milliseconds / 1000);
    let rest = u32::try_from(milliseconds % 1000).unwrap_or_default();
    let digits = [rest / 100, rest / 10 % 10, rest % 10];
    let used = digits.iter().rposition(|digit| *digit != 0).map_or(1, |last| last + 1);
    out.push('.');
    out.extend(digits[..used].iter().filter_map(|digit| char::from_digit(*digit, 10)));
}

/// The times of an entry, in Unix seconds, and what is left of its lease.
fn times(out: &mut String, entry: &Entry, sighting: &Sighting, unix_now: f64) {
    let last_seen = entry.pulse.last_seen();
    out.push_str(if entry.stale(sighting) { "\"stale\":true" } else { "\"stale\":false" });
    out.push_str(",\"ttl_seconds\":");
    number(out, entry.record.ttl_seconds.seconds());
    out.push_str(",\"ttl_remaining\":");
    number(out, entry.remaining(sighting));
    out.push_str(",\"registered_at\":");
    seconds(out, entry.record.registered_at);
    out.push_str(",\"last_heartbeat\":");
    seconds(out, clock::unix_at(last_seen, sighting.now, unix_now));
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
        out.push_str(",\"observed_address\":");
        push_quoted(out, address);
    }
    out.push('}');
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
    // Once, and not in steps.
    let name = service.name().as_str();
    let most = |entry: &Entry| entry.record.fetch() + name.len() + FIXED_MAX;
    out.reserve(
        FIXED_MAX + service.entries().iter().map(|entry| most(entry)).sum::<usize>() + picked.map_or(0, most),
    );
    // A service name holds nothing that JSON would escape.
    for part in ["{\"service_name\":\"", name, "\","] {
        out.push_str(part);
    }
    if let Some(entry) = picked {
        let last_seen = entry.pulse.last_seen();
        out.push_str(entry.record.address());
        out.push_str("\"registered_at\":");
        seconds(out, entry.record.registered_at);
        out.push_str(",\"last_heartbeat\":");
        seconds(out, clock::unix_at(last_seen, sighting.now, unix_now));
        out.push_str(",\"ttl_remaining\":");
        number(out, entry.remaining(sighting));
        out.push(',');
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

#[cfg(test)]
mod tests;
