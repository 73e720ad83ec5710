//! What reads.

use std::{collections::HashMap, time::Duration};

use futures_util::TryStreamExt;
use registry_wire::Session;
use sqlx::{FromRow, Row, SqliteConnection, sqlite::SqliteRow};

use super::{StoreError, error, rows};
use crate::{
    entry::{Change, EntryId, Key, Revision, Tag},
    store::{
        ENDED_SESSION_MEMORY, ENDED_SESSIONS_LOADED, GONE_MAX, GONE_MEMORY, Loaded, LoadedEntry, LogPage,
        Standing,
        rows::{ChangeRow, EntryRow, entry_columns},
    },
};

/// The columns of a change, `changes AS c`; what it did stands there as text, or as `$body` says.
macro_rules! change_columns {
    () => {
        change_columns!("c.body")
    };
    ($body:literal) => {
        concat!("c.revision, c.tag, c.entry_id, c.at, c.kind, c.reason, c.actor, ", $body, " AS body")
    };
}

fn failed(error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => error::undecodable(&error),
        other => error::store(&other),
    }
}

/// `keys`: a JSON list of pairs.
pub(super) async fn standings(
    connection: &mut SqliteConnection,
    keys: String,
) -> Result<Vec<Standing>, StoreError> {
    let query = sqlx::query(concat!(
        "SELECT ",
        entry_columns!(),
        ", (SELECT json_group_array(e.session ORDER BY e.at, e.session) FROM ended_sessions e \
            WHERE e.service = k.value->>0 AND e.instance = k.value->>1 AND e.at > unixepoch('subsec') - ?2) AS ended \
         FROM json_each(?1) k \
         LEFT JOIN instances i ON i.service = k.value->>0 AND i.instance = k.value->>1 ORDER BY k.key"
    ));
    let rows = query
        .bind(keys)
        .bind(ENDED_SESSION_MEMORY.as_secs_f64())
        .fetch_all(connection)
        .await
        .map_err(failed)?;
    rows.iter().map(standing).collect()
}

fn standing(row: &SqliteRow) -> Result<Standing, StoreError> {
    let id: Option<EntryId> = row.try_get("id").map_err(failed)?;
    let entry = id.map(|_| EntryRow::from_row(row).map_err(failed)?.stored()).transpose()?;
    let ended: Option<&str> = row.try_get("ended").map_err(failed)?;
    Ok(Standing { entry, ended_sessions: rows::sessions(ended)? })
}

/// `known`: a JSON list of tags.
pub(super) async fn changes_after(
    connection: &mut SqliteConnection,
    after: Revision,
    limit: i64,
    known: String,
) -> Result<LogPage, StoreError> {
    let (head, first, cursor_tag) = sqlx::query_as(
        "SELECT (SELECT revision FROM head), (SELECT min(revision) FROM changes), \
            (SELECT tag FROM changes WHERE revision = ?1)",
    )
    .bind(after)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    let query = sqlx::query_as(concat!(
        "SELECT ",
        change_columns!(
            "CASE WHEN c.tag IN (SELECT value FROM json_each(?3)) AND c.kind <> 'expire' THEN NULL ELSE c.body END"
        ),
        " FROM changes c WHERE c.revision > ?1 ORDER BY c.revision LIMIT ?2"
    ));
    let rows: Vec<ChangeRow> =
        query.bind(after).bind(limit).bind(known).fetch_all(connection).await.map_err(failed)?;
    let rows = rows.into_iter().map(ChangeRow::row).collect::<Result<_, _>>()?;
    Ok(LogPage { head, first, cursor_tag, rows, seen: 0 })
}

pub(super) async fn note_beats(
    connection: &mut SqliteConnection,
    ids: String,
) -> Result<Vec<(EntryId, i64)>, StoreError> {
    sqlx::query_as("SELECT id, beat FROM leases WHERE id IN (SELECT value FROM json_each(?1))")
        .bind(ids)
        .fetch_all(connection)
        .await
        .map_err(failed)
}

pub(super) async fn expired(
    connection: &mut SqliteConnection,
    ids: String,
) -> Result<Vec<Change>, StoreError> {
    let query = sqlx::query_as(concat!(
        "SELECT ",
        change_columns!(),
        " FROM changes c WHERE c.kind = 'expire' AND c.entry_id IN (SELECT value FROM json_each(?1)) \
          ORDER BY c.revision"
    ));
    let rows: Vec<ChangeRow> = query.bind(ids).fetch_all(connection).await.map_err(failed)?;
    rows::changes(rows)
}

/// One snapshot without a transaction: nobody else writes, and the connection is held.
pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Loaded, StoreError> {
    let head: Option<(Revision, Option<Tag>)> = sqlx::query_as(
        "SELECT h.revision, c.tag FROM head h LEFT JOIN changes c ON c.revision = h.revision LIMIT 1",
    )
    .fetch_optional(&mut *connection)
    .await
    .map_err(failed)?;
    let (head, head_tag) = head.unwrap_or_default();
    let mut loaded = Loaded { head, head_tag, ..Loaded::default() };

    let mut ended: HashMap<Key, Vec<Session>> = HashMap::new();
    let sessions: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT service, instance, session FROM ( \
            SELECT service, instance, session, at FROM ended_sessions \
            WHERE at > unixepoch('subsec') - ?1 ORDER BY at DESC LIMIT ?2) \
         ORDER BY at, session",
    )
    .bind(ENDED_SESSION_MEMORY.as_secs_f64())
    .bind(ENDED_SESSIONS_LOADED)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    for (service, instance, session) in sessions {
        if let (Ok(service), Ok(instance), Ok(session)) = (service.parse(), instance.parse(), session.parse())
        {
            ended.entry(Key { service, instance }).or_default().push(session);
        }
    }

    let entries = sqlx::query(concat!(
        "SELECT ",
        entry_columns!(),
        ", coalesce(max(0.0, unixepoch('subsec') - l.beat_at), 0.0) AS since_beat, \
           coalesce(l.beat > 1, false) AS renewed \
         FROM instances i LEFT JOIN leases l ON l.id = i.id"
    ));
    let mut entries = entries.fetch(&mut *connection);
    while let Some(row) = entries.try_next().await.map_err(failed)? {
        let since: f64 = row.try_get("since_beat").map_err(failed)?;
        let stored = EntryRow::from_row(&row).map_err(failed)?.stored()?;
        let key = stored.record.key();
        loaded.entries.push(LoadedEntry {
            id: stored.id,
            revision: stored.revision,
            record: (&stored.record).into(),
            since_beat: Duration::try_from_secs_f64(since).unwrap_or_default(),
            renewed: row.try_get("renewed").map_err(failed)?,
            ended_sessions: ended.remove(&key).unwrap_or_default(),
        });
    }
    drop(entries);
    loaded.past_sessions = ended.into_iter().collect();

    let gone = sqlx::query_as(concat!(
        "SELECT ",
        change_columns!(),
        " FROM changes c WHERE c.kind IN ('deregister', 'expire') AND c.at > unixepoch('subsec') - ?1 \
          ORDER BY c.revision DESC LIMIT ?2"
    ));
    let gone: Vec<ChangeRow> = gone
        .bind(GONE_MEMORY.as_secs_f64())
        .bind(i64::try_from(GONE_MAX).unwrap_or(i64::MAX))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    loaded.gone = rows::changes(gone.into_iter().rev())?;
    Ok(loaded)
}
