use std::{collections::hash_map::RandomState, hash::BuildHasher};

use hashbrown::HashTable;

use super::core::Lease;
use crate::entry::{EntryId, Key, Packed};

/// Leases of a chunk. Chunks are never moved: growing costs no copy of what is there, which a beat would wait for.
const CHUNK: usize = 1024;

/// Every lease once, found by its key and by its number.
///
/// The two indexes hold places and hashes alone, so that with a million leases they are small, and are made anew, when
/// they grow, in the time of a copy.
#[derive(Debug, Default)]
pub(super) struct Table {
    chunks: Vec<Vec<Option<Lease>>>,
    /// Places that are free.
    free: Vec<u32>,
    by_key: HashTable<Place>,
    by_id: HashTable<Place>,
    hasher: RandomState,
    len: usize,
}

/// Where a lease is, and the hash that it is found by there.
#[derive(Clone, Copy, Debug)]
struct Place {
    hash: u32,
    at: u32,
}

impl Place {
    /// Half of a hash is kept. The table looks at the lowest and at the highest bits of a whole one.
    const fn spread(self) -> u64 {
        spread(self.hash)
    }
}

const fn spread(hash: u32) -> u64 {
    (hash as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Table {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Lease> {
        self.at(self.find(key.service.as_str(), key.instance.as_str())?)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Lease> {
        let at = self.find(key.service.as_str(), key.instance.as_str())?;
        self.at_mut(at)
    }

    /// The lease of the entry that has the names of this record.
    pub(super) fn of_mut(&mut self, record: &Packed) -> Option<&mut Lease> {
        let at = self.find(record.service().as_str(), record.instance())?;
        self.at_mut(at)
    }

    pub(super) fn by_id(&self, id: EntryId) -> Option<&Lease> {
        self.at(self.find_id(id)?)
    }

    pub(super) fn by_id_mut(&mut self, id: EntryId) -> Option<&mut Lease> {
        let at = self.find_id(id)?;
        self.at_mut(at)
    }

    /// Adds a lease whose key and number are not there yet.
    pub(super) fn insert(&mut self, lease: Lease) {
        let (by_key, by_id) = (self.hash_key(lease.service(), lease.instance()), self.hash_id(lease.id));
        let at = self.free.pop().unwrap_or_else(|| self.grow());
        let (chunk, place) = split(at);
        self.chunks[chunk][place] = Some(lease);
        for (index, hash) in [(&mut self.by_key, by_key), (&mut self.by_id, by_id)] {
            index.insert_unique(spread(hash), Place { hash, at }, |place| place.spread());
        }
        self.len += 1;
    }

    /// Takes a lease out.
    pub(super) fn remove(&mut self, id: EntryId) -> Option<Lease> {
        let at = self.find_id(id)?;
        let lease = self.at(at)?;
        let (by_key, by_id) = (self.hash_key(lease.service(), lease.instance()), self.hash_id(id));
        for (index, hash) in [(&mut self.by_key, by_key), (&mut self.by_id, by_id)] {
            if let Ok(found) = index.find_entry(spread(hash), |place| place.at == at) {
                found.remove();
            }
        }
        self.free.push(at);
        self.len -= 1;
        let (chunk, place) = split(at);
        self.chunks[chunk][place].take()
    }

    /// The lease of this number has another from now on.
    pub(super) fn renumber(&mut self, from: EntryId, to: EntryId) {
        let Some(at) = self.find_id(from) else { return };
        let (old, new) = (self.hash_id(from), self.hash_id(to));
        if let Ok(found) = self.by_id.find_entry(spread(old), |place| place.at == at) {
            found.remove();
        }
        self.by_id.insert_unique(spread(new), Place { hash: new, at }, |place| place.spread());
        if let Some(lease) = self.at_mut(at) {
            lease.id = to;
        }
    }

    /// The leases of a chunk, counted from 0. `None`: there are no more.
    pub(super) fn chunk_mut(&mut self, chunk: usize) -> Option<impl Iterator<Item = &mut Lease>> {
        Some(self.chunks.get_mut(chunk)?.iter_mut().flatten())
    }

    /// All of them.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.chunks.iter().flatten().flatten()
    }

    fn at(&self, at: u32) -> Option<&Lease> {
        let (chunk, place) = split(at);
        self.chunks[chunk][place].as_ref()
    }

    fn at_mut(&mut self, at: u32) -> Option<&mut Lease> {
        let (chunk, place) = split(at);
        self.chunks[chunk][place].as_mut()
    }

    fn find(&self, service: &str, instance: &str) -> Option<u32> {
        let hash = self.hash_key(service, instance);
        let same = |lease: &Lease| lease.instance() == instance && lease.service() == service;
        let found =
            self.by_key.find(spread(hash), |place| place.hash == hash && self.at(place.at).is_some_and(same));
        found.map(|place| place.at)
    }

    fn find_id(&self, id: EntryId) -> Option<u32> {
        let hash = self.hash_id(id);
        let same = |lease: &Lease| lease.id == id;
        let found =
            self.by_id.find(spread(hash), |place| place.hash == hash && self.at(place.at).is_some_and(same));
        found.map(|place| place.at)
    }

    fn grow(&mut self) -> u32 {
        let chunk = self.chunks.len();
        self.chunks.push(std::iter::repeat_with(|| None).take(CHUNK).collect());
        let first = u32::try_from(chunk * CHUNK).unwrap_or_else(|_| unreachable!("memory ends before"));
        let last = first + u32::try_from(CHUNK).unwrap_or(1) - 1;
        self.free.extend((first + 1..=last).rev());
        first
    }

    fn hash_key(&self, service: &str, instance: &str) -> u32 {
        half(self.hasher.hash_one((service, instance)))
    }

    fn hash_id(&self, id: EntryId) -> u32 {
        half(self.hasher.hash_one(id))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "half of a hash is meant")]
const fn half(hash: u64) -> u32 {
    hash as u32
}

const fn split(at: u32) -> (usize, usize) {
    let at = at as usize;
    (at / CHUNK, at % CHUNK)
}

#[cfg(test)]
mod tests;
