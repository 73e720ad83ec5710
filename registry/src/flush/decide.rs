//! What a change does to what the store holds: pure, and the same for both stores.

use registry_wire::Session;

use crate::{
    entry::{Body, Kind, Record, Stored, expiry_reason},
    lease::{Outcome, Registration, Submission, Write},
    store::{Mutation, Standing},
};

/// Something to commit, and what to answer after it.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) mutation: Mutation,
    /// There was no such entry, or its lease had ended.
    pub(super) new: bool,
    /// Sessions of this key that have ended. The lease may not know them: of a key without an entry none are loaded.
    pub(super) ended_sessions: Vec<Session>,
}

/// Decides a submission. `Err`: there is nothing to commit, and this is the answer.
pub(super) fn decide(submission: &Submission, standing: Standing) -> Result<Decision, Outcome> {
    let expected = standing.entry.as_ref().map(|stored| stored.revision);
    let ended_sessions = standing.ended_sessions.clone();
    let plan = match &submission.write {
        Write::Register(registration) => register(submission, registration, standing)?,
        // To a heartbeat where nothing is, the answer is "register again", also if its session has ended.
        Write::Status { .. } if standing.entry.is_none() => return Err(Outcome::Unknown),
        Write::Status { session, status, output } => {
            let record = current(standing, session.as_ref())?.record;
            let reason = output.as_ref().map(|output| output.as_str().to_owned());
            let record = Record { status: *status, output: output.clone(), ..record };
            Plan { reason, ..Plan::new(Kind::Status, record) }
        }
        Write::Drain { session, reason } => {
            let mut record = current(standing, session.as_ref())?.record;
            let drain =
                if session.is_some() { &mut record.session_drain } else { &mut record.operator_drain };
            *drain = Some(reason.clone());
            Plan { reason: Some(reason.as_str().to_owned()), ..Plan::new(Kind::Drain, record) }
        }
        Write::Undrain { session } => undrain(current(standing, session.as_ref())?.record, session.as_ref())?,
        Write::Deregister { session, last_seen } => {
            let record = current(standing, session.as_ref())?.record;
            let by = if session.is_some() { "its own process" } else { "a client" };
            let ended_session = record.session.clone();
            let plan = Plan::new(Kind::Deregister, record);
            let body = Body { ended_session, last_seen: *last_seen, ..plan.body };
            Plan { body, reason: Some(format!("deregistered by {by}")), ..plan }
        }
        Write::Expire { id, noted_beat, last_seen, held_for } => {
            let stored = standing.entry.filter(|stored| stored.id == *id).ok_or(Outcome::Unknown)?;
            let reason = expiry_reason(stored.record.ttl_seconds, *held_for);
            let plan = Plan::new(Kind::Expire, stored.record);
            let body = Body { last_seen: Some(*last_seen), ..plan.body };
            Plan { body, noted_beat: Some(*noted_beat), reason: Some(reason), ..plan }
        }
        Write::Brake { hold, reason } => {
            let record = standing.entry.ok_or(Outcome::Unknown)?.record;
            let kind = if *hold { Kind::Hold } else { Kind::Release };
            Plan { reason: Some(reason.clone()), ..Plan::new(kind, record) }
        }
        Write::Revive { record, .. } => {
            let named = record.session.clone();
            if standing.entry.is_some() || standing.has_ended(named.as_ref()) {
                return Err(Outcome::Unknown);
            }
            let reason = Some("beat while it was removed as expired".to_owned());
            Plan { named, reason, new: true, ..Plan::new(Kind::Revive, Record::clone(record)) }
        }
    };
    let Plan { kind, body, named: named_session, noted_beat, reason, new } = plan;
    let actor = submission.actor.clone();
    let mutation = Mutation { kind, body, expected, named_session, noted_beat, reason, actor };
    Ok(Decision { mutation, new, ended_sessions })
}

/// What a submission does, before it is bound to the revision that it was decided on.
struct Plan {
    kind: Kind,
    body: Body,
    named: Option<Session>,
    noted_beat: Option<i64>,
    reason: Option<String>,
    new: bool,
}

impl Plan {
    const fn new(kind: Kind, record: Record) -> Self {
        let body = Body::new(record);
        Self { kind, body, named: None, noted_beat: None, reason: None, new: false }
    }
}

impl Standing {
    fn has_ended(&self, session: Option<&Session>) -> bool {
        session.is_some_and(|session| self.ended_sessions.contains(session))
    }
}

/// The entry that a call acts on: whatever is there, or what is there of the session that it names.
fn current(standing: Standing, named: Option<&Session>) -> Result<Stored, Outcome> {
    let refusal = if standing.has_ended(named) { Outcome::Superseded } else { Outcome::Unknown };
    let of_named = |stored: &Stored| named.is_none() || stored.record.session.as_ref() == named;
    standing.entry.filter(of_named).ok_or(refusal)
}

/// With a session, that session's own drain ends; without, whatever drain there is.
fn undrain(record: Record, session: Option<&Session>) -> Result<Plan, Outcome> {
    let operator_drain = record.operator_drain.clone().filter(|_| session.is_some());
    let after = Record { session_drain: None, operator_drain, ..record.clone() };
    if after == record {
        return Err(Outcome::Done { record: Box::new(record), new: false });
    }
    Ok(Plan::new(Kind::Undrain, after))
}

fn register(
    submission: &Submission,
    registration: &Registration,
    standing: Standing,
) -> Result<Plan, Outcome> {
    if standing.has_ended(registration.session.as_ref()) {
        return Err(Outcome::Superseded);
    }
    let before = standing.entry.map(|stored| stored.record);
    let kind = if before.is_some() { Kind::Replace } else { Kind::Register };
    let same_session = before.as_ref().is_some_and(|before| before.session == registration.session);
    let ended_session = before.as_ref().filter(|_| !same_session).and_then(|before| before.session.clone());
    // An entry whose lease has ended is gone; what it was does not live on in the new one.
    let before = before.filter(|_| !registration.lease_ended);
    let new = before.is_none();
    let of_session = before.as_ref().filter(|_| same_session);
    let record = Record {
        service_name: submission.key.service.clone(),
        instance_id: submission.key.instance.clone(),
        endpoint: registration.endpoint.clone(),
        health_endpoint: registration.health_endpoint.clone(),
        metadata: registration.metadata.clone(),
        ttl_seconds: registration.ttl,
        session: registration.session.clone(),
        status: registration.status,
        output: registration.output.clone(),
        session_drain: of_session.and_then(|before| before.session_drain.clone()),
        registered_at: of_session.map_or(registration.at, |before| before.registered_at),
        operator_drain: before.and_then(|before| before.operator_drain),
        observed_address: registration.observed_address.clone(),
    };
    let plan = Plan::new(kind, record);
    let body = Body { ended_session, ..plan.body };
    Ok(Plan { body, named: registration.session.clone(), new, ..plan })
}

#[cfg(test)]
pub(super) mod tests;
