use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use registry_wire::{
    Metadata, Session, Ttl,
    request::{Drain, Heartbeat, Register},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{Core, Ended, Heard, Look, Outcome, Registration, Submission, Write};
use crate::{
    clock::{self, AtomicMoment, Moment, Sight, Sighting},
    entry::{EntryId, Key, Record},
};

/// How long a call waits for its commit.
const COMMIT_DEADLINE: Duration = Duration::from_secs(1);

/// Who calls: the peer's address, or what a trusted proxy says of it.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The address, without a port.
    pub address: Option<String>,
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
    /// More changes at once than the store takes.
    Overloaded,
}

/// The leases of this node, shared by the stages.
#[derive(Debug)]
pub struct Leases {
    core: Mutex<Core>,
    sight: Sight,
    look: Look,
    submit: mpsc::Sender<Submission>,
    default_ttl: Ttl,
}

impl Leases {
    /// Leases without an entry. `submit` leads to flush.
    pub fn new(sight: Sight, look: Look, submit: mpsc::Sender<Submission>, default_ttl: Ttl) -> Arc<Self> {
        Arc::new(Self { core: Mutex::default(), sight, look, submit, default_ttl })
    }

    /// What this node sees at `now`.
    pub fn sighting(&self, now: Moment) -> Sighting {
        self.sight.at(now)
    }

    /// Moves sight; see [`Sight::advance`].
    pub fn advance_sight(&self, seen: Moment, now: Moment) -> bool {
        self.sight.advance(seen, now)
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

    fn beat_once(&self, now: Moment, key: &Key, beat: &Heartbeat) -> Result<Heard, Refusal> {
        self.must_see(now)?;
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
    pub async fn register(
        &self,
        key: &Key,
        register: Register,
        caller: &Caller,
    ) -> Result<(Box<Record>, bool), Refusal> {
        let now = clock::now();
        let sighting = self.must_see(now)?;
        let lease_ended = self
            .core
            .lock()
            .lease(key)
            .is_some_and(|(_, last_seen, ttl)| sighting.ended(last_seen, ttl.duration()));
        let registration = Registration {
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
        };
        self.write(key, Write::Register(Box::new(registration)), caller).await
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
        let (reply, outcome) = oneshot::channel();
        let submission = Submission { key: key.clone(), write, actor: caller.address.clone(), reply };
        self.submit.try_send(submission).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Refusal::Unavailable("this node is shutting down"),
        })?;
        match timeout(COMMIT_DEADLINE, outcome).await {
            Ok(Ok(Outcome::Done { record, new })) => Ok((record, new)),
            Ok(Ok(Outcome::Unknown)) => Err(Refusal::Unknown),
            Ok(Ok(Outcome::Superseded)) => Err(Refusal::Superseded),
            Ok(Ok(Outcome::Unavailable(_)) | Err(_)) => {
                Err(Refusal::Unavailable("the store did not take it"))
            }
            Err(_) => Err(Refusal::Unavailable("the store did not answer in time")),
        }
    }

    fn must_see(&self, now: Moment) -> Result<Sighting, Refusal> {
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
        record: &Record,
        ended_session: Option<&Session>,
        seen: Moment,
        beats: bool,
    ) -> Arc<AtomicMoment> {
        self.core.lock().put(id, record, ended_session, seen, beats)
    }

    /// See [`Core::lease`].
    pub fn lease(&self, key: &Key) -> Option<(EntryId, Moment, Ttl)> {
        self.core.lock().lease(key)
    }

    /// See [`Core::remember_ended_sessions`].
    pub fn remember_ended_sessions(&self, key: &Key, sessions: &[Session]) {
        self.core.lock().remember_ended_sessions(key, sessions);
    }

    /// Forgets a lease.
    pub fn remove(&self, id: EntryId) {
        self.core.lock().remove(id);
    }

    /// See [`Core::has_unwritten_beat`].
    pub fn has_unwritten_beat(&self, id: EntryId) -> bool {
        self.core.lock().has_unwritten_beat(id)
    }

    /// Beats that other nodes acknowledged.
    pub fn heard_elsewhere(&self, ids: &[EntryId], now: Moment) {
        self.core.lock().heard_elsewhere(ids, now);
    }

    /// See [`Core::take_beats`].
    pub fn take_beats(&self) -> Vec<EntryId> {
        self.core.lock().take_beats()
    }

    /// See [`Core::beats_written`].
    pub fn beats_written(&self, ids: &[EntryId]) {
        self.core.lock().beats_written(ids);
    }

    /// See [`Core::newly_ended`].
    pub fn newly_ended(&self, sighting: &Sighting) -> Vec<EntryId> {
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

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.core.lock().len()
    }

    /// Whether there is no lease.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
