//! What writes.

use std::time::Duration;

use sqlx::SqliteConnection;

use super::{Keep, StoreError, Written, error};
use crate::{
    entry::{EntryId, Kind, Revision},
    store::{BeatsWritten, ENDED_SESSION_MEMORY, Mutation},
};

/// Rows that one statement of [`trim`] removes at most.
const TRIM_ROWS: i64 = 5_000;

/// What is decided on of a mutation; the rest goes to SQL as JSON.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    kind: Kind,
    expected: Option<Revision>,
    noted_beat: Option<i64>,
}

impl From<&Mutation> for Plan {
    fn from(mutation: &Mutation) -> Self {
        Self { kind: mutation.kind, expected: mutation.expected, noted_beat: mutation.noted_beat }
    }
}

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Outcome {
    Written(Vec<Written>),
    Conflict(Vec<usize>),
}

/// What is there at a mutation's key.
#[derive(sqlx::FromRow)]
struct Found {
    id: Option<EntryId>,
    revision: Option<Revision>,
    beat: Option<i64>,
    ended: bool,
}

/// Where a batch begins.
#[derive(sqlx::FromRow)]
struct Base {
    revision: Revision,
    last_id: EntryId,
    tag: i64,
    at: f64,
}

pub(super) async fn commit(
    connection: &mut SqliteConnection,
    items: Vec<String>,
    plans: Vec<Plan>,
) -> Result<Outcome, StoreError> {
    let work = async {
        begin(connection).await?;
        let outcome = write(connection, items, plans).await;
        end(connection, outcome).await
    };
    work.await.map_err(|error| error::store(&error))
}

/// Begins a transaction that [`end`] ends.
///
/// Not sqlx's own: when the disk fails a statement, SQLite may end the transaction by itself. sqlx counts it as open for
/// ever after, and begins no other on this connection, which is the only one.
async fn begin(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let begun = sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *connection).await;
    if begun.is_err() {
        roll_back(connection).await;
    }
    begun.map(drop)
}

async fn roll_back(connection: &mut SqliteConnection) {
    // An error says that there is nothing to roll back any more.
    drop(sqlx::raw_sql("ROLLBACK").execute(connection).await);
}

/// Commits what went well, and rolls back what did not.
async fn end<T>(
    connection: &mut SqliteConnection,
    outcome: Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let outcome = match outcome {
        Ok(done) => sqlx::raw_sql("COMMIT").execute(&mut *connection).await.map(|_| done),
        failed => failed,
    };
    if outcome.is_err() {
        roll_back(connection).await;
    }
    outcome
}

async fn write(
    connection: &mut SqliteConnection,
    items: Vec<String>,
    plans: Vec<Plan>,
) -> Result<Outcome, sqlx::Error> {
    let found: Vec<Found> = sqlx::query_as(
        "SELECT i.id, i.revision, l.beat, EXISTS (SELECT 1 FROM ended_sessions e \
            WHERE e.service = b.value->>'$.body.service_name' AND e.instance = b.value->>'$.body.instance_id' \
              AND e.session = b.value->>'$.named' AND e.at > unixepoch('subsec') - ?2) AS ended \
         FROM json_each(?1) b \
         LEFT JOIN instances i ON i.service = b.value->>'$.body.service_name' \
            AND i.instance = b.value->>'$.body.instance_id' \
         LEFT JOIN leases l ON l.id = i.id ORDER BY b.key",
    )
    .bind(format!("[{}]", items.join(",")))
    .bind(ENDED_SESSION_MEMORY.as_secs_f64())
    .fetch_all(&mut *connection)
    .await?;

    let conflicts: Vec<usize> = plans
        .iter()
        .zip(&found)
        .enumerate()
        .filter(|(_, (plan, found))| plan.expected != found.revision || found.ended)
        .map(|(place, _)| place)
        .collect();
    if !conflicts.is_empty() {
        return Ok(Outcome::Conflict(conflicts));
    }

    // The second select heals a file whose head row was removed by hand.
    let base: Base = sqlx::query_as(
        "SELECT coalesce((SELECT revision FROM head), (SELECT max(revision) FROM changes), 0) AS revision, \
            coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'instances'), 0) AS last_id, \
            random() AS tag, unixepoch('subsec') AS at",
    )
    .fetch_one(&mut *connection)
    .await?;

    let (mut written, mut rows) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
    let (mut head, mut last_id) = (base.revision, base.last_id);
    for (place, ((item, plan), found)) in items.iter().zip(&plans).zip(&found).enumerate() {
        if plan.kind == Kind::Expire && found.beat != plan.noted_beat {
            continue;
        }
        head += 1;
        let id = found.id.unwrap_or_else(|| {
            last_id += 1;
            last_id
        });
        rows.push(format!(r#"{{"id":{id},"revision":{head},"item":{item}}}"#));
        written.push(Written { place, revision: head, id, at: base.at, tag: base.tag });
    }
    if !written.is_empty() {
        let rows = format!("[{}]", rows.join(","));
        for statement in WRITES {
            sqlx::query(statement).bind(&rows).bind(base.at).bind(base.tag).execute(&mut *connection).await?;
        }
        sqlx::query(
            "INSERT INTO head (one, revision) VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET revision = ?1",
        )
        .bind(head)
        .execute(&mut *connection)
        .await?;
    }
    Ok(Outcome::Written(written))
}

/// Of ?1 the rows, ?2 the time, ?3 the tag, each takes what it needs.
const WRITES: [&str; 7] = [
    "DELETE FROM leases WHERE id IN \
        (SELECT r.value->>'$.id' FROM json_each(?1) r WHERE r.value->>'$.item.removes')",
    "DELETE FROM instances WHERE id IN \
        (SELECT r.value->>'$.id' FROM json_each(?1) r WHERE r.value->>'$.item.removes')",
    "INSERT INTO instances (id, service, instance, endpoint, health_endpoint, metadata, ttl, session, status, output, \
        operator_drain, session_drain, registered_at, observed_address, revision) \
     SELECT r.value->>'$.id', b.value->>'$.service_name', b.value->>'$.instance_id', b.value->>'$.endpoint', \
        b.value->>'$.health_endpoint', b.value->'$.metadata', b.value->>'$.ttl_seconds', b.value->>'$.session', \
        b.value->>'$.status', b.value->>'$.output', b.value->>'$.operator_drain', b.value->>'$.session_drain', \
        b.value->>'$.registered_at', b.value->>'$.observed_address', r.value->>'$.revision' \
     FROM json_each(?1) r, json_each(r.value, '$.item') b \
     WHERE b.key = 'body' AND NOT r.value->>'$.item.removes' \
     ON CONFLICT (service, instance) DO UPDATE SET endpoint = excluded.endpoint, \
        health_endpoint = excluded.health_endpoint, metadata = excluded.metadata, ttl = excluded.ttl, \
        session = excluded.session, status = excluded.status, output = excluded.output, \
        operator_drain = excluded.operator_drain, session_drain = excluded.session_drain, \
        registered_at = excluded.registered_at, observed_address = excluded.observed_address, \
        revision = excluded.revision",
    "INSERT INTO leases (id, beat, beat_at) \
     SELECT r.value->>'$.id', 1, ?2 - coalesce(r.value->>'$.item.body.waited_ms', 0) / 1000.0 FROM json_each(?1) r \
     WHERE r.value->>'$.item.beats' \
     ON CONFLICT (id) DO UPDATE SET beat = beat + 1, beat_at = excluded.beat_at",
    "INSERT INTO changes (revision, tag, at, kind, service, instance, entry_id, reason, actor, body) \
     SELECT r.value->>'$.revision', ?3, ?2, r.value->>'$.item.kind', r.value->>'$.item.body.service_name', \
        r.value->>'$.item.body.instance_id', r.value->>'$.id', r.value->>'$.item.reason', r.value->>'$.item.actor', \
        r.value->'$.item.body' \
     FROM json_each(?1) r",
    "INSERT INTO ended_sessions (service, instance, session, at) \
     SELECT r.value->>'$.item.body.service_name', r.value->>'$.item.body.instance_id', \
        r.value->>'$.item.body.ended_session', ?2 \
     FROM json_each(?1) r WHERE r.value->>'$.item.body.ended_session' IS NOT NULL \
     ON CONFLICT (service, instance, session) DO UPDATE SET at = excluded.at",
    // No more of one key than a node remembers: they are read with every change of it.
    "WITH key AS MATERIALIZED ( \
        SELECT r.value->>'$.item.body.service_name' AS service, r.value->>'$.item.body.instance_id' AS instance, \
            (SELECT o.at FROM ended_sessions o WHERE o.service = r.value->>'$.item.body.service_name' \
                AND o.instance = r.value->>'$.item.body.instance_id' ORDER BY o.at DESC LIMIT 1 OFFSET 63) AS oldest \
        FROM json_each(?1) r WHERE r.value->>'$.item.body.ended_session' IS NOT NULL) \
     DELETE FROM ended_sessions WHERE (service, instance, session) IN ( \
        SELECT e.service, e.instance, e.session FROM key \
        JOIN ended_sessions e ON e.service = key.service AND e.instance = key.instance AND e.at < key.oldest)",
];

pub(super) async fn beats(
    connection: &mut SqliteConnection,
    ids: String,
    count: usize,
    waited: Duration,
) -> Result<BeatsWritten, StoreError> {
    let work = async {
        begin(connection).await?;
        let outcome = write_beats(connection, &ids, count, waited).await;
        end(connection, outcome).await
    };
    work.await.map_err(|error| error::store(&error))
}

async fn write_beats(
    connection: &mut SqliteConnection,
    ids: &str,
    count: usize,
    waited: Duration,
) -> Result<BeatsWritten, sqlx::Error> {
    let updated = sqlx::query(
        "UPDATE leases SET beat = beat + 1, beat_at = unixepoch('subsec') - ?2 \
         WHERE id IN (SELECT value FROM json_each(?1))",
    )
    .bind(ids)
    .bind(waited.as_secs_f64())
    .execute(&mut *connection)
    .await?;
    let missing = if usize::try_from(updated.rows_affected()).is_ok_and(|updated| updated == count) {
        Vec::new()
    } else {
        sqlx::query_scalar(
            "SELECT value FROM json_each(?1) WHERE value NOT IN (SELECT id FROM leases) ORDER BY value",
        )
        .bind(ids)
        .fetch_all(&mut *connection)
        .await?
    };
    Ok(BeatsWritten { repeated: false, missing })
}

pub(super) async fn trim(connection: &mut SqliteConnection, keep: Keep) -> Result<u64, StoreError> {
    let write = async {
        let changes = sqlx::query(
            "DELETE FROM changes WHERE revision IN (SELECT revision FROM changes \
                WHERE revision <= (SELECT revision FROM head) - ?1 ORDER BY revision LIMIT ?2)",
        )
        .bind(i64::from(keep.changes))
        .bind(TRIM_ROWS)
        .execute(&mut *connection)
        .await?;
        let sessions = sqlx::query(
            "DELETE FROM ended_sessions WHERE (service, instance, session) IN \
                (SELECT service, instance, session FROM ended_sessions WHERE at < unixepoch('subsec') - ?1 \
                 ORDER BY at LIMIT ?2)",
        )
        .bind(ENDED_SESSION_MEMORY.as_secs_f64())
        .bind(TRIM_ROWS)
        .execute(&mut *connection)
        .await?;
        Ok(changes.rows_affected() + sessions.rows_affected())
    };
    write.await.map_err(|error| error::store(&error))
}
