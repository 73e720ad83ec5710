//! The store as the migrations define it, in memory: each call is one instant, as it is under the row locks of the
//! real one. What happens before that instant (a call that is late or lost) and after it (an answer that is) is the
//! world's business.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use registry_wire::Session;

use super::Time;
use crate::{
    entry::{Change, EntryId, Key, Kind, Revision, Stored, Tag},
    store::{
        BeatRow, BeatsWritten, Committed, Loaded, LoadedEntry, LogPage, LogRow, Mutation, Standing, Writer,
    },
};

#[derive(Debug)]
struct Lease {
    beat: i64,
    at: Time,
}

/// Who holds a key since when; `None`: nobody.
type Holder = (Time, Option<Option<Session>>);

/// The tables, and what only a simulation can know of them.
#[derive(Debug, Default)]
pub(super) struct ModelStore {
    head: Revision,
    last_id: EntryId,
    instances: BTreeMap<Key, Stored>,
    leases: BTreeMap<EntryId, Lease>,
    changes: BTreeMap<Revision, (Time, Change)>,
    beats: BTreeMap<(Writer, i64), (Time, Vec<EntryId>, Duration)>,
    writers: BTreeMap<Writer, i64>,
    ended_sessions: BTreeMap<Key, BTreeMap<Session, Time>>,
    /// Every change there ever was: its instance and session.
    registered: BTreeMap<Revision, (Key, Option<Session>)>,
    holders: BTreeMap<Key, Vec<Holder>>,
    /// When a lease of this key was last written.
    pub(super) last_written: BTreeMap<Key, Time>,
    /// The latest moment that what was written says this key was alive at.
    pub(super) last_beat: BTreeMap<Key, Time>,
    /// When a change last renewed each key. A revival does not: the beat that it is owed to may be old.
    pub(super) last_change: BTreeMap<Key, Time>,
    /// What the store's clock is ahead by, for the ages that it gives at a load.
    pub(super) clock_ahead: Duration,
    /// A mistake: nobody is told of sessions that have ended.
    pub(super) forgets_sessions: bool,
}

/// Beat counts as a statement saw them that did not wait for the locks of the others.
pub(super) type Snapshot = BTreeMap<EntryId, i64>;

impl ModelStore {
    pub(super) fn snapshot(&self) -> Snapshot {
        self.leases.iter().map(|(id, lease)| (*id, lease.beat)).collect()
    }

    pub(super) const fn head(&self) -> Revision {
        self.head
    }

    pub(super) const fn instances(&self) -> &BTreeMap<Key, Stored> {
        &self.instances
    }

    pub(super) fn lease_ids(&self) -> BTreeSet<EntryId> {
        self.leases.keys().copied().collect()
    }

    pub(super) const fn writers(&self) -> &BTreeMap<Writer, i64> {
        &self.writers
    }

    /// Whether a change of this number registered this session here.
    pub(super) fn holds_registration(&self, key: &Key, session: Option<&Session>) -> bool {
        self.registered.values().any(|(known, of)| known == key && of.as_ref() == session)
    }

    /// When this session ended first.
    pub(super) fn ended_at(&self, key: &Key, session: &Session) -> Option<Time> {
        self.ended_sessions.get(key)?.get(session).copied()
    }

    /// Whether at some moment from `since` on the key was not held by this session (`None`: by anybody).
    pub(super) fn was_without(&self, key: &Key, session: Option<&Session>, since: Time) -> bool {
        let without = |holder: &Option<Option<Session>>| match (holder, session) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(held), Some(named)) => held.as_ref() != Some(named),
        };
        let Some(holders) = self.holders.get(key) else { return true };
        let before = holders.iter().rev().find(|(at, _)| *at <= since);
        before.is_none_or(|(_, holder)| without(holder))
            || holders.iter().any(|(at, holder)| *at > since && without(holder))
    }

    pub(super) fn read(&self, keys: &[Key]) -> Vec<Standing> {
        let standing = |key: &Key| Standing {
            entry: self.instances.get(key).cloned(),
            ended_sessions: self.ended_of(key),
        };
        keys.iter().map(standing).collect()
    }

    fn ended_of(&self, key: &Key) -> Vec<Session> {
        if self.forgets_sessions {
            return Vec::new();
        }
        self.ended_sessions.get(key).map(|ended| ended.keys().cloned().collect()).unwrap_or_default()
    }

    /// `overlooking`: the expiries compare with these counts instead of those that there are once the locks are held.
    pub(super) fn commit(
        &mut self,
        batch: &[Mutation],
        overlooking: Option<&Snapshot>,
        now: Time,
    ) -> Committed {
        let conflicts: Vec<usize> = batch
            .iter()
            .enumerate()
            .filter(|(_, mutation)| {
                let key = mutation.body.record.key();
                let ended = |session| self.ended_of(&key).contains(session);
                self.instances.get(&key).map(|stored| stored.revision) != mutation.expected
                    || mutation.named_session.as_ref().is_some_and(ended)
            })
            .map(|(place, _)| place)
            .collect();
        if !conflicts.is_empty() {
            return Committed::Conflict(conflicts);
        }
        // One for the batch. The store never goes back in time.
        let tag = self.head * 7 + 1;
        Committed::Done(batch.iter().map(|mutation| self.write(mutation, tag, overlooking, now)).collect())
    }

    fn write(
        &mut self,
        mutation: &Mutation,
        tag: Tag,
        overlooking: Option<&Snapshot>,
        now: Time,
    ) -> Option<Change> {
        let key = mutation.body.record.key();
        let known = self.instances.get(&key).map(|stored| stored.id);
        if mutation.kind == Kind::Expire {
            let id = known?;
            let beat = match overlooking {
                Some(snapshot) => snapshot.get(&id).copied(),
                None => self.leases.get(&id).map(|lease| lease.beat),
            };
            if beat != mutation.noted_beat {
                return None;
            }
        }
        self.head += 1;
        let (revision, record) = (self.head, mutation.body.record.clone());
        let id = known.unwrap_or_else(|| {
            self.last_id += 1;
            self.last_id
        });
        if mutation.kind.removes() {
            self.leases.remove(&id);
            self.instances.remove(&key);
            self.holders.entry(key.clone()).or_default().push((now, None));
        } else {
            self.holders.entry(key.clone()).or_default().push((now, Some(record.session.clone())));
            self.registered.insert(revision, (key.clone(), record.session.clone()));
            self.instances.insert(key.clone(), Stored { id, revision, record });
        }
        if mutation.kind.beats() {
            let at = now.saturating_sub(mutation.body.waited());
            let lease = self.leases.entry(id).or_insert(Lease { beat: 0, at });
            (lease.beat, lease.at) = (lease.beat + 1, at);
            self.renewed(&key, at, now);
            if mutation.kind != Kind::Revive {
                self.last_change.insert(key.clone(), now);
            }
        }
        if let Some(ended) = &mutation.body.ended_session {
            self.ended_sessions.entry(key).or_default().entry(ended.clone()).or_insert(now);
        }
        let change = Change {
            revision,
            tag,
            id,
            at: now.as_secs_f64(),
            kind: mutation.kind,
            reason: mutation.reason.clone(),
            actor: mutation.actor.clone(),
            body: mutation.body.clone(),
        };
        self.changes.insert(revision, (now, change.clone()));
        Some(change)
    }

    pub(super) fn write_beats(
        &mut self,
        writer: Writer,
        seq: i64,
        ids: &[EntryId],
        waited: Duration,
        now: Time,
    ) -> BeatsWritten {
        if self.beats.contains_key(&(writer, seq)) {
            return BeatsWritten { repeated: true, missing: Vec::new() };
        }
        self.beats.insert((writer, seq), (now, ids.to_vec(), waited));
        let mut missing = Vec::new();
        let at = now.saturating_sub(waited);
        for id in ids {
            match self.leases.get_mut(id) {
                Some(lease) => (lease.beat, lease.at) = (lease.beat + 1, at),
                None => missing.push(*id),
            }
        }
        let beaten = self.instances.values().filter(|stored| ids.contains(&stored.id));
        for key in beaten.map(|stored| stored.record.key()).collect::<Vec<_>>() {
            self.renewed(&key, at, now);
        }
        let last = self.writers.entry(writer).or_insert(seq);
        *last = seq.max(*last);
        BeatsWritten { repeated: false, missing }
    }

    fn renewed(&mut self, key: &Key, at: Time, now: Time) {
        self.last_written.insert(key.clone(), now);
        let last = self.last_beat.entry(key.clone()).or_default();
        *last = at.max(*last);
    }

    pub(super) fn beats_after(&self, cursors: &BTreeMap<Writer, i64>, limit: usize) -> Vec<BeatRow> {
        let mut rows = Vec::new();
        for (&writer, &last) in &self.writers {
            let cursor = cursors.get(&writer).copied().unwrap_or(0);
            if last > cursor {
                let news = self.beats.range((writer, cursor + 1)..=(writer, last)).take(limit - rows.len());
                rows.extend(news.map(|(&(writer, seq), (_, ids, waited))| BeatRow {
                    writer,
                    seq,
                    ids: ids.clone(),
                    waited: *waited,
                    later: (last - seq).unsigned_abs(),
                }));
            }
        }
        rows
    }

    pub(super) fn changes_after(&self, after: Revision, limit: usize, known: &[Tag]) -> LogPage {
        let row = |change: &Change| match change {
            Change { revision, tag, kind, .. } if known.contains(tag) && *kind != Kind::Expire => {
                LogRow::Known { revision: *revision, tag: *tag }
            }
            change => LogRow::Change(Box::new(change.clone())),
        };
        let rows = self.changes.range(after + 1..).take(limit);
        LogPage {
            head: Some(self.head),
            first: self.changes.keys().next().copied(),
            cursor_tag: self.changes.get(&after).map(|(_, change)| change.tag),
            rows: rows.map(|(_, (_, change))| row(change)).collect(),
            seen: after,
        }
    }

    pub(super) fn note_beats(&self, ids: &[EntryId]) -> Vec<(EntryId, i64)> {
        ids.iter().filter_map(|id| Some((*id, self.leases.get(id)?.beat))).collect()
    }

    pub(super) fn expired(&self, ids: &[EntryId]) -> Vec<Change> {
        let expiry = |change: &&Change| change.kind == Kind::Expire && ids.contains(&change.id);
        self.changes.values().map(|(_, change)| change).filter(expiry).cloned().collect()
    }

    pub(super) fn load(&self, now: Time) -> Loaded {
        let entry = |stored: &Stored| LoadedEntry {
            id: stored.id,
            revision: stored.revision,
            record: (&stored.record).into(),
            renewed: self.leases.get(&stored.id).is_some_and(|lease| lease.beat > 1),
            since_beat: (now + self.clock_ahead)
                .saturating_sub(self.leases.get(&stored.id).map_or(now, |lease| lease.at)),
            ended_sessions: self.ended_of(&stored.record.key()),
        };
        let past = self.ended_sessions.keys().filter(|key| !self.instances.contains_key(*key));
        Loaded {
            head: self.head,
            head_tag: self.changes.get(&self.head).map(|(_, change)| change.tag),
            entries: self.instances.values().map(entry).collect(),
            gone: self
                .changes
                .values()
                .map(|(_, change)| change)
                .filter(|change| change.kind.removes())
                .cloned()
                .collect(),
            past_sessions: past.map(|key| (key.clone(), self.ended_of(key))).collect(),
            cursors: self.writers.clone(),
        }
    }

    /// Removes log rows that are older than `before`, but for the last of each log: the real trim keeps so many that
    /// only a node that was blind for long can miss one.
    pub(super) fn trim(&mut self, before: Time) -> usize {
        let rows = self.changes.len() + self.beats.len();
        let head = self.head;
        self.changes.retain(|revision, (at, ..)| *at >= before || *revision == head);
        let writers = &self.writers;
        self.beats.retain(|(writer, seq), (at, ..)| *at >= before || writers.get(writer) == Some(seq));
        rows - self.changes.len() - self.beats.len()
    }
}
