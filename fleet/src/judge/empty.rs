//! *Empty answer*: a list of everything without most of what lives.
//!
//! In a registry that others use as well, only the names of this run are looked at: a list that holds others' entries
//! and none of ours is as empty to us. An old answer may lack what has come since, as its `Age` tells, but a list of
//! nothing at all is an answer of no age: a node that knows nothing says 503.

use super::{Case, Charge, Judgement};
use crate::history::{Answer, Operation, Subject, What};

/// Looks for lists of everything that hold less than half.
pub(super) fn judge(case: &Case<'_>, judgement: &mut Judgement) {
    for (place, operation) in case.operations() {
        let What::Read(read) = &operation.what else { continue };
        let Answer::List(list) = &read.answer else { continue };
        let nothing = list.is_empty() && read.others.listed == 0;
        let age = if nothing { 0 } else { read.age };
        let (live, all) = match read.subject {
            Subject::Services => services(case, operation, age),
            Subject::Instances => instances(case, operation, age),
            _ => continue,
        };
        if live * 2 > all && list.len() * 2 < live {
            judgement.find(Charge::EmptyAnswer, || {
                let text = format!(
                    "a list of {} holds {} of this run, while {live} of at most {all} live",
                    operation.end,
                    list.len()
                );
                (text, vec![place])
            });
        }
    }
}

/// How many instances live for certain, and how many entries there may be.
fn instances(case: &Case<'_>, operation: &Operation, age: u32) -> (usize, usize) {
    let flags = (0..case.catalog().len()).map(|number| standing(case, number, operation, age));
    flags.fold((0, 0), |(live, all), (lives, is)| (live + usize::from(lives), all + usize::from(is)))
}

/// The same for names.
fn services(case: &Case<'_>, operation: &Operation, age: u32) -> (usize, usize) {
    let catalog = case.catalog();
    let of = |service| {
        let flags = catalog.of_service(service).map(|number| standing(case, number, operation, age));
        flags.fold((false, false), |(live, all), (lives, is)| (live | lives, all | is))
    };
    (0..catalog.services)
        .map(of)
        .fold((0, 0), |(live, all), (lives, is)| (live + usize::from(lives), all + usize::from(is)))
}

fn standing(case: &Case<'_>, number: u32, operation: &Operation, age: u32) -> (bool, bool) {
    let Some(life) = case.life(number) else { return (false, false) };
    let known = case.bounds.known(age);
    let lives = life.must_be_there(operation.start, operation.end, known).is_some();
    (lives, lives || case.silence.maybe_entry(number, operation.end))
}
