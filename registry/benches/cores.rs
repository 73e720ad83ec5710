//! The pure cores under many entries: what a beat, a storm of expiries, a rebuild of snapshots and a merge of beats cost.
//!
//! `cargo bench -p registry --bench cores`; `cargo test` runs each once, to see that it works.

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use registry::{
    clock::{self, Moment, Pulse, Sight},
    entry::{Entry, EntryId, Key, Packed, Record},
    flush::Buffer,
    lease::{Beats, Core},
    view::{ReadAt, Update, View},
};
use registry_wire::{Metadata, ServiceName, Session, Status};

const TICK: Duration = Duration::from_secs(1);

/// Few entries lie in the processor's caches, many do not.
const SIZES: [i64; 2] = [1_000, 100_000];

fn at(seconds: u64) -> Moment {
    Moment::from_start(Duration::from_secs(1_000_000 + seconds))
}

fn record(id: EntryId) -> Record {
    let mut metadata = Metadata::default();
    metadata.insert("version", "1.4.2").expect("a valid pair");
    Record {
        metadata,
        session: Some(session(id)),
        registered_at: 1_761_307_802.11,
        observed_address: Some("10.0.0.1".into()),
        ..Record::new(
            Key {
                service: format!("service-{}", id / 10).parse().expect("a valid name"),
                instance: format!("host-{id}:8080").parse().expect("a valid id"),
            },
            format!("http://host-{id}:8080").parse().expect("a valid URL"),
        )
    }
}

fn session(id: EntryId) -> Session {
    format!("{id:032}").parse().expect("a valid session")
}

/// Leases of so many entries that have all beaten at 0, and a sight that begins there.
fn core(count: i64) -> (Core, Sight) {
    let mut core = Core::default();
    for id in 0..count {
        let record = record(id);
        core.put(id, id, Packed::from(&record), None, at(0), true);
        core.heartbeat(at(0), &record.key(), None, None);
    }
    let sight = Sight::ticking(TICK);
    sight.advance(at(0), at(0));
    (core, sight)
}

/// A beat of one instance after another, far from each other in memory.
fn lease_apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lease apply");
    for size in SIZES {
        let (mut core, _) = core(size);
        let calls: Vec<(Key, Session)> =
            (0..size).map(|turn| turn * 617_333 % size).map(|id| (record(id).key(), session(id))).collect();
        let (mut turn, mut now) = (0, at(1));
        group.bench_function(BenchmarkId::from_parameter(size), |bench| {
            bench.iter(|| {
                let (key, session) = &calls[turn % calls.len()];
                (turn, now) = (turn + 1, now.plus(Duration::from_nanos(100)));
                black_box(core.heartbeat(now, key, Some(session), Some(Status::Passing)))
            });
        });
    }
    group.finish();
}

/// All leases end at once: a brake that is on holds them, and all are judged.
fn expiry_storm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("expiry storm");
    group.sample_size(10);
    for size in SIZES {
        group.bench_function(BenchmarkId::from_parameter(size), |bench| {
            let all_silent = || {
                let (core, sight) = core(size);
                for second in 1..=100 {
                    sight.advance(at(second), at(second));
                }
                (core, sight.at(at(100)))
            };
            let storm = |(mut core, sighting): (Core, _)| {
                let ended = core.newly_ended(&sighting);
                assert!(ended.is_empty() && core.census().held == usize::try_from(size).expect("a size"));
                core
            };
            bench.iter_batched(all_silent, storm, BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn update(id: EntryId) -> Update {
    let entry = Entry::new(id, id, Packed::from(&record(id)), Arc::new(Pulse::new(at(0))));
    Update::Put(Arc::new(entry))
}

/// One change in each of a hundred services of ten instances; and one in a single service of many.
fn snapshot_rebuild(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("snapshot rebuild");
    for size in SIZES {
        let view = View::default();
        view.apply((0..size).map(update).collect());
        group.bench_function(BenchmarkId::new("100 of small services", size), |bench| {
            let changes = || (0..100).map(|turn| update(turn * 10 % size)).collect::<Vec<_>>();
            bench.iter_batched(changes, |changes| view.apply(changes), BatchSize::SmallInput);
        });
    }
    let view = View::default();
    let large = |id: EntryId| {
        let record = Record { service_name: "large".parse().expect("a valid name"), ..record(id) };
        let entry = Entry::new(id, id, Packed::from(&record), Arc::new(Pulse::new(at(0))));
        Update::Put(Arc::new(entry))
    };
    view.apply((0..10_000).map(large).collect());
    group.bench_function("1 of a service of 10000", |bench| {
        bench.iter_batched(|| vec![large(5_000)], |change| view.apply(change), BatchSize::SmallInput);
    });
    group.finish();
}

/// A tick's beats are taken from the leases and merged into those that could not be written before.
fn batch_merge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch merge");
    for size in SIZES {
        let (mut core, _) = core(size);
        let keys: Vec<Key> = (0..size).step_by(3).map(|id| record(id).key()).collect();
        group.bench_function(BenchmarkId::from_parameter(size), |bench| {
            let mut now = at(1);
            bench.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                for _ in 0..rounds {
                    let mut buffer = Buffer::new();
                    buffer.add(Beats { ids: (0..size).step_by(2).collect(), youngest: at(0) });
                    now = now.plus(TICK);
                    for key in &keys {
                        core.heartbeat(now, key, None, None);
                    }
                    let begun = tokio::time::Instant::now();
                    let (beaten, mut beats) = (core.beaten(), Beats::default());
                    core.take_beats(&beaten, &mut beats);
                    buffer.add(beats);
                    core.beats_written(&buffer.written());
                    took += begun.elapsed();
                }
                took
            });
        });
    }
    group.finish();
}

/// What `GET /services/{service}` writes, of one service of ten after another, far from each other in memory.
fn service_read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("service read");
    for size in SIZES {
        let view = View::default();
        view.apply((0..size).map(update).collect());
        let names: Vec<ServiceName> = (0..size / 10)
            .map(|turn| format!("service-{}", turn * 617_333 % (size / 10)).parse().expect("a valid name"))
            .collect();
        let sight = Sight::ticking(TICK);
        sight.advance(at(0), at(0));
        let read_at = ReadAt { sighting: sight.at(at(0)), unix: 1_761_307_802.11 };
        let mut turn = 0;
        group.bench_function(BenchmarkId::from_parameter(size), |bench| {
            bench.iter(|| {
                turn += 1;
                let service = view.service(&names[turn % names.len()]).expect("it is there");
                let text = view.text(&service);
                text.answer(text.pick(&read_at.sighting, &mut clock::rng()), false, &read_at)
            });
        });
    }
    group.finish();
}

criterion_group!(cores, lease_apply, expiry_storm, snapshot_rebuild, service_read, batch_merge);
criterion_main!(cores);
