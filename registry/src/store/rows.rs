//! Rows as both stores give them, made into what the pipeline carries.

use std::{fmt::Display, str::FromStr};

use registry_wire::{FieldError, Metadata, Session, Ttl};
use serde::Deserialize;

use super::{LogRow, StoreError};
use crate::entry::{Change, Kind, Record, Stored};

/// The columns of an entry, `instances AS i`; `ttl` and `metadata` in types that both stores have.
macro_rules! entry_columns {
    () => {
        "i.id, i.revision, i.service, i.instance, i.endpoint, i.health_endpoint, \
         CAST(i.metadata AS text) AS metadata, CAST(i.ttl AS bigint) AS ttl, i.session, i.status, i.output, \
         i.operator_drain, i.session_drain, i.registered_at, i.observed_address"
    };
}
pub(super) use entry_columns;

/// An entry's row.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct EntryRow {
    pub(super) id: i64,
    revision: i64,
    service: String,
    instance: String,
    endpoint: String,
    health_endpoint: String,
    metadata: String,
    ttl: i64,
    session: Option<String>,
    status: String,
    output: Option<String>,
    operator_drain: Option<String>,
    session_drain: Option<String>,
    registered_at: f64,
    observed_address: Option<String>,
}

/// The kind of a row that is no change of an entry: see [`LogRow::Epoch`].
const EPOCH: &str = "epoch";

/// A change's row, its time in Unix seconds and its body as text.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct ChangeRow {
    revision: i64,
    tag: i64,
    entry_id: i64,
    at: f64,
    kind: String,
    reason: Option<String>,
    actor: Option<String>,
    body: String,
}

/// Somebody else wrote into the tables, or a later version did.
fn unreadable(what: impl Display, error: impl Display) -> StoreError {
    StoreError::Unusable(format!("{what} in the store cannot be read: {error}"))
}

fn optional<T: FromStr<Err = FieldError>>(text: Option<&str>) -> Result<Option<T>, FieldError> {
    text.map(str::parse).transpose()
}

impl EntryRow {
    /// The entry, its fields checked as those of a request.
    pub(super) fn stored(self) -> Result<Stored, StoreError> {
        let record = self
            .record()
            .map_err(|error| unreadable(format_args!("entry {}/{}", self.service, self.instance), error))?;
        Ok(Stored { id: self.id, revision: self.revision, record })
    }

    fn record(&self) -> Result<Record, FieldError> {
        Ok(Record {
            service_name: self.service.parse()?,
            instance_id: self.instance.parse()?,
            endpoint: self.endpoint.parse()?,
            health_endpoint: self.health_endpoint.parse()?,
            metadata: metadata(&self.metadata)?,
            ttl_seconds: Ttl::try_from(u64::try_from(self.ttl).unwrap_or_default())?,
            session: optional(self.session.as_deref())?,
            status: self.status.parse()?,
            output: optional(self.output.as_deref())?,
            operator_drain: optional(self.operator_drain.as_deref())?,
            session_drain: optional(self.session_drain.as_deref())?,
            registered_at: self.registered_at,
            observed_address: self.observed_address.clone(),
        })
    }
}

fn metadata(json: &str) -> Result<Metadata, FieldError> {
    if json == "{}" {
        return Ok(Metadata::default());
    }
    let mut deserializer = serde_json::Deserializer::from_str(json);
    Metadata::deserialize(&mut deserializer).map_err(|error| FieldError::new("metadata", error.to_string()))
}

impl ChangeRow {
    /// The row, whatever it is.
    pub(super) fn row(self) -> Result<LogRow, StoreError> {
        let (revision, tag) = (self.revision, self.tag);
        Ok(match Kind::parse(&self.kind) {
            Some(kind) => LogRow::Change(Box::new(self.change_of(kind)?)),
            None if self.kind == EPOCH => LogRow::Epoch { revision, tag },
            None => LogRow::Unknown { revision, tag, kind: self.kind },
        })
    }

    /// The change; the query asked for kinds that are known.
    pub(super) fn change(self) -> Result<Change, StoreError> {
        let kind = Kind::parse(&self.kind).ok_or_else(|| {
            unreadable(format_args!("change {}", self.revision), format_args!("unknown kind {:?}", self.kind))
        })?;
        self.change_of(kind)
    }

    fn change_of(self, kind: Kind) -> Result<Change, StoreError> {
        let body = serde_json::from_str(&self.body)
            .map_err(|error| unreadable(format_args!("change {}", self.revision), error))?;
        Ok(Change {
            revision: self.revision,
            tag: self.tag,
            id: self.entry_id,
            at: self.at,
            kind,
            reason: self.reason,
            actor: self.actor,
            body,
        })
    }
}

/// All changes of a list.
pub(super) fn changes(rows: impl IntoIterator<Item = ChangeRow>) -> Result<Vec<Change>, StoreError> {
    rows.into_iter().map(ChangeRow::change).collect()
}

/// Sessions from a JSON list, or none from a missing one.
pub(super) fn sessions(json: Option<&str>) -> Result<Vec<Session>, StoreError> {
    json.map_or_else(
        || Ok(Vec::new()),
        |json| serde_json::from_str(json).map_err(|error| unreadable("the list of ended sessions", error)),
    )
}
