use std::sync::Arc;

use crate::{
    clock::{self, Moment, Sighting},
    entry::{Key, Revision},
    view::{Entry, GoneInstance, Update, View},
};

/// Entries that the store lost: no row says that they were removed, so nobody knows that they are gone. Readers see
/// them as stale for one TTL. They have no lease: their beats are answered 404, which makes their sidecars register
/// again.
#[derive(Debug, Default)]
pub(super) struct Orphans(Vec<(Key, Revision)>);

impl Orphans {
    /// The store lost an entry at `now`. `None`: that was known.
    pub(super) fn take(&mut self, entry: &Entry, now: Moment) -> Option<Update> {
        if entry.orphaned().is_some() {
            return None;
        }
        self.0.push((entry.record.key(), entry.revision));
        Some(Update::Put(Arc::new(entry.orphan(now))))
    }

    /// Those that did not come back in time, to be removed.
    pub(super) fn ended(&mut self, view: &View, sighting: &Sighting) -> Vec<Update> {
        let mut ended = Vec::new();
        self.0.retain(|(key, revision)| {
            let entry =
                view.entry(key).filter(|entry| entry.orphaned().is_some() && entry.revision == *revision);
            let Some(entry) = entry else { return false };
            let keep = sighting.blind || !entry.ended(sighting);
            if !keep {
                ended.push(Update::Remove(key.clone(), Box::new(lost(&entry, sighting))));
            }
            keep
        });
        ended
    }
}

fn lost(entry: &Entry, sighting: &Sighting) -> GoneInstance {
    let unix_now = clock::unix_now(sighting.now);
    GoneInstance {
        revision: entry.revision,
        state: "expired",
        at: unix_now,
        last_seen: Some(clock::unix_at(entry.pulse.last_seen(), sighting.now, unix_now)),
        reason: "the store lost it, and it did not come back".to_owned(),
    }
}
