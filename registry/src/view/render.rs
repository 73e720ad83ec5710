use registry_wire::answer;
use serde::Serialize;

use crate::{
    clock::{self, Moment, Sighting},
    entry::Record,
};

/// Appends `"name":value,`.
pub(super) fn field(out: &mut String, name: &str, value: &impl Serialize) {
    out.push('"');
    out.push_str(name);
    out.push_str("\":");
    out.push_str(
        &serde_json::to_string(value).expect("texts, numbers and maps of texts can be written as JSON"),
    );
    out.push(',');
}

/// Appends a whole number.
pub(super) fn number(out: &mut String, value: impl itoa::Integer) {
    out.push_str(itoa::Buffer::new().format(value));
}

/// Appends seconds as JSON has them. Whole milliseconds, which all of ours are, without a detour: of so few digits the
/// decimal is the shortest that reads back as the same number, which is what JSON is written with elsewhere.
pub(super) fn seconds(out: &mut String, seconds: f64) {
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
