use std::{sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use registry_wire::{
    Metadata, Session, Ttl,
    request::{Drain, Heartbeat, Register},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::{info, warn};

use super::{
    Beats, Bounds, BrakeEvent, Cap, Census, Core, Counts, Ended, Heard, Look, Notice, Outcome, Registration,
    Room, Submission, Write,
};
use crate::{
    clock::{self, Moment, Sight, Sighting},
    entry::{Entry, EntryId, Key, Packed, Record, Revision},
    seeded::{Bug, seeded},
};

/// How long a call waits for its commit.
pub(crate) const COMMIT_DEADLINE: Duration = Duration::from_secs(1);

/// Leases looked at in one hold of the lock, so that a million of them keep no beat waiting.
const LEASES_PER_LOCK: usize = 100;

/// Who calls: the peer's address, or what a trusted proxy says of it.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The address, without a port.
    pub address: Option<String>,
    /// Who holds the signed token that the call came with.
    pub subject: Option<Arc<str>>,
}

impl Caller {
    /// What the log of changes says of who asked: the address, after `NAME@` where a signed token names somebody.
    fn actor(&self) -> Option<String> {
        match (&self.subject, &self.address) {
            (Some(subject), address) => Some(format!("{subject}@{}", address.as_deref().unwrap_or_default())),
            (None, address) => address.clone(),
        }
    }
}

/// Why a call was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This node knows that the instance is not there.
    Unknown,
    /// The named session has ended.
    Superseded,
    /// This node cannot say, and why. It may have been carried out all the same.
    Unavailable(&'static str),
    /// This node cannot say, so it takes no beat of this lease, which will count anew, with all of this TTL, once it can.
    Blind {
        /// Why it cannot.
        why: &'static str,
        /// The lease's.
        ttl: Ttl,
    },
    /// More changes at once than the store takes.
    Overloaded,
    /// There is a cap on how many may be there, and the instance is not.
    Full(Cap),
}

/// The leases of this node, shared by the stages.
#[derive(Debug)]
pub struct Leases {
    core: Mutex<Core>,
    sight: Sight,
    look: Look,
    submit: mpsc::Sender<Submission>,
    default_ttl: Ttl,
    bounds: Bounds,
}

impl Leases {
    /// Leases without an entry. `submit` leads to flush, and has more places than `bounds`.
    pub fn new(
        sight: Sight,
        look: Look,
        submit: mpsc::Sender<Submission>,
        default_ttl: Ttl,
        bounds: Bounds,
    ) -> Arc<Self> {
        let core = Mutex::new(Core::new(sight.blind_after()));
        Arc::new(Self { core, sight, look, submit, default_ttl, bounds })
    }

    /// What may be added in one batch to the entries that there are now.
    pub fn room(&self) -> Room<'_> {
        Room::new(&self.bounds, self.len())
    }

    /// How many places there are in the queue before the store, and how many of them are taken.
    pub fn queue(&self) -> (usize, usize) {
        self.bounds.queue()
    }

    /// Whether this entry is there, or may be added.
    fn has_room_for(&self, key: &Key) -> Result<(), Cap> {
        let instances = {
            let core = self.core.lock();
            if core.lease(key).is_some() {
                return Ok(());
            }
            core.len()
        };
        let (services, of_service) = (self.bounds.count)(&key.service);
        Counts { instances, services, of_service }.room(&self.bounds.limits)
    }

    /// What this node sees at `now`.
    pub fn sighting(&self, now: Moment) -> Sighting {
        self.sight.at(now)
    }

    /// See [`Sight::age_of_row`].
    pub fn age_of_row(&self, later: u64) -> Duration {
        self.sight.age_of_row(later)
    }

    /// Moves sight (see [`Sight::advance`]) and judges at once what can be seen from there.
    pub fn advance_sight(&self, seen: Moment, now: Moment) -> bool {
        let was_blind = self.sight.advance(seen, now);
        self.judge(now);
        was_blind
    }

    /// Judges what can be seen at `now`: which leases have ended, and whether the brake holds them.
    pub fn judge(&self, now: Moment) {
        self.judge_at(&self.sight.at(now));
        let events = self.core.lock().take_brake_events();
        events.into_iter().for_each(log);
    }

    fn judge_at(&self, sighting: &Sighting) {
        while self.part(|core| core.sift(sighting, LEASES_PER_LOCK)) {}
        while self.part(|core| core.judge(sighting, LEASES_PER_LOCK)) {}
    }

    /// Does a part of something with the leases, after which it is a waiting beat's turn: without that the next part
    /// would have the lock again before whoever waits for it is awake.
    fn part<T>(&self, part: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.core.lock();
        let done = part(&mut core);
        MutexGuard::unlock_fair(core);
        done
    }

    /// Makes this node blind; see [`Sight::lose`].
    pub fn lose_sight(&self, now: Moment) {
        self.sight.lose(now);
    }

    /// A beat that is acknowledged from memory. `None`: ask [`Leases::heartbeat`], which says why not.
    pub fn acknowledge(&self, key: &Key, beat: &Heartbeat) -> Option<Ttl> {
        match self.beat_once(clock::now(), key, beat) {
            Ok(Heard::Acknowledged(ttl)) => Some(ttl),
            _ => None,
        }
    }

    /// A beat. A known instance is acknowledged from memory; a change of status waits for its commit; an unknown
    /// instance for one look at the change log.
    pub async fn heartbeat(&self, key: &Key, beat: &Heartbeat, caller: &Caller) -> Result<Ttl, Refusal> {
        let arrived = clock::now();
        match self.beat_once(arrived, key, beat)? {
            Heard::Acknowledged(ttl) => return Ok(ttl),
            Heard::StatusChange(ttl) => return self.change_status(key, beat, ttl, caller).await,
            Heard::Unknown | Heard::Superseded => {}
        }
        if !self.look.after(arrived).await {
            return Err(Refusal::Unavailable("the change log could not be read in time"));
        }
        match self.beat_once(clock::now(), key, beat)? {
            Heard::Acknowledged(ttl) => Ok(ttl),
            Heard::StatusChange(ttl) => self.change_status(key, beat, ttl, caller).await,
            Heard::Unknown => Err(Refusal::Unknown),
            Heard::Superseded => Err(Refusal::Superseded),
        }
    }

    /// What a beat meets at `now`, before or after the look.
    pub(crate) fn beat_once(&self, now: Moment, key: &Key, beat: &Heartbeat) -> Result<Heard, Refusal> {
        if let Err(refusal) = self.must_see(now) {
            if seeded(Bug::NotFoundForUnavailable) {
                return Err(Refusal::Unknown);
            }
            return Err(match (refusal, self.lease(key)) {
                (Refusal::Unavailable(why), Some((_, _, ttl))) => Refusal::Blind { why, ttl },
                (refusal, _) => refusal,
            });
        }
        Ok(self.core.lock().heartbeat(now, key, beat.session.as_ref(), beat.status))
    }

    async fn change_status(
        &self,
        key: &Key,
        beat: &Heartbeat,
        ttl: Ttl,
        caller: &Caller,
    ) -> Result<Ttl, Refusal> {
        let Some(status) = beat.status else { return Ok(ttl) };
        let write = Write::Status { session: beat.session.clone(), status, output: beat.output.clone() };
        self.write(key, write, caller).await.map(|(record, _)| record.ttl_seconds)
    }

    /// A registration. Returns the entry, and whether it is new.
    ///
    /// A cap counts again where the change is decided. It is looked at here first so that those who come in vain cost
    /// the store one read of its log together, and take no place in the queue from those who are there.
    pub async fn register(
        &self,
        key: &Key,
        register: Register,
        caller: &Caller,
    ) -> Result<(Box<Record>, bool), Refusal> {
        let arrived = clock::now();
        let registration = self.registration(arrived, key, register, caller)?;
        if self.has_room_for(key).is_err() {
            // It may have been registered at another node a moment ago, and is not refused then.
            if !self.look.after(arrived).await {
                return Err(Refusal::Unavailable("the change log could not be read in time"));
            }
            self.has_room_for(key).map_err(Refusal::Full)?;
        }
        self.write(key, Write::Register(Box::new(registration)), caller).await
    }

    /// A registration with what this node adds to it.
    pub(crate) fn registration(
        &self,
        now: Moment,
        key: &Key,
        register: Register,
        caller: &Caller,
    ) -> Result<Registration, Refusal> {
        let sighting = self.must_see(now)?;
        let lease_ended = self.core.lock().lease_ended(key, &sighting);
        Ok(Registration {
            endpoint: register.endpoint,
            health_endpoint: register.health_endpoint.unwrap_or_default(),
            metadata: Metadata::clone(&register.metadata),
            ttl: register.ttl_seconds.unwrap_or(self.default_ttl),
            session: register.session,
            status: register.status.unwrap_or_default(),
            output: register.output,
            at: clock::unix_at(now, now, clock::unix_now(now)),
            observed_address: caller.address.clone(),
            lease_ended,
        })
    }

    /// Takes an instance out of rotation.
    pub async fn drain(&self, key: &Key, drain: Drain, caller: &Caller) -> Result<Box<Record>, Refusal> {
        let write = Write::Drain { session: drain.session, reason: drain.reason };
        self.write(key, write, caller).await.map(|(record, _)| record)
    }

    /// Puts it back.
    pub async fn undrain(&self, key: &Key, session: Option<Session>, caller: &Caller) -> Result<(), Refusal> {
        self.write(key, Write::Undrain { session }, caller).await.map(drop)
    }

    /// Removes it.
    pub async fn deregister(
        &self,
        key: &Key,
        session: Option<Session>,
        caller: &Caller,
    ) -> Result<(), Refusal> {
        let last_seen = self.last_seen_unix(key);
        self.write(key, Write::Deregister { session, last_seen }, caller).await.map(drop)
    }

    fn last_seen_unix(&self, key: &Key) -> Option<f64> {
        let now = clock::now();
        let (_, last_seen, _) = self.core.lock().lease(key)?;
        Some(clock::unix_at(last_seen, now, clock::unix_now(now)))
    }

    async fn write(&self, key: &Key, write: Write, caller: &Caller) -> Result<(Box<Record>, bool), Refusal> {
        self.must_see(clock::now())?;
        let place = match &write {
            // Of a beat, which is never refused for want of a place: it waits for one as it waits for its commit.
            Write::Status { .. } => None,
            write => Some(self.bounds.place(write.bytes()).ok_or(Refusal::Overloaded)?),
        };
        let (reply, outcome) = oneshot::channel();
        let submission = Submission { key: key.clone(), write, actor: caller.actor(), reply, place };
        let answered = timeout(COMMIT_DEADLINE, async {
            self.submit.send(submission).await.ok()?;
            Some(outcome.await)
        });
        match answered.await {
            Ok(Some(Ok(Outcome::Done { record, new }))) => Ok((record, new)),
            Ok(Some(Ok(Outcome::Unknown))) => Err(Refusal::Unknown),
            Ok(Some(Ok(Outcome::Superseded))) => Err(Refusal::Superseded),
            Ok(Some(Ok(Outcome::Full(cap)))) => Err(Refusal::Full(cap)),
            Ok(Some(Ok(Outcome::Unavailable(_)) | Err(_))) => {
                Err(Refusal::Unavailable("the store did not take it"))
            }
            Ok(None) => Err(Refusal::Unavailable("this node is shutting down")),
            Err(_) => Err(Refusal::Unavailable("the store did not answer in time")),
        }
    }

    pub(crate) fn must_see(&self, now: Moment) -> Result<Sighting, Refusal> {
        let sighting = self.sight.at(now);
        if !sighting.loaded {
            return Err(Refusal::Unavailable("this node has not loaded its entries yet"));
        }
        if sighting.blind {
            return Err(Refusal::Unavailable("this node cannot reach its store"));
        }
        Ok(sighting)
    }

    /// Makes a lease what a change says it is; see [`Core::put`].
    pub fn put(
        &self,
        id: EntryId,
        revision: Revision,
        record: Packed,
        ended_session: Option<&Session>,
        seen: Moment,
        beats: bool,
    ) -> Arc<Entry> {
        self.core.lock().put(id, revision, record, ended_session, seen, beats)
    }

    /// See [`Core::lease`].
    pub fn lease(&self, key: &Key) -> Option<(EntryId, Moment, Ttl)> {
        self.core.lock().lease(key)
    }

    /// See [`Core::remember_ended_sessions`].
    pub fn remember_ended_sessions(&self, key: &Key, sessions: &[Session], now: Moment) {
        self.core.lock().remember_ended_sessions(key, sessions, now);
    }

    /// See [`Core::session_ended`].
    pub fn session_ended(&self, key: &Key, session: &Session, now: Moment) {
        self.core.lock().session_ended(key, session, now);
    }

    /// Forgets a lease.
    pub fn remove(&self, id: EntryId) {
        self.core.lock().remove(id);
    }

    /// See [`Core::has_unwritten_beat`].
    pub fn has_unwritten_beat(&self, id: EntryId) -> bool {
        self.core.lock().has_unwritten_beat(id)
    }

    /// See [`Core::unwritten_beat`].
    pub fn unwritten_beat(&self, id: EntryId) -> Option<Moment> {
        self.core.lock().unwritten_beat(id)
    }

    /// Beats that other nodes acknowledged.
    pub fn heard_elsewhere(&self, ids: &[EntryId], now: Moment) {
        for ids in ids.chunks(LEASES_PER_LOCK) {
            self.part(|core| core.heard_elsewhere(ids, now));
        }
    }

    /// The beats since the last call. They count as unwritten until [`Leases::beats_written`].
    pub fn take_beats(&self) -> Beats {
        let beaten = self.core.lock().beaten();
        let mut beats = Beats { ids: Vec::with_capacity(beaten.len()), ..Beats::default() };
        for beaten in beaten.chunks(LEASES_PER_LOCK) {
            self.part(|core| core.take_beats(beaten, &mut beats));
        }
        beats
    }

    /// See [`Core::beats_written`].
    pub fn beats_written(&self, ids: &[EntryId]) {
        for ids in ids.chunks(LEASES_PER_LOCK) {
            self.part(|core| core.beats_written(ids));
        }
    }

    /// See [`Core::newly_ended`].
    pub fn newly_ended(&self, sighting: &Sighting) -> Vec<EntryId> {
        // In parts first: it judges what is left in one.
        self.judge_at(sighting);
        self.core.lock().newly_ended(sighting)
    }

    /// See [`Core::noted`].
    pub fn noted(&self, id: EntryId, beat: Option<(i64, Moment)>, sighting: &Sighting) {
        self.core.lock().noted(id, beat, sighting);
    }

    /// See [`Core::due`].
    pub fn due(&self, sighting: &Sighting) -> Vec<Ended> {
        self.core.lock().due(sighting)
    }

    /// See [`Core::not_removed`].
    pub fn not_removed(&self, id: EntryId, sighting: &Sighting) {
        self.core.lock().not_removed(id, sighting);
    }

    /// See [`Core::loaded`].
    pub fn loaded(&self, id: EntryId, seen: Moment, renewed: bool) {
        self.core.lock().loaded(id, seen, renewed);
    }

    /// See [`Core::brake_notice`].
    pub fn brake_notice(&self) -> Option<(Key, Notice)> {
        self.core.lock().brake_notice()
    }

    /// See [`Core::brake_not_told`].
    pub fn brake_not_told(&self, hold: bool) {
        self.core.lock().brake_not_told(hold);
    }

    /// See [`Core::brake_heard`].
    pub fn brake_heard(&self, hold: bool, at: EntryId, now: Moment) {
        self.core.lock().brake_heard(hold, at, now);
    }

    /// See [`Core::expired`].
    pub fn expired(&self, id: EntryId, now: Moment) {
        self.core.lock().expired(id, now);
    }

    /// How many instances are alive, silent and held; and whether the brake is on.
    pub fn census(&self) -> (Census, bool) {
        let core = self.core.lock();
        (core.census(), core.brake_is_on())
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.core.lock().len()
    }

    /// Whether there is no lease.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn log(event: BrakeEvent) {
    match event {
        BrakeEvent::On(Census { all, silent, .. }) => {
            warn!(silent, all, "too many instances are silent at once: none of them ends for two TTLs");
        }
        BrakeEvent::LettingGo { held, per_ttl } => {
            warn!(held, per_ttl, "held instances did not come back: they are let go, so many in a TTL");
        }
        BrakeEvent::Over { held, let_go } => {
            info!(held, let_go, "the hold is over: nothing is held any more");
        }
    }
}
