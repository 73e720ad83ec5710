use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    history::{Broken, History},
    orphans::Orphans,
};
use crate::{
    clock::{Moment, Sighting},
    entry::{Change, EntryId, Key, Kind, Packed, Record, Revision, Tag},
    lease::Leases,
    seeded::{Bug, seeded},
    store::{BeatRow, Loaded, LoadedEntry, LogPage, LogRow, Writer},
    view::{Entry, GoneInstance, Update, View},
};

/// Applies changes in order of revision for each key: a row that is seen twice, or late, changes nothing. `now` is
/// always the moment after the rows were read or committed: what they renew counts from there, less what they say that
/// it had waited.
#[derive(Debug)]
pub struct Applier {
    pub(super) leases: Arc<Leases>,
    pub(super) view: Arc<View>,
    pub(super) merge: Mutex<Merge>,
}

#[derive(Debug, Default)]
pub(super) struct Merge {
    /// The change log, as far as it was read.
    pub(super) history: History,
    /// Keys removed by a change beyond the cursor, so that an older row that is read later does not bring them back.
    pub(super) removed: HashMap<Key, Revision>,
    /// The last row of each writer that was read and applied.
    beat_cursors: BTreeMap<Writer, i64>,
    /// What readers still see although the store lost it.
    pub(super) orphans: Orphans,
}

impl Applier {
    /// Applies to these.
    pub fn new(leases: Arc<Leases>, view: Arc<View>) -> Self {
        Self { leases, view, merge: Mutex::default() }
    }

    /// Where to read on in the change log.
    pub fn cursor(&self) -> Revision {
        self.merge.lock().history.cursor()
    }

    /// The tags of changes among the next `rows` of the log that this node committed itself, and so has applied, but for
    /// expiries that it passed over.
    pub fn known(&self, rows: usize) -> Vec<Tag> {
        self.merge.lock().history.known(rows)
    }

    /// Where to read on in the beat log.
    pub fn beat_cursors(&self) -> BTreeMap<Writer, i64> {
        self.merge.lock().beat_cursors.clone()
    }

    /// Whether this writer's row of beats was read and applied, and with it all that was committed before it.
    pub fn has_read(&self, writer: Writer, seq: i64) -> bool {
        self.merge.lock().beat_cursors.get(&writer).is_some_and(|read| *read >= seq)
    }

    /// Applies changes that this node has just committed.
    pub fn committed(&self, changes: &[Change], now: Moment) {
        let mut merge = self.merge.lock();
        merge.history.committed(changes);
        // What was read from the log before its own commit was answered is applied already, and what came after it too.
        let cursor = merge.history.cursor();
        self.apply(&mut merge, changes.iter().filter(|change| change.revision > cursor), now);
    }

    /// Applies rows read from the change log after the cursor, and moves it.
    ///
    /// # Errors
    /// The page is not the continuation of what was read; nothing is applied then.
    pub fn log_page(&self, page: &LogPage, now: Moment) -> Result<(), Broken> {
        let mut merge = self.merge.lock();
        merge.history.check(page)?;
        let changes = page.rows.iter().filter_map(|row| match row {
            LogRow::Change(change) => Some(change.as_ref()),
            LogRow::Known { .. } | LogRow::Epoch { .. } | LogRow::Unknown { .. } => None,
        });
        self.apply(&mut merge, changes, now);
        merge.history.read(&page.rows);
        merge.forget_removed();
        Ok(())
    }

    fn apply<'a>(&self, merge: &mut Merge, changes: impl IntoIterator<Item = &'a Change>, now: Moment) {
        let mut updates = Vec::new();
        let mut revived = false;
        let mut in_this_call: HashMap<Key, Revision> = HashMap::new();
        for change in changes {
            let key = change.key();
            if matches!(change.kind, Kind::Hold | Kind::Release) {
                self.leases.brake_heard(change.kind == Kind::Hold, change.id, now);
            }
            let known =
                in_this_call.get(&key).or(merge.removed.get(&key)).copied().max(self.view.revision(&key));
            if known.is_some_and(|known| known >= change.revision) {
                continue;
            }
            if change.kind == Kind::Expire && self.leases.has_unwritten_beat(change.id) {
                // The acknowledged beat wins: its batch will find the row gone, and flush puts the entry back.
                continue;
            }
            if change.kind == Kind::Expire {
                self.leases.expired(change.id, now);
            }
            in_this_call.insert(key.clone(), change.revision);
            if change.kind.removes() {
                if let Some(ended) = &change.body.ended_session {
                    self.leases.session_ended(&key, ended, now);
                }
                self.leases.remove(change.id);
                merge.removed.insert(key.clone(), change.revision);
                updates.push(Update::Remove(key, Box::new(GoneInstance::of(change))));
            } else {
                let record = self.packed(&change.body.record);
                let ended = change.body.ended_session.as_ref();
                let seen = now.minus(change.body.waited());
                let (id, revision) = (change.id, change.revision);
                let entry = self.leases.put(id, revision, record, ended, seen, change.kind.beats());
                revived |= change.kind == Kind::Revive;
                merge.removed.remove(&key);
                updates.push(Update::Put(entry));
            }
        }
        if revived {
            // The beat that it is owed to may be so old that the lease has ended again: no reader is to see it then.
            self.leases.judge(now);
        }
        self.view.apply(updates);
    }

    /// Applies rows of the beat log, this node's own among them. Beats of entries that this node does not know yet
    /// are passed over: their registration, read after them, counts their lease from that later moment. Of rows that
    /// were missed for long the first are old, and so are beats that waited for the store: an instance that died
    /// meanwhile must not look as if it had just beaten.
    ///
    /// # Errors
    /// A writer's first row does not follow its cursor, or its last row lies before it; the rows before are applied.
    pub fn beat_rows(&self, rows: &[BeatRow], own: Writer, now: Moment) -> Result<(), Broken> {
        let mut merge = self.merge.lock();
        for row in rows {
            if let Some(cursor) = merge.beat_cursors.get(&row.writer) {
                match row.seq - cursor {
                    ..0 => return Err(Broken::Lost("a writer's last beats are gone")),
                    0 => continue,
                    1 => {}
                    _ => return Err(Broken::Trimmed { expected: cursor + 1, found: row.seq }),
                }
            }
            if row.writer != own && !seeded(Bug::BeatsNotFannedOut) {
                let age = self.leases.age_of_row(row.later);
                self.leases.heard_elsewhere(&row.ids, now.minus(age + row.waited));
            }
            merge.beat_cursors.insert(row.writer, row.seq);
        }
        Ok(())
    }

    /// Takes up everything that the store holds: at start, behind a trim, and after the store went back in time. What
    /// this node knows and the store does not is removed where a row of the log says why, and orphaned otherwise:
    /// a load takes nothing from readers without a reason. What was committed after the snapshot is left alone.
    pub fn load(&self, loaded: Loaded, now: Moment) {
        let mut merge = self.merge.lock();
        merge.history.begin(&loaded);
        merge.forget_removed();
        merge.beat_cursors = loaded.cursors;
        let mut present: Vec<EntryId> = loaded.entries.iter().map(|entry| entry.id).collect();
        present.sort_unstable();
        let mut updates = Vec::with_capacity(loaded.entries.len());
        // At start, when nothing is known, a million names are not to be looked up.
        let nothing_known = merge.removed.is_empty() && self.view.is_empty();
        for entry in loaded.entries {
            let seen = now.minus(entry.since_beat);
            let newer = if nothing_known {
                None
            } else {
                let key = entry.record.key();
                let known = merge.removed.get(&key).copied().max(self.view.revision(&key));
                // An older revision than the known one is the truth after the store went back.
                known.filter(|known| *known > loaded.head).map(|_| key)
            };
            if let Some(key) = newer {
                if let Some((id, _, _)) = self.leases.lease(&key) {
                    self.leases.loaded(id, seen, entry.renewed);
                }
                continue;
            }
            let entry = {
                let LoadedEntry { id, revision, record, renewed, ended_sessions, .. } = entry;
                let entry = self.leases.put(id, revision, record, None, seen, false);
                self.leases.loaded(id, seen, renewed);
                if !ended_sessions.is_empty() {
                    self.leases.remember_ended_sessions(&entry.record.key(), &ended_sessions, now);
                }
                entry
            };
            updates.push(Update::Put(entry));
        }
        self.view.apply(updates);
        let gone: HashMap<Key, &Change> = loaded.gone.iter().map(|change| (change.key(), change)).collect();
        let mut absent = Vec::new();
        self.view.each_service(None, |service| {
            for entry in service.entries() {
                if entry.revision <= loaded.head && present.binary_search(&entry.id).is_err() {
                    let why = gone.get(&entry.record.key());
                    let why = why.filter(|change| change.revision > entry.revision).copied();
                    absent.extend(self.absent(&mut merge.orphans, entry, why, now));
                }
            }
            true
        });
        for (key, ended) in loaded.past_sessions {
            self.leases.remember_ended_sessions(&key, &ended, now);
        }
        self.view.remember_gone(loaded.gone.iter().map(|change| (change.key(), GoneInstance::of(change))));
        self.view.apply(absent);
    }

    /// A record in few bytes, its service's name shared with the instances that are there.
    pub(super) fn packed(&self, record: &Record) -> Packed {
        let packed = Packed::from(record);
        match self.view.service(packed.service()) {
            Some(service) => packed.sharing(service.name().clone()),
            None => packed,
        }
    }

    /// What becomes of an entry that the store does not hold.
    fn absent(
        &self,
        orphans: &mut Orphans,
        entry: &Entry,
        why: Option<&Change>,
        now: Moment,
    ) -> Option<Update> {
        match why {
            // The acknowledged beat wins: its batch will find the row gone, and flush puts the entry back.
            Some(why) if why.kind == Kind::Expire && self.leases.has_unwritten_beat(entry.id) => None,
            Some(why) => {
                self.leases.remove(entry.id);
                Some(Update::Remove(entry.record.key(), Box::new(GoneInstance::of(why))))
            }
            None => {
                self.leases.remove(entry.id);
                orphans.take(entry, now)
            }
        }
    }

    /// Takes from readers what the store lost and what did not come back for a TTL.
    pub fn end_orphans(&self, sighting: &Sighting) {
        let mut merge = self.merge.lock();
        let ended = merge.orphans.ended(&self.view, sighting);
        self.view.apply(ended);
    }
}

impl Merge {
    fn forget_removed(&mut self) {
        let cursor = self.history.cursor();
        self.removed.retain(|_, revision| *revision > cursor);
    }
}

#[cfg(test)]
pub(super) mod tests;
