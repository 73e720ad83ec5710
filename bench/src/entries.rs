//! Very many entries by number: how they are put into Postgres, and what is asked about them.

use std::io::Write;

use testkit::Sql;

/// Instances of a service.
pub const INSTANCES: u64 = 10;

/// An instance's turn comes so many numbers after the one before it. It has no divisor in common with a power of ten.
const STRIDE: u64 = 617_333;

/// So many instances, ten of each service, each with a session, a version and an address, as a sidecar's have.
#[derive(Clone, Copy, Debug)]
pub struct Entries {
    /// How many: a power of ten, or another number without a divisor but 2, 3 and 5.
    pub count: u64,
    /// Their leases in seconds.
    pub ttl: u32,
    /// Rows of the change log: their registrations, and as many more as are wanted.
    pub changes: u64,
}

impl Entries {
    /// Entries that are never changed after their registration.
    pub const fn new(count: u64, ttl: u32) -> Self {
        Self { count, ttl, changes: count }
    }

    /// The instance whose turn it is. All come before one comes again, and neighbours in time are far from each other
    /// in the tables.
    const fn at(self, turn: u64) -> u64 {
        turn.wrapping_mul(STRIDE) % self.count
    }

    /// Puts them into a database whose tables are there and empty, as their registrations would have.
    ///
    /// # Panics
    /// When Postgres refuses.
    pub async fn fill(self, sql: &mut Sql) {
        let Self { count, ttl, changes } = self;
        sql.run(&format!(
            "INSERT INTO instances (service, instance, endpoint, health_endpoint, metadata, ttl, session, status, \
                registered_at, observed_address, revision) \
             SELECT 'service-' || lpad((n / {INSTANCES})::text, 6, '0'), 'host-' || lpad(n::text, 7, '0') || ':8080', \
                'http://host-' || lpad(n::text, 7, '0') || ':8080', '/health', '{{\"version\": \"1.4.2\"}}', {ttl}, \
                lpad(n::text, 32, '0'), 'passing', extract(epoch FROM clock_timestamp()), '10.0.0.1', n + 1 \
             FROM generate_series(0, {count} - 1) n; \
             INSERT INTO leases (id, beat, beat_at) SELECT id, 2, clock_timestamp() FROM instances; \
             INSERT INTO changes (revision, tag, at, kind, service, instance, entry_id, actor, body) \
             SELECT n + 1, 1, clock_timestamp(), CASE WHEN n < {count} THEN 'register' ELSE 'status' END, service, \
                instance, id, observed_address, jsonb_build_object('service_name', service, 'instance_id', instance, \
                'endpoint', endpoint, 'health_endpoint', health_endpoint, 'metadata', metadata, 'ttl_seconds', ttl, \
                'session', session, 'status', status, 'registered_at', registered_at, \
                'observed_address', observed_address) \
             FROM generate_series(0, {changes} - 1) n JOIN instances i ON i.revision = n % {count} + 1; \
             UPDATE head SET revision = {changes}"
        ))
        .await;
        sql.run("VACUUM (ANALYZE) instances, leases, changes").await;
        sql.run("CHECKPOINT").await;
    }

    /// Writes the beat of the instance whose turn it is, as its sidecar would.
    pub fn beat(self, turn: u64, out: &mut Vec<u8>) {
        let n = self.at(turn);
        let service = n / INSTANCES;
        put(
            out,
            format_args!("/services/service-{service:06}/instances/host-{n:07}:8080/heartbeat"),
            &format!("{{\"session\":\"{n:032}\",\"status\":\"passing\"}}"),
        );
    }

    /// Writes a read of the service whose turn it is.
    pub fn read(self, turn: u64, out: &mut Vec<u8>) {
        let service = self.at(turn) / INSTANCES;
        get(out, format_args!("/services/service-{service:06}"));
    }
}

/// Writes a PUT with a JSON body.
pub fn put(out: &mut Vec<u8>, path: std::fmt::Arguments<'_>, body: &str) {
    let length = body.len();
    write(
        out,
        format_args!(
            "PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ),
    );
}

/// Writes a GET.
pub fn get(out: &mut Vec<u8>, path: std::fmt::Arguments<'_>) {
    write(out, format_args!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"));
}

/// Writes a DELETE.
pub fn delete(out: &mut Vec<u8>, path: std::fmt::Arguments<'_>) {
    write(out, format_args!("DELETE {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"));
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).unwrap_or_else(|_| unreachable!("writing to memory does not fail"));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn everybody_has_a_turn_before_anybody_has_another() {
        for count in [1_000, 150_000, 1_000_000] {
            let entries = Entries::new(count, 90);
            let seen: BTreeSet<u64> = (0..count).map(|turn| entries.at(turn)).collect();
            assert_eq!(seen.len() as u64, count);
        }
    }

    #[test]
    fn a_beat_says_how_long_it_is() {
        let mut out = Vec::new();
        Entries::new(1_000_000, 90).beat(7, &mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{text}");
    }
}
