//! *Brake*: who left the answers although too many were silent at once.

use std::collections::HashMap;

use super::{
    Case, Charge, Judgement,
    silence::{Episode, too_many},
};
use crate::{
    catalog::Instance,
    history::{Answer, At, Listed, Operation, Read, Subject, What},
};

/// A time in which the brake must have been on.
struct Hold {
    began: At,
    /// Who was held.
    held: HashMap<Instance, Episode>,
    /// How many were silent when it began, and of how many at most.
    silent: i64,
    all: i64,
}

/// Looks for held instances that are missing from an answer.
pub(super) fn judge(case: &Case<'_>, judgement: &mut Judgement) {
    let holds = holds(case);
    for (place, operation) in case.operations() {
        let What::Read(read) = &operation.what else { continue };
        // At most a few: one for each time that too many fell silent.
        for hold in holds.iter().filter(|hold| hold.began.plus(case.bounds.beat) <= operation.start) {
            look(case, judgement, hold, (place, operation, read));
        }
    }
}

/// When an instance may be let go at the earliest.
fn end(case: &Case<'_>, episode: &Episode) -> At {
    episode.lease.plus(case.bounds.hold).minus(case.bounds.beat).min(episode.until)
}

/// Every moment at which more than the threshold became silent for certain, before the first lease of those could end.
fn holds(case: &Case<'_>) -> Vec<Hold> {
    let mut holds: Vec<Hold> = Vec::new();
    let mut active: Vec<Episode> = Vec::new();
    for episode in &case.silence.episodes {
        let now = episode.from;
        active.push(*episode);
        // A node counts the silent ones before it ends anybody, so those are in time whose lease cannot have ended.
        active.retain(|one| one.until > now && one.lease >= now);
        let silent = i64::try_from(active.len()).unwrap_or(i64::MAX);
        let all = case.silence.all(now);
        if !too_many(silent, all) {
            continue;
        }
        match holds.last_mut() {
            Some(hold) if hold.held.values().any(|one| end(case, one) > now) => {
                hold.held.extend(active.iter().map(|one| (one.instance, *one)));
            }
            _ => {
                let held = active.iter().map(|one| (one.instance, *one)).collect();
                holds.push(Hold { began: now, held, silent, all });
            }
        }
    }
    holds
}

fn look(
    case: &Case<'_>,
    judgement: &mut Judgement,
    hold: &Hold,
    (place, operation, read): (usize, &Operation, &Read),
) {
    let catalog = case.catalog();
    let lists =
        |list: &[Listed], number: u32| list.binary_search_by_key(&number, |listed| listed.number()).is_ok();
    let (candidates, usable_only) = match read.subject {
        Subject::Instances => (0..catalog.len(), false),
        Subject::Service { service, all } => (catalog.of_service(service), !all),
        Subject::Instance { instance } => (instance..instance + 1, false),
        Subject::Services | Subject::Nobody => return,
    };
    let missing = |number: &Instance| match &read.answer {
        Answer::List(list) => !lists(list, *number),
        Answer::NotThere => true,
        Answer::Nothing => false,
    };
    let gone: Vec<Episode> = candidates
        .filter(missing)
        .filter_map(|number| hold.held.get(&number).copied())
        .filter(|episode| episode.from.plus(case.bounds.beat) <= operation.start)
        .filter(|episode| operation.end < end(case, episode))
        .filter(|episode| {
            let known = case.bounds.known(read.age);
            case.life(episode.instance).is_some_and(|life| {
                let left = life.maybe_left(operation.start.minus(known), operation.end);
                let hidden = usable_only && life.maybe_unusable(operation.start, operation.end, known);
                !left && !hidden
            })
        })
        .collect();
    // Those that came back take the brake off for the others as well.
    let still = hold.held.values().filter(|episode| episode.until > operation.end).count();
    if gone.is_empty() || !too_many(i64::try_from(still).unwrap_or(i64::MAX), case.silence.all(operation.end))
    {
        return;
    }
    for episode in gone {
        judgement.find(Charge::Brake, || {
            let text = format!(
                "{} is missing from an answer of {}; at {}, {} of at most {} were silent, so it was to be held until \
                 {} at least",
                catalog.name(episode.instance),
                operation.end,
                hold.began,
                hold.silent,
                hold.all,
                end(case, &episode)
            );
            (text, vec![episode.operation, place])
        });
    }
}
