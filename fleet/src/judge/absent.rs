//! *False expiry* and *lost ack*: who must be there and is not.

use super::{Case, Charge, Judgement};
use crate::{
    catalog::Instance,
    history::{Act, Answer, At, Listed, Operation, Read, Subject, What},
};

/// Looks for live instances that are missing from an answer, and for live ones whose beat got 404.
pub(super) fn judge(case: &Case<'_>, judgement: &mut Judgement) {
    for (place, operation) in case.operations() {
        if let What::Read(read) = &operation.what {
            look(case, judgement, place, operation, read);
        }
    }
    for (number, life) in (0..).zip(&case.lives) {
        for place in life.denied.iter().copied() {
            let operation = &case.history.operations[place];
            let judged = operation.end <= case.until && !case.faults.left_out(operation.start, operation.end);
            if judged {
                denied(case, judgement, number, place, operation);
            }
        }
    }
}

/// Whether a list, in the order of numbers, holds a number.
fn holds(list: &[Listed], number: u32) -> bool {
    list.binary_search_by_key(&number, |listed| listed.number()).is_ok()
}

fn look(case: &Case<'_>, judgement: &mut Judgement, place: usize, operation: &Operation, read: &Read) {
    let catalog = case.catalog();
    let mut missing = |instance: Instance, usable_only: bool| {
        missed(case, judgement, instance, usable_only, (place, operation, read));
    };
    match (read.subject, &read.answer) {
        (Subject::Services, Answer::List(list)) => {
            for service in (0..catalog.services).filter(|service| !holds(list, *service)) {
                catalog.of_service(service).for_each(|instance| missing(instance, false));
            }
        }
        (Subject::Instances, Answer::List(list)) => {
            (0..catalog.len())
                .filter(|instance| !holds(list, *instance))
                .for_each(|instance| missing(instance, false));
        }
        (Subject::Service { service, all }, Answer::List(list)) => {
            catalog
                .of_service(service)
                .filter(|instance| !holds(list, *instance))
                .for_each(|instance| missing(instance, !all));
        }
        (Subject::Service { service, all }, Answer::NotThere) => {
            catalog.of_service(service).for_each(|instance| missing(instance, !all));
        }
        (Subject::Instance { instance }, Answer::NotThere) => missing(instance, false),
        (_, Answer::Nothing)
        | (Subject::Nobody, _)
        | (Subject::Instance { .. }, Answer::List(_))
        | (Subject::Services | Subject::Instances, Answer::NotThere) => {}
    }
}

/// An instance is missing from an answer.
fn missed(
    case: &Case<'_>,
    judgement: &mut Judgement,
    instance: Instance,
    usable_only: bool,
    (place, operation, read): (usize, &Operation, &Read),
) {
    let Some(life) = case.life(instance) else { return };
    let (start, end, known) = (operation.start, operation.end, case.bounds.known(read.age));
    let Some(presence) = life.must_be_there(start, end, known) else { return };
    if usable_only && life.maybe_unusable(start, end, known) {
        return;
    }
    let what = || {
        let since = life.last_certain(start);
        let mut proof: Vec<usize> = vec![presence.first];
        proof.extend(since.map(|pulse| pulse.operation).filter(|operation| *operation != presence.first));
        proof.push(place);
        let last = since.map_or_else(String::new, |pulse| {
            let act = if pulse.act == Act::Register { "registration" } else { "beat" };
            format!("its last {act} was acknowledged at {}", pulse.latest)
        });
        let text = format!(
            "{} is missing from an answer of {end}, {last} (TTL {} s), and it has not left",
            case.catalog().name(instance),
            case.bounds.ttl.as_secs()
        );
        (text, proof)
    };
    judgement.find(Charge::FalseExpiry, what);
    if presence.registered.is_some() && presence.beaten.is_none_or(|beaten| beaten > start) {
        judgement.find(Charge::LostAck, what);
    }
}

/// A call of a session that was acknowledged before got 404.
fn denied(
    case: &Case<'_>,
    judgement: &mut Judgement,
    instance: Instance,
    place: usize,
    operation: &Operation,
) {
    let Some(life) = case.life(instance) else { return };
    // A beat that a node does not know waits for a look at the log, so what was acknowledged before must be known.
    let Some(presence) = life.must_be_there(operation.start, operation.end, std::time::Duration::ZERO) else {
        return;
    };
    let last = life.last_certain(operation.start);
    let what = || {
        let mut proof: Vec<usize> = vec![presence.registered.unwrap_or(presence.first)];
        proof.extend(last.map(|pulse| pulse.operation).filter(|last| Some(last) != proof.first()));
        proof.push(place);
        let acknowledged = last.map_or_else(At::default, |pulse| pulse.latest);
        let text = format!(
            "{} was answered 404 at {}, although it was acknowledged at {acknowledged} (TTL {} s) and has not left",
            case.catalog().name(instance),
            operation.end,
            case.bounds.ttl.as_secs()
        );
        (text, proof)
    };
    judgement.find(Charge::FalseExpiry, what);
    if presence.registered.is_some() {
        judgement.find(Charge::LostAck, what);
    }
}
