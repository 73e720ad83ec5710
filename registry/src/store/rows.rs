//! Rows as both stores give them, made into what the pipeline carries.

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    str::FromStr,
};

use registry_wire::{Endpoint, FieldError, HealthPath, InstanceId, Metadata, ServiceName, Session, Ttl};
use serde::Deserialize;

use super::{LogRow, StoreError};
use crate::entry::{Change, Kind, Packed, Record, Stored, Texts};

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

/// A change's row, its time in Unix seconds and its body as text; without a body where the reader knows it.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct ChangeRow {
    revision: i64,
    tag: i64,
    entry_id: i64,
    at: f64,
    kind: String,
    reason: Option<String>,
    actor: Option<String>,
    body: Option<String>,
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

/// An entry's row, read where it lies: its columns, without numbers, in the order of [`entry_columns`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns<'a> {
    pub(super) service: &'a str,
    pub(super) instance: &'a str,
    pub(super) endpoint: &'a str,
    pub(super) health_endpoint: &'a str,
    pub(super) metadata: &'a str,
    pub(super) ttl: i64,
    pub(super) session: Option<&'a str>,
    pub(super) status: &'a str,
    pub(super) output: Option<&'a str>,
    pub(super) operator_drain: Option<&'a str>,
    pub(super) session_drain: Option<&'a str>,
    pub(super) registered_at: f64,
    pub(super) observed_address: Option<&'a str>,
}

/// Different metadata that are remembered: instances of one version say the same of themselves.
const METADATA: usize = 1000;

/// Packs very many rows, one after another.
#[derive(Debug, Default)]
pub(super) struct Packer {
    /// Each name once for all of its instances.
    services: HashSet<ServiceName>,
    /// From what the store gives to what is packed.
    metadata: HashMap<Box<str>, Box<str>>,
}

impl Packer {
    /// The entry, its fields checked as those of a request.
    pub(super) fn pack(&mut self, columns: &Columns<'_>) -> Result<Packed, StoreError> {
        self.packed(columns).map_err(|error| {
            unreadable(format_args!("entry {}/{}", columns.service, columns.instance), error)
        })
    }

    fn packed(&mut self, columns: &Columns<'_>) -> Result<Packed, FieldError> {
        let service = if let Some(known) = self.services.get(columns.service) {
            known.clone()
        } else {
            let service: ServiceName = columns.service.parse()?;
            self.services.insert(service.clone());
            service
        };
        InstanceId::check(columns.instance)?;
        Endpoint::check_stored(columns.endpoint)?;
        HealthPath::check(columns.health_endpoint)?;
        columns.session.map_or(Ok(()), Session::check)?;
        if !self.metadata.contains_key(columns.metadata) {
            if self.metadata.len() == METADATA {
                self.metadata.clear();
            }
            let compact = serde_json::to_string(&metadata(columns.metadata)?)
                .map_err(|error| FieldError::new("metadata", error.to_string()))?;
            self.metadata.insert(columns.metadata.into(), compact.into());
        }
        let texts = Texts {
            instance: columns.instance,
            endpoint: columns.endpoint,
            health_endpoint: columns.health_endpoint,
            metadata: self.metadata.get(columns.metadata).map_or("{}", Box::as_ref),
            session: columns.session,
            observed_address: columns.observed_address,
        };
        let ttl = Ttl::try_from(u64::try_from(columns.ttl).unwrap_or_default())?;
        let packed = Packed::new(service, &texts, ttl, columns.status.parse()?, columns.registered_at)
            .ok_or_else(|| FieldError::new("observed_address", "is too long"))?;
        Ok(packed.with_rare(
            optional(columns.output)?,
            optional(columns.operator_drain)?,
            optional(columns.session_drain)?,
        ))
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
            Some(_) if self.body.is_none() => LogRow::Known { revision, tag },
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
        let body = serde_json::from_str(self.body.as_deref().unwrap_or_default())
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
