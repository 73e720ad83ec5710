use std::{collections::BTreeMap, sync::Arc};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    clock::{Moment, Pulse},
    entry::{Entry, Record},
};

fn key(number: u64) -> Key {
    Key {
        service: format!("s{}", number % 7).parse().unwrap(),
        instance: format!("i{number}").parse().unwrap(),
    }
}

fn lease(number: u64, id: EntryId) -> Lease {
    let record = Record::new(key(number), "http://h:1".parse().unwrap());
    Lease::new(Arc::new(Entry::new(id, 1, (&record).into(), Arc::new(Pulse::new(Moment::NEVER)))))
}

/// Against a map that does the same, through more places than a chunk has.
#[test]
fn it_holds_what_a_map_would() {
    let mut rng = StdRng::seed_from_u64(1);
    let (mut table, mut model, mut next) = (Table::default(), BTreeMap::new(), 0);
    for _ in 0..40_000 {
        let number = rng.random_range(0..3 * CHUNK as u64);
        next += 1;
        match (model.get(&number).copied(), rng.random_range(0..4)) {
            (None, _) => {
                table.insert(lease(number, next));
                model.insert(number, next);
            }
            (Some(id), 0 | 1) => {
                assert_eq!(table.remove(id).map(|lease| lease.entry.record.key()), Some(key(number)));
                model.remove(&number);
            }
            (Some(id), 2) => {
                table.renumber(id, next);
                model.insert(number, next);
            }
            (Some(id), _) => {
                assert_eq!(table.get(&key(number)).map(|lease| lease.id), Some(id));
                assert_eq!(table.by_id_mut(id).map(|lease| lease.entry.record.key()), Some(key(number)));
            }
        }
        assert_eq!(table.len(), model.len());
    }
    for number in 0..3 * CHUNK as u64 {
        let known = model.get(&number).copied();
        assert_eq!(table.get_mut(&key(number)).map(|lease| lease.id), known);
        assert!(known.is_none_or(|id| table.by_id(id).is_some_and(|lease| lease.id == id)));
    }
    for id in 1..=next {
        assert_eq!(table.by_id(id).is_some(), model.values().any(|known| *known == id));
    }
    let mut seen: Vec<_> = (0..)
        .map_while(|chunk| Some(table.chunk_mut(chunk)?.map(|lease| lease.id).collect()))
        .collect::<Vec<Vec<_>>>()
        .concat();
    seen.sort_unstable();
    let mut ids: Vec<_> = model.into_values().collect();
    ids.sort_unstable();
    assert_eq!(seen, ids);
}

#[test]
fn a_lease_is_a_line_of_the_cache() {
    assert!(size_of::<Option<Lease>>() <= 64, "{} bytes", size_of::<Option<Lease>>());
}
