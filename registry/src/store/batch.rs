//! A batch of mutations on its way into a store, and what it became on the way back.

use std::collections::{HashMap, HashSet};

use registry_wire::Session;
use serde::Serialize;

use super::{Committed, Mutation, StoreError};
use crate::entry::{Body, Change, EntryId, Kind, Revision, Tag};

/// A mutation as SQL reads it.
#[derive(Serialize)]
struct Item<'a> {
    kind: &'a str,
    beats: bool,
    removes: bool,
    expected: Option<Revision>,
    named: Option<&'a Session>,
    noted: Option<i64>,
    reason: Option<&'a str>,
    actor: Option<&'a str>,
    body: &'a Body,
}

impl<'a> From<&'a Mutation> for Item<'a> {
    fn from(mutation: &'a Mutation) -> Self {
        Self {
            kind: mutation.kind.as_str(),
            beats: mutation.kind.beats(),
            removes: mutation.kind.removes(),
            expected: mutation.expected,
            named: mutation.named_session.as_ref(),
            noted: mutation.noted_beat,
            reason: mutation.reason.as_deref(),
            actor: mutation.actor.as_deref(),
            body: &mutation.body,
        }
    }
}

/// A mutation that was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) place: usize,
    pub(super) revision: Revision,
    pub(super) id: EntryId,
    pub(super) at: f64,
    pub(super) tag: Tag,
}

/// Refuses what no caller may ask for.
pub(super) fn check(batch: &[Mutation]) -> Result<(), StoreError> {
    let wrong = |mutation: &Mutation, what: &str| {
        let (kind, record) = (mutation.kind.as_str(), &mutation.body.record);
        let key = record.key();
        Err(StoreError::Unusable(format!("this is a bug of the registry: {kind} of {key} {what}")))
    };
    let mut keys = HashSet::with_capacity(batch.len());
    for mutation in batch {
        let record = &mutation.body.record;
        if !keys.insert((&record.service_name, &record.instance_id)) {
            return wrong(mutation, "in a batch that holds this instance already");
        }
        let may_be_new = matches!(mutation.kind, Kind::Register | Kind::Revive);
        if !may_be_new && mutation.expected.is_none() {
            return wrong(mutation, "without the entry's revision");
        }
        if mutation.kind == Kind::Expire && mutation.noted_beat.is_none() {
            return wrong(mutation, "without a noted beat");
        }
    }
    Ok(())
}

fn unwritable(error: &serde_json::Error) -> StoreError {
    StoreError::Unusable(format!(
        "this is a bug of the registry: a change cannot be written as JSON: {error}"
    ))
}

/// The batch as one JSON list.
pub(super) fn json(batch: &[Mutation]) -> Result<String, StoreError> {
    let items: Vec<Item<'_>> = batch.iter().map(Item::from).collect();
    serde_json::to_string(&items).map_err(|error| unwritable(&error))
}

/// The batch as JSON, mutation by mutation.
pub(super) fn json_items(batch: &[Mutation]) -> Result<Vec<String>, StoreError> {
    batch
        .iter()
        .map(|mutation| serde_json::to_string(&Item::from(mutation)).map_err(|error| unwritable(&error)))
        .collect()
}

/// The changes that a batch became.
pub(super) fn done(batch: &[Mutation], written: &[Written]) -> Committed {
    let written: HashMap<usize, &Written> = written.iter().map(|written| (written.place, written)).collect();
    let change = |place: usize, mutation: &Mutation| {
        let written = written.get(&place)?;
        Some(Change {
            revision: written.revision,
            tag: written.tag,
            id: written.id,
            at: written.at,
            kind: mutation.kind,
            reason: mutation.reason.clone(),
            actor: mutation.actor.clone(),
            body: mutation.body.clone(),
        })
    };
    Committed::Done(batch.iter().enumerate().map(|(place, mutation)| change(place, mutation)).collect())
}
