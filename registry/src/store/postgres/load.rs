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
    CALL_DEADLINE, ENDED_SESSION_MEMORY, ENDED_SESSIONS_LOADED, Pass, Postgres, StoreError, change_columns,
    entry_columns, error, limit,
};
use crate::{
    entry::{Key, Revision, Tag},
    store::{
        GONE_MAX, GONE_MEMORY, Loaded, LoadedEntry, Writer,
        rows::{self, Columns, Packer},
    },
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
        "SELECT service, instance, session FROM ( \
            SELECT service, instance, session, at FROM ended_sessions \
            WHERE at > clock_timestamp() - make_interval(secs => $1) ORDER BY at DESC LIMIT $2) e \
         ORDER BY at, session",
    );
    let sessions = sessions.bind(ENDED_SESSION_MEMORY.as_secs_f64()).bind(ENDED_SESSIONS_LOADED);
    each(&mut snapshot, sessions, |row| {
        let (service, instance, session): (String, String, String) = decode(row)?;
        if let (Ok(service), Ok(instance), Ok(session)) = (service.parse(), instance.parse(), session.parse())
        {
            ended.entry(Key { service, instance }).or_default().push(session);
        }
        Ok(())
    })
    .await?;

    // As times in floats: `extract` gives a decimal number, which costs more than all other columns.
    let entries = sqlx::query(concat!(
        "SELECT ",
        entry_columns!(),
        ", coalesce(greatest(0, date_part('epoch', clock_timestamp() - l.beat_at)), 0)::float8 AS since_beat, \
           coalesce(l.beat > 1, false) AS renewed \
         FROM instances i LEFT JOIN leases l ON l.id = i.id"
    ));
    let count =
        sqlx::query("SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'instances'::regclass");
    each(&mut snapshot, count, |row| {
        let (about,): (i64,) = decode(row)?;
        loaded.entries.reserve(usize::try_from(about).unwrap_or(0));
        Ok(())
    })
    .await?;
    let mut packer = Packer::default();
    each(&mut snapshot, entries, |row| {
        let mut entry = loaded_entry(row, &mut packer).map_err(|error| match error {
            Unpacked::Row(error) => error::undecodable(&error),
            Unpacked::Text(error) => error,
        })?;
        if !ended.is_empty() {
            entry.ended_sessions = ended.remove(&entry.record.key()).unwrap_or_default();
        }
        loaded.entries.push(entry);
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

/// Why a row did not become an entry.
enum Unpacked {
    Row(sqlx::Error),
    Text(StoreError),
}

impl From<sqlx::Error> for Unpacked {
    fn from(error: sqlx::Error) -> Self {
        Self::Row(error)
    }
}

/// By number and in place: a million rows have no time for a look at the name of each column, nor for copies.
fn loaded_entry(row: &PgRow, packer: &mut Packer) -> Result<LoadedEntry, Unpacked> {
    let text = |column: usize| row.try_get::<&str, _>(column);
    let maybe = |column: usize| row.try_get::<Option<&str>, _>(column);
    let columns = Columns {
        service: text(2)?,
        instance: text(3)?,
        endpoint: text(4)?,
        health_endpoint: text(5)?,
        metadata: text(6)?,
        ttl: row.try_get(7)?,
        session: maybe(8)?,
        status: text(9)?,
        output: maybe(10)?,
        operator_drain: maybe(11)?,
        session_drain: maybe(12)?,
        registered_at: row.try_get(13)?,
        observed_address: maybe(14)?,
    };
    Ok(LoadedEntry {
        id: row.try_get(0)?,
        revision: row.try_get(1)?,
        record: packer.pack(&columns).map_err(Unpacked::Text)?,
        since_beat: Duration::try_from_secs_f64(row.try_get(15)?).unwrap_or_default(),
        renewed: row.try_get(16)?,
        ended_sessions: Vec::new(),
    })
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
