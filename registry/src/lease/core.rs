use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::Arc,
    time::Duration,
};

use registry_wire::{Session, Status, Ttl};

use super::{
    brake::{Brake, BrakeEvent, Life, silence},
    sessions::{EndedSessions, Past},
    table::Table,
};
use crate::{
    clock::{Moment, Pulse, Sighting},
    entry::{Entry, EntryId, Key, Packed, Revision},
};

/// Parts of a wait that the first looks at leases are spread over.
const PARTS: u32 = 1024;

/// Every lease of this node, without any I/O: data and `now` in, effects out.
///
/// The pulse of a lease is made of atomics that the view shares, so that a beat is in the next answer without a lock.
#[derive(Debug)]
pub struct Core {
    pub(super) leases: Table,
    /// Entries with a beat that [`Core::take_beats`] has not handed out yet.
    beaten: Vec<EntryId>,
    pub(super) deadlines: Deadlines,
    /// Leases that came to their end and were not judged yet.
    pub(super) over: Vec<EntryId>,
    /// Leases that have ended since they were last handed out.
    pub(super) ended: Vec<EntryId>,
    /// Leases that have ended and wait for their removal.
    pub(super) ending: HashMap<EntryId, Ending>,
    pub(super) brake: Brake,
    /// What the brake did since it was last asked.
    pub(super) brake_events: Vec<BrakeEvent>,
    /// The last lease that fell silent.
    pub(super) witness: Option<EntryId>,
    /// The floor that the leases were last judged with.
    pub(super) floor: Moment,
    /// The part of the table from which on leases are still to be counted anew from that floor.
    pub(super) to_count: Option<usize>,
    past: Past,
}

/// Every lease that is neither ending nor held stands here, at the moment at which there may be something to say of it,
/// or before: that it is silent, or that it has ended. A beat does not move it. When its turn comes and it has beaten
/// since, it is put back. Only the place that [`Lease::queued`] names counts; others are out of date and dropped.
pub(super) type Deadlines = BinaryHeap<Reverse<(Moment, EntryId)>>;

/// With a million of them each byte is a megabyte: what the entry holds is not held again.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) id: EntryId,
    pub(super) entry: Arc<Entry>,
    ended_sessions: EndedSessions,
    pub(super) life: Life,
    /// Its place in `deadlines`.
    pub(super) queued: Option<Moment>,
    /// In `beaten`.
    beaten: bool,
    /// Beats handed to flush whose commit is not known yet.
    in_flight: bool,
}

impl Lease {
    /// Of an entry that is new.
    pub(super) fn new(entry: Arc<Entry>) -> Self {
        Self {
            id: entry.id,
            entry,
            ended_sessions: EndedSessions::default(),
            life: Life::New,
            queued: None,
            beaten: false,
            in_flight: false,
        }
    }

    pub(super) fn service(&self) -> &str {
        self.entry.record.service().as_str()
    }

    pub(super) fn instance(&self) -> &str {
        self.entry.record.instance()
    }

    pub(super) fn pulse(&self) -> &Pulse {
        &self.entry.pulse
    }

    pub(super) fn ttl(&self) -> Ttl {
        self.entry.record.ttl_seconds
    }

    /// When there may be something to say of it, if it counts from `from` and does not beat.
    pub(super) fn next_turn(&self, from: Moment) -> Moment {
        let ttl = self.ttl().duration();
        from.plus(if self.life == Life::Beating { silence(ttl) } else { ttl })
    }

    /// When to look at it first, where it counts from `from`: earlier than there may be something to say of it, by up to
    /// half of that time, so that leases that come together, as a restart or a load brings them, are not all looked at
    /// together. Who beats has beaten by then, and is spread over its interval from there on.
    fn first_turn(&self, from: Moment) -> Moment {
        let wait = self.next_turn(from).since(from);
        let part = u32::try_from(self.id.rem_euclid(PARTS.into())).unwrap_or_default();
        from.plus(wait / 2 + wait / 2 / PARTS * (PARTS - part))
    }

    /// Whether a beat of it was acknowledged here and is not known to be in the store.
    const fn unwritten(&self) -> bool {
        self.beaten || self.in_flight
    }

    /// Whether it was judged to have ended and still has.
    pub(super) fn ended(&self, sighting: &Sighting) -> bool {
        self.pulse().ended(sighting, self.ttl().duration())
    }

    /// Puts it into the queue, to be looked at no later than at `turn`.
    pub(super) fn queue(&mut self, turn: Moment, deadlines: &mut Deadlines) {
        self.queued = Some(turn);
        deadlines.push(Reverse((turn, self.id)));
    }

    /// It was renewed at `seen`, by its own node or another.
    fn renewed(&mut self, seen: Moment, brake: &mut Brake, deadlines: &mut Deadlines) {
        let before = self.pulse().last_seen();
        self.pulse().beat(seen);
        if self.life == Life::Beating || seen <= before && self.life != Life::New {
            return;
        }
        brake.becomes(self.id, &mut self.life, Life::Beating);
        let turn = self.first_turn(self.pulse().last_seen());
        // A lease that is held or has ended stands nowhere, and the beat may be so old that it ends again before it is
        // known what became of its removal.
        if self.queued.is_none_or(|queued| turn < queued) {
            self.queue(turn, deadlines);
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// Asked for its beat count.
    Asked,
    /// Its beat count when it ended, and when to remove it.
    Noted { beat: i64, due: Moment },
    /// Handed out for removal.
    Submitted,
}

/// Beats that this node acknowledged and that are to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beats {
    /// The entries, each once.
    pub ids: Vec<EntryId>,
    /// None of the beats is younger. [`Moment::NEVER`] if there is none.
    pub youngest: Moment,
}

impl Default for Beats {
    /// None.
    fn default() -> Self {
        Self { ids: Vec::new(), youngest: Moment::NEVER }
    }
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

impl Default for Core {
    /// A brake that does not linger.
    fn default() -> Self {
        Self::new(Duration::ZERO)
    }
}

impl Core {
    /// No leases, and a brake that lingers for so long after its last reason.
    pub fn new(linger: Duration) -> Self {
        Self {
            leases: Table::default(),
            beaten: Vec::new(),
            deadlines: Deadlines::new(),
            over: Vec::new(),
            ended: Vec::new(),
            ending: HashMap::new(),
            brake: Brake::new(linger),
            brake_events: Vec::new(),
            witness: None,
            floor: Moment::NEVER,
            to_count: None,
            past: Past::default(),
        }
    }

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
        let record = &lease.entry.record;
        let current = |session: &&Session| record.session() == Some(session.as_str());
        if let Some(session) = session.filter(|session| !current(session)) {
            return if lease.ended_sessions.contains(session, now) {
                Heard::Superseded
            } else {
                Heard::Unknown
            };
        }
        if status.is_some_and(|status| status != record.status) {
            return Heard::StatusChange(lease.ttl());
        }
        lease.renewed(now, &mut self.brake, &mut self.deadlines);
        if !lease.beaten {
            lease.beaten = true;
            self.beaten.push(lease.id);
        }
        Heard::Acknowledged(lease.ttl())
    }

    /// The entry's number, last beat and TTL.
    pub fn lease(&self, key: &Key) -> Option<(EntryId, Moment, Ttl)> {
        self.leases.get(key).map(|lease| (lease.id, lease.pulse().last_seen(), lease.ttl()))
    }

    /// Whether the key holds an entry whose lease has ended.
    pub fn lease_ended(&self, key: &Key, sighting: &Sighting) -> bool {
        self.leases.get(key).is_some_and(|lease| lease.ended(sighting))
    }

    /// Makes a lease what a change says it is. A lease that is not there yet counts from `seen`; one that is there
    /// counts anew from it where the change `beats`. Returns the entry, to be shared with the view.
    pub fn put(
        &mut self,
        id: EntryId,
        revision: Revision,
        record: Packed,
        ended_session: Option<&Session>,
        seen: Moment,
        beats: bool,
    ) -> Arc<Entry> {
        let known = self.leases.of_mut(&record).map(|lease| lease.id);
        if let Some(known) = known.filter(|known| *known != id) {
            self.leases.renumber(known, id);
            self.ending.remove(&known);
        }
        if known.is_some()
            && let Some(lease) = self.leases.of_mut(&record)
        {
            if let Some(known) = known.filter(|known| *known != id) {
                // Its beats that are not written yet are for the old number, which no row has any more. The entry that
                // took its place counts from `seen`; what the same process did after that counts for it.
                lease.beaten = lease.unwritten()
                    && lease.entry.record.session() == record.session()
                    && lease.pulse().last_seen() > seen;
                lease.in_flight = false;
                if lease.beaten {
                    self.beaten.push(id);
                }
                self.brake.becomes(known, &mut lease.life, Life::New);
            }
            lease.entry = Arc::new(Entry::new(id, revision, record, Arc::clone(&lease.entry.pulse)));
            if beats {
                lease.renewed(seen, &mut self.brake, &mut self.deadlines);
            }
            if let Some(ended) = ended_session {
                lease.ended_sessions.end(ended, seen);
            }
            // The TTL may have become shorter: the place in `deadlines` must not lie after the new deadline.
            let turn = lease.next_turn(lease.pulse().last_seen());
            // What stands nowhere in it is held, or ending, and is put back if it does not end.
            if known != Some(id) || lease.queued.is_some_and(|queued| turn < queued) {
                lease.queue(turn, &mut self.deadlines);
            }
            return Arc::clone(&lease.entry);
        }
        let entry = Arc::new(Entry::new(id, revision, record, Arc::new(Pulse::new(seen))));
        let mut ended_sessions = self.past.take(&entry.record);
        if let Some(ended) = ended_session {
            ended_sessions.end(ended, seen);
        }
        let mut lease = Lease { ended_sessions, ..Lease::new(Arc::clone(&entry)) };
        lease.queue(lease.first_turn(seen), &mut self.deadlines);
        self.leases.insert(lease);
        entry
    }

    /// What the store knows of an entry's beats: the last one, and whether there was any since its registration.
    pub fn loaded(&mut self, id: EntryId, seen: Moment, renewed: bool) {
        if let Some(lease) = self.leases.by_id_mut(id) {
            if renewed || lease.life != Life::New {
                lease.renewed(seen, &mut self.brake, &mut self.deadlines);
            } else {
                lease.pulse().beat(seen);
            }
        }
    }

    /// Sessions of this key that the store says have ended, whether it holds a lease now or not.
    pub fn remember_ended_sessions(&mut self, key: &Key, sessions: &[Session], now: Moment) {
        for session in sessions {
            match self.leases.get_mut(key) {
                Some(lease) => lease.ended_sessions.know(session, now),
                None => self.past.know(key, session, now),
            }
        }
    }

    /// A session of this key has ended just now.
    pub fn session_ended(&mut self, key: &Key, session: &Session, now: Moment) {
        match self.leases.get_mut(key) {
            Some(lease) => lease.ended_sessions.end(session, now),
            None => self.past.end(key, session, now),
        }
    }

    /// Forgets a lease, unless the key holds another entry by now.
    pub fn remove(&mut self, id: EntryId) {
        self.ending.remove(&id);
        if let Some(mut lease) = self.leases.remove(id) {
            self.brake.becomes(id, &mut lease.life, Life::Ended);
            self.past.keep(&lease.entry.record, lease.ended_sessions);
        }
    }

    /// Whether a beat of this entry was acknowledged here and is not known to be in the store.
    pub fn has_unwritten_beat(&self, id: EntryId) -> bool {
        self.unwritten_beat(id).is_some()
    }

    /// The last beat of this entry, if one was acknowledged here and is not known to be in the store.
    pub fn unwritten_beat(&self, id: EntryId) -> Option<Moment> {
        let lease = self.by_id(id).filter(|lease| lease.unwritten())?;
        Some(lease.pulse().last_seen())
    }

    /// Beats that another node acknowledged, as of the moment at which this node read of them.
    pub fn heard_elsewhere(&mut self, ids: &[EntryId], now: Moment) {
        for id in ids {
            if let Some(lease) = self.leases.by_id_mut(*id) {
                lease.renewed(now, &mut self.brake, &mut self.deadlines);
            }
        }
    }

    /// The entries that may have beaten since the last call, for [`Core::take_beats`]: all of them, in parts as small as
    /// the caller likes.
    pub fn beaten(&mut self) -> Vec<EntryId> {
        std::mem::take(&mut self.beaten)
    }

    /// Adds those of the entries that have beaten and were not taken yet. Their beats count as unwritten until
    /// [`Core::beats_written`].
    pub fn take_beats(&mut self, beaten: &[EntryId], beats: &mut Beats) {
        for id in beaten {
            if let Some(lease) = self.leases.by_id_mut(*id)
                && std::mem::take(&mut lease.beaten)
            {
                lease.in_flight = true;
                beats.youngest = beats.youngest.max(lease.pulse().last_seen());
                beats.ids.push(*id);
            }
        }
    }

    /// The commit of these beats is known.
    pub fn beats_written(&mut self, ids: &[EntryId]) {
        for id in ids {
            if let Some(lease) = self.leases.by_id_mut(*id) {
                lease.in_flight = false;
            }
        }
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there is no lease.
    pub fn is_empty(&self) -> bool {
        self.leases.len() == 0
    }

    pub(super) fn by_id(&self, id: EntryId) -> Option<&Lease> {
        self.leases.by_id(id)
    }
}

#[cfg(test)]
mod tests;
