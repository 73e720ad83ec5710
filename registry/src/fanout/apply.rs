use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{
    clock::{self, Moment},
    entry::{Change, Key, Kind, Revision},
    lease::Leases,
    store::{BeatRow, Loaded, Writer},
    view::{Entry, GoneInstance, Update, View},
};

/// Applies changes in order of revision for each key: a row that is seen twice, or late, changes nothing.
#[derive(Debug)]
pub struct Applier {
    leases: Arc<Leases>,
    view: Arc<View>,
    merge: Mutex<Merge>,
}

#[derive(Debug, Default)]
struct Merge {
    /// Every row of the change log up to here was read and applied. Only rows that were read move it: a change that
    /// this node committed itself is applied ahead of it.
    cursor: Revision,
    /// Keys removed by a change beyond the cursor, so that an older row that is read later does not bring them back.
    removed: HashMap<Key, Revision>,
    /// The last row of each writer that was read and applied.
    beat_cursors: BTreeMap<Writer, i64>,
}

/// The log does not go on where this node stopped reading: rows in between were trimmed, so everything must be
/// loaded again.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log goes on at {found}, but {expected} was expected")]
pub struct Gap {
    expected: i64,
    found: i64,
}

impl Applier {
    /// Applies to these.
    pub fn new(leases: Arc<Leases>, view: Arc<View>) -> Self {
        Self { leases, view, merge: Mutex::default() }
    }

    /// Where to read on in the change log.
    pub fn cursor(&self) -> Revision {
        self.merge.lock().cursor
    }

    /// Where to read on in the beat log.
    pub fn beat_cursors(&self) -> BTreeMap<Writer, i64> {
        self.merge.lock().beat_cursors.clone()
    }

    /// Applies changes that this node has just committed.
    pub fn committed(&self, changes: &[Change]) {
        let mut merge = self.merge.lock();
        self.apply(&mut merge, changes, clock::now());
    }

    /// Applies rows read from the change log after the cursor, and moves it.
    ///
    /// # Errors
    /// The first row does not follow the cursor; nothing is applied then.
    pub fn log_rows(&self, changes: &[Change]) -> Result<(), Gap> {
        let mut merge = self.merge.lock();
        let mut expected = merge.cursor + 1;
        for change in changes {
            if change.revision != expected {
                return Err(Gap { expected, found: change.revision });
            }
            expected += 1;
        }
        self.apply(&mut merge, changes, clock::now());
        merge.cursor = expected - 1;
        let cursor = merge.cursor;
        merge.removed.retain(|_, revision| *revision > cursor);
        Ok(())
    }

    fn apply(&self, merge: &mut Merge, changes: &[Change], now: Moment) {
        let mut updates = Vec::with_capacity(changes.len());
        let mut in_this_call: HashMap<Key, Revision> = HashMap::new();
        for change in changes {
            let key = change.key();
            let known =
                in_this_call.get(&key).or(merge.removed.get(&key)).copied().max(self.view.revision(&key));
            if known.is_some_and(|known| known >= change.revision) {
                continue;
            }
            if change.kind == Kind::Expire && self.leases.has_unwritten_beat(change.id) {
                // The acknowledged beat wins: its batch will find the row gone, and flush puts the entry back.
                continue;
            }
            in_this_call.insert(key.clone(), change.revision);
            if change.kind.removes() {
                let ended = change.body.ended_session.as_slice();
                self.leases.remember_ended_sessions(&key, ended);
                self.leases.remove(change.id);
                merge.removed.insert(key.clone(), change.revision);
                updates.push(Update::Remove(key, GoneInstance::of(change)));
            } else {
                let record = change.body.record.clone();
                let ended = change.body.ended_session.as_ref();
                let last_seen = self.leases.put(change.id, &record, ended, now, change.kind.beats());
                merge.removed.remove(&key);
                updates.push(Update::Put(Arc::new(Entry::new(
                    change.id,
                    change.revision,
                    record,
                    last_seen,
                ))));
            }
        }
        self.view.apply(updates);
    }

    /// Applies rows of the beat log, this node's own among them. Beats of entries that this node does not know yet
    /// are passed over: their registration, read after them, counts their lease from that later moment.
    ///
    /// # Errors
    /// A writer's first row does not follow its cursor; the rows before it are applied.
    pub fn beat_rows(&self, rows: &[BeatRow], own: Writer) -> Result<(), Gap> {
        let mut merge = self.merge.lock();
        for row in rows {
            if let Some(cursor) = merge.beat_cursors.get(&row.writer) {
                if row.seq <= *cursor {
                    continue;
                }
                if row.seq != cursor + 1 {
                    return Err(Gap { expected: cursor + 1, found: row.seq });
                }
            }
            if row.writer != own {
                self.leases.heard_elsewhere(&row.ids, clock::now());
            }
            merge.beat_cursors.insert(row.writer, row.seq);
        }
        Ok(())
    }

    /// Takes up everything that the store holds: at start, and behind a trim. What this node knows and the store does
    /// not is removed, unless it is newer than what was read or has a beat that is not written yet.
    pub fn load(&self, loaded: Loaded) {
        let now = clock::now();
        let mut merge = self.merge.lock();
        let mut updates = Vec::with_capacity(loaded.entries.len());
        let mut present = std::collections::HashSet::with_capacity(loaded.entries.len());
        for entry in loaded.entries {
            let key = entry.stored.record.key();
            let known = merge.removed.get(&key).copied().max(self.view.revision(&key));
            if known.is_none_or(|known| known < entry.stored.revision) {
                let (id, revision, record) = (entry.stored.id, entry.stored.revision, entry.stored.record);
                let last_seen = self.leases.put(id, &record, None, now.minus(entry.since_beat), false);
                self.leases.heard_elsewhere(&[id], now.minus(entry.since_beat));
                self.leases.remember_ended_sessions(&key, &entry.ended_sessions);
                updates.push(Update::Put(Arc::new(Entry::new(id, revision, record, last_seen))));
            } else if let Some((id, _, _)) = self.leases.lease(&key) {
                self.leases.heard_elsewhere(&[id], now.minus(entry.since_beat));
            }
            present.insert(key);
        }
        self.view.each_service(None, |service| {
            for entry in service.entries() {
                let key = entry.record.key();
                let newer = entry.revision > loaded.head || self.leases.has_unwritten_beat(entry.id);
                if !present.contains(&key) && !newer {
                    self.leases.remove(entry.id);
                    let gone = loaded.gone.iter().rev().find(|change| change.key() == key);
                    updates.push(Update::Remove(key, gone.map_or_else(unexplained, GoneInstance::of)));
                }
            }
            true
        });
        self.view.remember_gone(loaded.gone.iter().map(|change| (change.key(), GoneInstance::of(change))));
        self.view.apply(updates);
        merge.cursor = merge.cursor.max(loaded.head);
        let cursor = merge.cursor;
        merge.removed.retain(|_, revision| *revision > cursor);
        for (writer, seq) in loaded.cursors {
            let cursor = merge.beat_cursors.entry(writer).or_insert(seq);
            *cursor = seq.max(*cursor);
        }
    }
}

/// What is remembered of an entry whose removal stands in no log row that is left.
fn unexplained() -> GoneInstance {
    GoneInstance {
        revision: 0,
        state: "expired",
        at: clock::unix_now(clock::now()),
        last_seen: None,
        reason: "removed while this node could not read of it".to_owned(),
    }
}

#[cfg(test)]
mod tests;
