use std::{collections::HashMap, sync::Arc};

use super::Applier;
use crate::{
    clock::Moment,
    entry::{Key, Stored},
    metrics::Difference,
    store::Slice,
    view::{Entry, Service, Update},
};

/// Ticks from the beginning of one round to that of the next, if it is over by then.
const ROUND_TICKS: u32 = 60;

/// Where a slice begins: after this key, or with the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place(pub(super) Option<Key>);

/// When to read the next slice of the table, and from where: pure.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Ticks since the round began.
    ticks: u32,
    /// Where the next slice begins; `None`: the round is over.
    after: Option<Place>,
}

impl Rounds {
    /// A tick. Where the slice that is to be read begins, if one is: a table of any size costs one slice a tick.
    pub(super) fn tick(&mut self) -> Option<Place> {
        self.ticks += 1;
        if self.after.is_none() && self.ticks >= ROUND_TICKS {
            self.after = Some(Place(None));
            self.ticks = 0;
        }
        self.after.clone()
    }

    /// A slice was compared. Returns whether it was the last of its round.
    pub(super) fn done(&mut self, slice: &Slice) -> bool {
        self.after =
            if slice.last { None } else { slice.entries.last().map(|last| Place(Some(last.record.key()))) };
        self.after.is_none()
    }

    /// A slice could not be read, or everything was loaded: the next round begins in its time.
    pub(super) fn give_up(&mut self) {
        self.after = None;
    }
}

impl Applier {
    /// Makes this node's entries what a slice of the table says they are, and tells what differed: nothing, unless
    /// there is a fault somewhere. What is newer than the slice is left alone, and nothing is done before the log was
    /// read beyond it: what is not applied yet is no difference.
    pub fn mend(&self, slice: Slice, now: Moment) -> Vec<(Key, Difference)> {
        let mut merge = self.merge.lock();
        if merge.history.cursor() < slice.head {
            return Vec::new();
        }
        let (after, until) = (slice.after, slice.entries.last().map(|last| last.record.key()));
        let until = until.filter(|_| !slice.last);
        let mut stored: HashMap<Key, Stored> =
            slice.entries.into_iter().map(|stored| (stored.record.key(), stored)).collect();
        let (mut mended, mut updates) = (Vec::new(), Vec::new());
        self.each_entry(after.as_ref(), until.as_ref(), |entry| {
            let key = entry.record.key();
            if entry.revision > slice.head {
                stored.remove(&key);
            } else if entry.orphaned().is_none() {
                let same = |stored: &Stored| {
                    (stored.id, stored.revision) == (entry.id, entry.revision)
                        && entry.record == stored.record
                };
                match stored.get(&key) {
                    Some(found) if same(found) => drop(stored.remove(&key)),
                    Some(_) => mended.push((key, Difference::Changed)),
                    // Being put back, by an acknowledged beat.
                    None if self.leases.has_unwritten_beat(entry.id) => {}
                    None => {
                        mended.push((key, Difference::Extra));
                        self.leases.remove(entry.id);
                        updates.extend(merge.orphans.take(entry, now));
                    }
                }
            }
        });
        // What left after the slice was read: in another node's row that was applied since, or ahead of the log.
        stored.retain(|key, _| self.view.left(key).is_none_or(|left| left <= slice.head));
        let changed = mended.len();
        for (key, Stored { id, revision, record }) in stored {
            if !mended[..changed].iter().any(|(known, _)| *known == key) {
                mended.push((key, Difference::Missing));
            }
            let record = self.packed(&record);
            updates.push(Update::Put(self.leases.put(id, revision, record, None, now, false)));
        }
        self.view.apply(updates);
        mended
    }

    /// Every entry of the view after a key, up to and with another.
    fn each_entry(&self, after: Option<&Key>, until: Option<&Key>, mut each: impl FnMut(&Entry)) {
        let within = |entry: &Entry| {
            let key = (entry.record.service(), entry.record.instance());
            after.is_none_or(|after| key > (&after.service, after.instance.as_str()))
                && until.is_none_or(|until| key <= (&until.service, until.instance.as_str()))
        };
        let mut service = |service: &Arc<Service>| {
            service.entries().iter().filter(|entry| within(entry)).for_each(|entry| each(entry));
            until.is_none_or(|until| service.name() < &until.service)
        };
        if let Some(begun) = after.and_then(|after| self.view.service(&after.service))
            && !service(&begun)
        {
            return;
        }
        self.view.each_service(after.map(|after| &after.service), service);
    }
}

#[cfg(test)]
mod tests;
