//! *Zombie*: who is listed and has been silent for too long.

use super::{Case, Charge, Judgement};
use crate::{
    catalog::Instance,
    history::{Answer, Listed, Operation, Subject, What},
};

/// Looks for listed instances whose last beat lies too far back.
pub(super) fn judge(case: &Case<'_>, judgement: &mut Judgement) {
    for (place, operation) in case.operations() {
        let What::Read(read) = &operation.what else { continue };
        let Answer::List(list) = &read.answer else { continue };
        match read.subject {
            Subject::Instances | Subject::Service { .. } | Subject::Instance { .. } => {
                for listed in list {
                    instance(case, judgement, *listed, (place, operation));
                }
            }
            Subject::Services => {
                for service in list.iter().map(|listed| listed.number()) {
                    name(case, judgement, service, (place, operation));
                }
            }
            Subject::Nobody => {}
        }
    }
}

fn instance(
    case: &Case<'_>,
    judgement: &mut Judgement,
    listed: Listed,
    (place, operation): (usize, &Operation),
) {
    let number = listed.number();
    let Some((last, pulse)) = case.life(number).and_then(|life| life.last_pulse(operation.end)) else {
        return;
    };
    let too_long = case.bounds.ttl + case.bounds.gone;
    if operation.start <= last.plus(too_long) {
        return;
    }
    let since = operation.start.since(last).as_secs_f64();
    let name = case.catalog().name(number);
    if !listed.stale() {
        judgement.find(Charge::Zombie, || {
            let text = format!(
                "{name} is listed without 'stale' {since:.1} s after its last beat; at most {} s were expected",
                too_long.as_secs()
            );
            (text, vec![pulse, place])
        });
    } else if overdue(case, number, operation) {
        judgement.find(Charge::Zombie, || {
            let text = format!(
                "{name} is listed {since:.1} s after its last beat, with no hold and no outage to excuse it; at most \
                 {} s were expected",
                too_long.as_secs()
            );
            (text, vec![pulse, place])
        });
    }
}

/// A name is listed as long as one of its instances is.
fn name(case: &Case<'_>, judgement: &mut Judgement, service: u32, (place, operation): (usize, &Operation)) {
    let instances = case.catalog().of_service(service);
    let lasts = || instances.clone().filter_map(|number| case.life(number)?.last_pulse(operation.end));
    if lasts().next().is_none() || !instances.clone().all(|number| overdue(case, number, operation)) {
        return;
    }
    judgement.find(Charge::Zombie, || {
        let text = format!(
            "{} is listed although the last beat of each of its instances lies more than {} s back",
            case.catalog().service(service),
            (case.bounds.ttl + case.bounds.gone).as_secs()
        );
        let mut proof: Vec<usize> = lasts().map(|(_, pulse)| pulse).collect();
        proof.push(place);
        (text, proof)
    });
}

/// Whether an instance must be gone from an answer: later than the bound after its last beat and after the answering
/// node's last resync, and not held. One that never registered is.
fn overdue(case: &Case<'_>, number: Instance, operation: &Operation) -> bool {
    let Some((last, _)) = case.life(number).and_then(|life| life.last_pulse(operation.end)) else {
        return true;
    };
    let resync = case.faults.resync(operation.target, operation.start);
    operation.start > last.max(resync).plus(case.bounds.ttl + case.bounds.gone)
        && !case.silence.maybe_held(last, operation.end)
}
