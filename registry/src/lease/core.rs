use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use registry_wire::{Session, Status, Ttl};

use crate::{
    clock::{AtomicMoment, Moment, Sighting},
    entry::{EntryId, Key, Record},
};

/// Ended sessions kept for one key; older ones are forgotten first.
const ENDED_SESSIONS_MAX: usize = 64;

/// Keys without a lease whose ended sessions are kept; the oldest are forgotten first.
const PAST_MAX: usize = 10_000;

/// Every lease of this node, without any I/O: data and `now` in, effects out.
///
/// The last beat of a lease is an atomic that the view shares, so that a beat is in the next answer without a lock.
#[derive(Debug, Default)]
pub struct Core {
    leases: HashMap<Key, Lease>,
    keys: HashMap<EntryId, Key>,
    /// Entries with a beat that [`Core::take_beats`] has not handed out yet.
    beaten: Vec<EntryId>,
    /// Every lease that is not ending stands here, at its deadline or before: a beat does not move it. When its turn
    /// comes and it has beaten since, it is put back. Only the place that [`Lease::queued`] names counts; others are
    /// out of date and dropped.
    deadlines: BinaryHeap<Reverse<(Moment, EntryId)>>,
    /// Leases that have ended and wait for their removal.
    ending: HashMap<EntryId, Ending>,
    past: Past,
}

/// Ended sessions of keys that hold no lease: whoever registers there next is not taken for them.
#[derive(Debug, Default)]
struct Past {
    sessions: HashMap<Key, Vec<Session>>,
    /// In the order in which their leases went; those that went again stand here twice.
    order: VecDeque<Key>,
}

impl Past {
    fn keep(&mut self, key: Key, sessions: Vec<Session>) {
        if sessions.is_empty() {
            return;
        }
        self.order.push_back(key.clone());
        self.sessions.insert(key, sessions);
        if self.order.len() > PAST_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.sessions.remove(&oldest);
        }
    }
}

#[derive(Debug)]
struct Lease {
    id: EntryId,
    session: Option<Session>,
    ended_sessions: Vec<Session>,
    status: Status,
    ttl: Ttl,
    last_seen: Arc<AtomicMoment>,
    /// Its place in `deadlines`.
    queued: Option<Moment>,
    /// In `beaten`.
    beaten: bool,
    /// Beats handed to flush whose commit is not known yet.
    in_flight: bool,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    /// Asked for its beat count.
    Asked,
    /// Its beat count when it ended, and when to remove it.
    Noted { beat: i64, due: Moment },
    /// Handed out for removal.
    Submitted,
}

/// What a heartbeat met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The lease counts anew.
    Acknowledged(Ttl),
    /// The lease is there, but the status differs: that is a change, to be answered after its commit.
    StatusChange(Ttl),
    /// This node knows no such instance, or not this session of it.
    Unknown,
    /// The session has ended.
    Superseded,
}

/// A lease that has ended and whose time for removal has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// The entry.
    pub id: EntryId,
    /// Its name.
    pub key: Key,
    /// Its beats in the store when the lease ended.
    pub noted_beat: i64,
    /// Its last beat.
    pub last_seen: Moment,
}

impl Core {
    /// A beat of this key.
    pub fn heartbeat(
        &mut self,
        now: Moment,
        key: &Key,
        session: Option<&Session>,
        status: Option<Status>,
    ) -> Heard {
        let Some(lease) = self.leases.get_mut(key) else {
            return Heard::Unknown;
        };
        if let Some(session) = session.filter(|session| lease.session.as_ref() != Some(session)) {
            return if lease.ended_sessions.contains(session) { Heard::Superseded } else { Heard::Unknown };
        }
        if status.is_some_and(|status| status != lease.status) {
            return Heard::StatusChange(lease.ttl);
        }
        lease.last_seen.advance(now);
        if !lease.beaten {
            lease.beaten = true;
            self.beaten.push(lease.id);
        }
        Heard::Acknowledged(lease.ttl)
    }

    /// The entry's number, last beat and TTL.
    pub fn lease(&self, key: &Key) -> Option<(EntryId, Moment, Ttl)> {
        self.leases.get(key).map(|lease| (lease.id, lease.last_seen.get(), lease.ttl))
    }

    /// Makes a lease what a change says it is. A lease that is not there yet counts from `seen`; one that is there
    /// counts anew from it where the change `beats`. Returns the last beat, to be shared with the view.
    pub fn put(
        &mut self,
        id: EntryId,
        record: &Record,
        ended_session: Option<&Session>,
        seen: Moment,
        beats: bool,
    ) -> Arc<AtomicMoment> {
        let key = record.key();
        if let Some(lease) = self.leases.get_mut(&key) {
            let renumbered = lease.id != id;
            if renumbered {
                self.keys.remove(&lease.id);
                self.ending.remove(&lease.id);
                self.keys.insert(id, key.clone());
                // Its beats that are not written yet are for the old number, which no row has any more; the entry
                // that took its place begins with a lease of its own.
                lease.beaten = false;
                lease.in_flight = false;
                lease.id = id;
            }
            lease.session.clone_from(&record.session);
            lease.status = record.status;
            lease.ttl = record.ttl_seconds;
            if beats {
                lease.last_seen.advance(seen);
            }
            remember_ended(&mut lease.ended_sessions, ended_session);
            // The TTL may have become shorter: the place in `deadlines` must not lie after the new deadline.
            let deadline = lease.last_seen.get().plus(lease.ttl.duration());
            if renumbered || lease.queued.is_none_or(|queued| deadline < queued) {
                lease.queued = Some(deadline);
                self.deadlines.push(Reverse((deadline, id)));
            }
            return Arc::clone(&lease.last_seen);
        }
        let last_seen = Arc::new(AtomicMoment::new(seen));
        let mut ended_sessions = self.past.sessions.remove(&key).unwrap_or_default();
        remember_ended(&mut ended_sessions, ended_session);
        let deadline = last_seen.get().plus(record.ttl_seconds.duration());
        self.deadlines.push(Reverse((deadline, id)));
        self.keys.insert(id, key.clone());
        self.leases.insert(
            key,
            Lease {
                id,
                session: record.session.clone(),
                ended_sessions,
                status: record.status,
                ttl: record.ttl_seconds,
                last_seen: Arc::clone(&last_seen),
                queued: Some(deadline),
                beaten: false,
                in_flight: false,
            },
        );
        last_seen
    }

    /// Sessions that have ended while this lease was there, or before this node loaded it.
    pub fn remember_ended_sessions(&mut self, key: &Key, sessions: &[Session]) {
        if let Some(lease) = self.leases.get_mut(key) {
            for session in sessions {
                remember_ended(&mut lease.ended_sessions, Some(session));
            }
        }
    }

    /// Forgets a lease, unless the key holds another entry by now.
    pub fn remove(&mut self, id: EntryId) {
        self.ending.remove(&id);
        if let Some(key) = self.keys.remove(&id) {
            let ended_sessions = self.leases.remove(&key).map(|lease| lease.ended_sessions);
            self.past.keep(key, ended_sessions.unwrap_or_default());
        }
    }

    /// Whether a beat of this entry was acknowledged here and is not known to be in the store.
    pub fn has_unwritten_beat(&self, id: EntryId) -> bool {
        self.by_id(id).is_some_and(|lease| lease.beaten || lease.in_flight)
    }

    /// Beats that another node acknowledged, as of the moment at which this node read of them.
    pub fn heard_elsewhere(&mut self, ids: &[EntryId], now: Moment) {
        for id in ids {
            if let Some(lease) = self.by_id(*id) {
                lease.last_seen.advance(now);
            }
        }
    }

    /// The entries that have beaten since the last call, sorted. Their beats count as unwritten until
    /// [`Core::beats_written`].
    pub fn take_beats(&mut self) -> Vec<EntryId> {
        let mut ids = std::mem::take(&mut self.beaten);
        ids.retain(|id| {
            let Some(lease) = self.keys.get(id).and_then(|key| self.leases.get_mut(key)) else {
                return false;
            };
            let fresh = std::mem::take(&mut lease.beaten);
            lease.in_flight |= fresh;
            fresh
        });
        ids.sort_unstable();
        ids
    }

    /// The commit of these beats is known.
    pub fn beats_written(&mut self, ids: &[EntryId]) {
        for id in ids {
            if let Some(lease) = self.keys.get(id).and_then(|key| self.leases.get_mut(key)) {
                lease.in_flight = false;
            }
        }
    }

    /// The leases that have ended since the last call; their beat counts are to be noted.
    pub fn newly_ended(&mut self, sighting: &Sighting) -> Vec<EntryId> {
        let mut ended = Vec::new();
        if sighting.blind {
            return ended;
        }
        while let Some(Reverse((deadline, id))) = self.deadlines.peek().copied() {
            if deadline > sighting.sight {
                break;
            }
            self.deadlines.pop();
            let Some(lease) = self.keys.get(&id).and_then(|key| self.leases.get_mut(key)) else {
                continue;
            };
            if lease.queued != Some(deadline) {
                continue;
            }
            let ttl = lease.ttl.duration();
            let last_seen = lease.last_seen.get();
            if sighting.ended(last_seen, ttl) {
                lease.queued = None;
                self.ending.insert(id, Ending::Asked);
                ended.push(id);
            } else {
                let deadline = sighting.deadline(last_seen, ttl);
                lease.queued = Some(deadline);
                self.deadlines.push(Reverse((deadline, id)));
            }
        }
        ended
    }

    /// The beat count of an ended lease, and when to remove it if it stays silent. `None`: it could not be read.
    pub fn noted(&mut self, id: EntryId, beat: Option<(i64, Moment)>, sighting: &Sighting) {
        match beat {
            Some((beat, due)) if matches!(self.ending.get(&id), Some(Ending::Asked)) => {
                self.ending.insert(id, Ending::Noted { beat, due });
            }
            _ => self.not_removed(id, sighting),
        }
    }

    /// The removal did not come about: the lease is looked at again.
    pub fn not_removed(&mut self, id: EntryId, sighting: &Sighting) {
        self.ending.remove(&id);
        if let Some(lease) = self.keys.get(&id).and_then(|key| self.leases.get_mut(key)) {
            let again = sighting.now.plus(RETRY);
            lease.queued = Some(again);
            self.deadlines.push(Reverse((again, id)));
        }
    }

    /// The ended leases whose removal is due, without those that have beaten since.
    pub fn due(&mut self, sighting: &Sighting) -> Vec<Ended> {
        if sighting.blind {
            return Vec::new();
        }
        let candidates: Vec<_> = self
            .ending
            .iter()
            .filter_map(|(id, ending)| match ending {
                Ending::Noted { beat, due } if *due <= sighting.now => Some((*id, *beat)),
                _ => None,
            })
            .collect();
        let mut due = Vec::with_capacity(candidates.len());
        for (id, noted_beat) in candidates {
            let Some((key, lease)) = self.keys.get(&id).and_then(|key| self.leases.get_key_value(key)) else {
                self.ending.remove(&id);
                continue;
            };
            let last_seen = lease.last_seen.get();
            if sighting.ended(last_seen, lease.ttl.duration()) {
                due.push(Ended { id, key: key.clone(), noted_beat, last_seen });
                self.ending.insert(id, Ending::Submitted);
            } else {
                self.not_removed(id, sighting);
            }
        }
        due
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there is no lease.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    fn by_id(&self, id: EntryId) -> Option<&Lease> {
        self.leases.get(self.keys.get(&id)?)
    }
}

/// When a lease whose removal did not come about is looked at again.
const RETRY: Duration = Duration::from_secs(1);

fn remember_ended(sessions: &mut Vec<Session>, ended: Option<&Session>) {
    let Some(ended) = ended.filter(|ended| !sessions.contains(ended)) else {
        return;
    };
    if sessions.len() == ENDED_SESSIONS_MAX {
        sessions.remove(0);
    }
    sessions.push(ended.clone());
}

#[cfg(test)]
mod tests;
