//! Reads everything at start.

use std::{collections::HashMap, time::Duration};

use futures_util::TryStreamExt;
use registry_wire::Session;
use sqlx::{
    Connection, FromRow, PgConnection, Postgres as Pg, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::time::timeout;

use super::{
    CALL_DEADLINE, ENDED_SESSION_MEMORY, EntryRow, Pass, Postgres, StoreError, change_columns, entry_columns,
    error, limit,
};
use crate::{
    entry::{Key, Revision, Tag},
    store::{GONE_MAX, GONE_MEMORY, Loaded, LoadedEntry, Writer, rows},
};

/// For everything.
const DEADLINE: Duration = Duration::from_mins(1);

/// For the next slice of rows.
const SLICE_DEADLINE: Duration = Duration::from_secs(5);

/// Rows of a slice.
const SLICE: usize = 4_000;

/// Ended sessions by service and instance.
type Ended = HashMap<Key, Vec<Session>>;

impl Postgres {
    pub(in crate::store) async fn load(&self) -> Result<Loaded, StoreError> {
        self.breaker.admit(Pass::Probe);
        let work = async {
            let held = timeout(CALL_DEADLINE, self.pool.take()).await;
            let mut held = self.judged(held.map_err(|_| error::late(CALL_DEADLINE)))?;
            let loaded = load(held.connection()).await?;
            self.see(loaded.head);
            held.give_back();
            Ok(loaded)
        };
        timeout(DEADLINE, work).await.unwrap_or_else(|_| Err(error::late(DEADLINE)))
    }
}

async fn load(connection: &mut PgConnection) -> Result<Loaded, StoreError> {
    let failed = |error| error::unavailable(&error);
    let mut snapshot =
        connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(failed)?;
    // One statement streams a million rows: the limits of a call are not for it. Slices have one here.
    sqlx::raw_sql(
        "SET LOCAL statement_timeout = '60s'; SET LOCAL idle_in_transaction_session_timeout = '10s'; \
         SET LOCAL work_mem = '64MB'; SET LOCAL jit = off",
    )
    .execute(&mut *snapshot)
    .await
    .map_err(failed)?;

    let mut loaded = Loaded::default();
    let head = sqlx::query(
        "SELECT h.revision, c.tag FROM head h LEFT JOIN changes c ON c.revision = h.revision LIMIT 1",
    );
    each(&mut snapshot, head, |row| {
        (loaded.head, loaded.head_tag) = decode::<(Revision, Option<Tag>)>(row)?;
        Ok(())
    })
    .await?;
    each(&mut snapshot, sqlx::query("SELECT writer, seq FROM writers"), |row| {
        let (writer, seq): (Writer, i64) = decode(row)?;
        loaded.cursors.insert(writer, seq);
        Ok(())
    })
    .await?;

    let mut ended = Ended::new();
    let sessions = sqlx::query(
        "SELECT service, instance, session FROM ended_sessions \
         WHERE at > clock_timestamp() - make_interval(secs => $1) ORDER BY at, session",
    );
    each(&mut snapshot, sessions.bind(ENDED_SESSION_MEMORY.as_secs_f64()), |row| {
        let (service, instance, session): (String, String, String) = decode(row)?;
        if let (Ok(service), Ok(instance), Ok(session)) = (service.parse(), instance.parse(), session.parse())
        {
            ended.entry(Key { service, instance }).or_default().push(session);
        }
        Ok(())
    })
    .await?;

    let entries = sqlx::query(concat!(
        "SELECT ",
        entry_columns!(),
        ", coalesce(greatest(0, extract(epoch FROM clock_timestamp() - l.beat_at)), 0)::float8 AS since_beat, \
           coalesce(l.beat > 1, false) AS renewed \
         FROM instances i LEFT JOIN leases l ON l.id = i.id"
    ));
    each(&mut snapshot, entries, |row| {
        let since: f64 = row.try_get("since_beat").map_err(|error| error::undecodable(&error))?;
        let renewed = row.try_get("renewed").map_err(|error| error::undecodable(&error))?;
        let stored = decode::<EntryRow>(row)?.stored()?;
        let ended_sessions = if ended.is_empty() {
            Vec::new()
        } else {
            ended.remove(&stored.record.key()).unwrap_or_default()
        };
        let since_beat = Duration::try_from_secs_f64(since).unwrap_or_default();
        loaded.entries.push(LoadedEntry { stored, since_beat, renewed, ended_sessions });
        Ok(())
    })
    .await?;
    loaded.past_sessions = ended.into_iter().collect();

    let gone = sqlx::query(concat!(
        "SELECT ",
        change_columns!(),
        " FROM changes c WHERE c.kind IN ('deregister', 'expire') \
          AND c.at > clock_timestamp() - make_interval(secs => $1) ORDER BY c.revision DESC LIMIT $2"
    ));
    each(&mut snapshot, gone.bind(GONE_MEMORY.as_secs_f64()).bind(limit(GONE_MAX)), |row| {
        loaded.gone.push(decode::<rows::ChangeRow>(row)?.change()?);
        Ok(())
    })
    .await?;
    loaded.gone.reverse();

    snapshot.rollback().await.map_err(failed)?;
    Ok(loaded)
}

fn decode<'r, T: FromRow<'r, PgRow>>(row: &'r PgRow) -> Result<T, StoreError> {
    T::from_row(row).map_err(|error| error::undecodable(&error))
}

/// Runs a statement row by row, each slice of rows within its deadline.
async fn each(
    connection: &mut PgConnection,
    query: Query<'_, Pg, PgArguments>,
    mut row: impl FnMut(&PgRow) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut rows = query.fetch(connection);
    let mut more = true;
    while more {
        let slice = async {
            for _ in 0..SLICE {
                match rows.try_next().await {
                    Ok(Some(next)) => row(&next)?,
                    Ok(None) => return Ok(false),
                    Err(error) => return Err(error::unavailable(&error)),
                }
            }
            Ok(true)
        };
        more = timeout(SLICE_DEADLINE, slice).await.unwrap_or_else(|_| Err(error::late(SLICE_DEADLINE)))?;
    }
    Ok(())
}
