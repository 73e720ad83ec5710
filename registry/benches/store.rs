//! How fast the stores write and load, on one connection, waiting for the disk at each commit.
//!
//! `cargo bench -p registry --bench store`, or with the number of entries to load: `-- 1000000`.

use std::time::Duration;

use registry::{
    entry::{Body, Key, Kind, Record, Stored},
    store::{LoadedEntry, Mutation, Store},
};
use registry_wire::Metadata;
use testkit::Postgres;
use tokio::time::Instant;

fn record(n: usize) -> Record {
    let mut metadata = Metadata::default();
    metadata.insert("version", "1.4.2").expect("a valid pair");
    Record {
        metadata,
        session: Some(format!("session-{n}").parse().expect("a valid session")),
        registered_at: 1_761_307_802.11,
        observed_address: Some("10.0.0.1".into()),
        ..Record::new(
            Key {
                service: format!("service-{}", n % 997).parse().expect("a valid name"),
                instance: format!("host-{n}:8080").parse().expect("a valid id"),
            },
            format!("http://host-{n}:8080").parse().expect("a valid URL"),
        )
    }
}

fn mutation(kind: Kind, record: Record, expected: Option<i64>) -> Mutation {
    Mutation {
        kind,
        named_session: record.session.clone(),
        body: Body::new(record),
        expected,
        noted_beat: None,
        reason: None,
        actor: Some("10.0.0.1".into()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn report(what: &str, rows: usize, start: Instant) {
    let took = start.elapsed();
    println!("  {what:<34} {rows:>8} rows in {took:>8.1?}, {:>8.0} rows/s", rows as f64 / took.as_secs_f64());
}

async fn measure(store: &Store, entries: usize) {
    store.migrate().await.expect("migrated");
    let mut next = 0;
    for size in [1, 64, 256, 512] {
        let rounds = if size == 1 { 300 } else { 20_000 / size };
        let batches: Vec<Vec<Mutation>> = (0..rounds)
            .map(|_| {
                next += size;
                (next - size..next).map(|n| mutation(Kind::Register, record(n), None)).collect()
            })
            .collect();
        let start = Instant::now();
        for batch in &batches {
            store.commit(batch).await.expect("committed");
        }
        report(&format!("registrations, batches of {size}"), rounds * size, start);
    }
    while next < entries {
        let batch: Vec<Mutation> =
            (next..next + 512).map(|n| mutation(Kind::Register, record(n), None)).collect();
        next += 512;
        store.commit(&batch).await.expect("committed");
    }
    let start = Instant::now();
    let loaded = store.load().await.expect("loaded");
    report("load", loaded.entries.len(), start);

    let stored: Vec<Stored> = loaded.entries.iter().take(20_000).map(LoadedEntry::stored).collect();
    let start = Instant::now();
    for batch in stored.chunks(256) {
        let batch: Vec<Mutation> = batch
            .iter()
            .map(|stored| mutation(Kind::Replace, stored.record.clone(), Some(stored.revision)))
            .collect();
        store.commit(&batch).await.expect("committed");
    }
    report("replacements, batches of 256", stored.len(), start);

    for size in [0, 5_000] {
        let ids: Vec<i64> = stored.iter().map(|stored| stored.id).step_by(4).take(size).collect();
        let start = Instant::now();
        for seq in 1..=10 {
            store
                .write_beats(i64::try_from(size).unwrap_or(0), seq, &ids, Duration::ZERO)
                .await
                .expect("written");
        }
        report(&format!("beats, batches of {size}"), size * 10, start);
        println!("    {:.1?} a batch", start.elapsed() / 10);
    }
    let keys: Vec<_> = stored.iter().take(256).map(|stored| stored.record.key()).collect();
    let start = Instant::now();
    for _ in 0..20 {
        store.read(&keys).await.expect("read");
    }
    report("read, 256 keys", 20 * 256, start);
}

#[tokio::main]
async fn main() {
    let entries = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(100_000);
    let server =
        Postgres::start_with(&[("fsync", "on"), ("full_page_writes", "on"), ("shared_buffers", "256MB")]);
    println!("Postgres");
    let url = server.fresh_database().await;
    measure(&Store::open(&url).await.expect("opened"), entries).await;
    println!("SQLite");
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite://{}", dir.path().join("bench.db").display());
    measure(&Store::open(&url).await.expect("opened"), entries).await;
}
