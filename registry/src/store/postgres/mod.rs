//! The store that all nodes share.
//!
//! In: the calls of [`super::Store`].
//! Owns: the connections, their deadlines, the SQL of Postgres; the two functions that write are in its migrations.
//! Out: rows, or an error that says whether to try again.
//!
//! Behind a pooler that gives a server connection for a transaction, the pooler has to support prepared statements
//! (PgBouncer 1.21 and later, `max_prepared_statements` above 0); the limits that a session sets may be lost there,
//! and the writing functions bring their own lock limit. LISTEN needs a direct connection.

mod error;
mod load;
mod pool;

use std::{collections::BTreeMap, time::Duration};

use sqlx::{
    FromRow, Postgres as Pg, Row,
    migrate::Migrator,
    postgres::{PgArguments, PgConnectOptions, PgRow},
    query::Query,
};
use tokio::time::timeout;

use self::pool::Pool;
use super::{
    BeatRow, BeatsWritten, CALL_DEADLINE, Committed, ENDED_SESSION_MEMORY, Keep, Mutation, Standing, Store,
    StoreError, WRITER_MEMORY, Writer,
    batch::{self, Written},
    rows::{self, ChangeRow, EntryRow, entry_columns},
};
use crate::entry::{Change, EntryId, Key, Revision};

/// The tables and functions of this version.
static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

/// Held while migrating: one node at a time. Any number that no other program on this database uses.
const MIGRATION_LOCK: i64 = 0x7265_6769_7374_7279;

const MIGRATION_DEADLINE: Duration = Duration::from_mins(1);

/// Rows that one statement of [`Postgres::trim`] removes at most.
const TRIM_ROWS: i64 = 5_000;

/// The columns of a change.
macro_rules! change_columns {
    () => {
        "c.revision, c.entry_id, extract(epoch FROM c.at)::float8 AS at, c.kind, c.reason, c.actor, \
         c.body::text AS body"
    };
}
use change_columns;

/// Postgres, and how it is spoken to.
#[derive(Debug)]
pub struct Postgres {
    pool: Pool,
}

impl Postgres {
    pub(super) fn new(options: &PgConnectOptions) -> Self {
        Self { pool: Pool::new(options) }
    }

    /// Runs one statement, within the deadline of a call.
    async fn rows(&self, query: Query<'_, Pg, PgArguments>) -> Result<Vec<PgRow>, StoreError> {
        let call = async {
            let mut held = self.pool.take().await?;
            let rows = query.fetch_all(held.connection()).await?;
            held.give_back();
            Ok(rows)
        };
        let result = timeout(CALL_DEADLINE, call).await;
        let error = match result {
            Ok(Ok(rows)) => return Ok(rows),
            Ok(Err(error)) => {
                if error::breaks_connection(&error) {
                    self.pool.forget();
                }
                error::unavailable(&error)
            }
            Err(_) => {
                self.pool.forget();
                error::late(CALL_DEADLINE)
            }
        };
        Err(error)
    }

    pub(super) async fn migrate(&self) -> Result<(), StoreError> {
        let work = async {
            let mut connection = self.pool.connect().await?;
            // All in one transaction, with a lock that ends with it: it works through a pooler too, and nobody ever
            // sees half of it. Nodes that run are not kept waiting for long by a table lock.
            let mut transaction = sqlx::Connection::begin(&mut connection).await?;
            sqlx::raw_sql("SET LOCAL statement_timeout = '50s'; SET LOCAL lock_timeout = '30s'")
                .execute(&mut *transaction)
                .await?;
            sqlx::query("SELECT pg_advisory_xact_lock($1)")
                .bind(MIGRATION_LOCK)
                .execute(&mut *transaction)
                .await?;
            let mut migrator = Migrator::with_migrations(MIGRATIONS.iter().cloned().collect());
            migrator.set_ignore_missing(true).set_locking(false);
            migrator.run_direct(None, &mut *transaction, false).await?;
            transaction.commit().await?;
            Ok(())
        };
        match timeout(MIGRATION_DEADLINE, work).await {
            Ok(result) => result.map_err(error::migration),
            Err(_) => Err(error::late(MIGRATION_DEADLINE)),
        }
    }

    pub(super) async fn read(&self, keys: &[Key]) -> Result<Vec<Standing>, StoreError> {
        // LIMIT keeps the planner from joining the whole table.
        let query = sqlx::query(concat!(
            "SELECT ",
            entry_columns!(),
            ", (SELECT json_agg(e.session ORDER BY e.at, e.session)::text FROM ended_sessions e \
                WHERE e.service = k.service AND e.instance = k.instance \
                  AND e.at > clock_timestamp() - make_interval(secs => $3)) AS ended \
             FROM unnest($1::text[], $2::text[]) WITH ORDINALITY k(service, instance, place) \
             LEFT JOIN LATERAL (SELECT * FROM instances i \
                WHERE i.service = k.service AND i.instance = k.instance LIMIT 1) i ON true \
             ORDER BY k.place"
        ));
        let services: Vec<&str> = keys.iter().map(|key| key.service.as_str()).collect();
        let instances: Vec<&str> = keys.iter().map(|key| key.instance.as_str()).collect();
        let rows =
            self.rows(query.bind(services).bind(instances).bind(ENDED_SESSION_MEMORY.as_secs_f64())).await?;
        rows.iter().map(standing).collect()
    }

    pub(super) async fn commit(&self, batch: &[Mutation]) -> Result<Committed, StoreError> {
        let query = sqlx::query(
            "SELECT out_place, out_revision, out_entry, out_at FROM commit_changes($1::text::jsonb, $2)",
        );
        let rows =
            self.rows(query.bind(batch::json(batch)?).bind(ENDED_SESSION_MEMORY.as_secs_f64())).await?;
        let (mut written, mut conflicts) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            let (place, revision, id, at): (i32, Option<Revision>, Option<EntryId>, Option<f64>) =
                decode(FromRow::from_row(&row))?;
            let place = usize::try_from(place).unwrap_or(usize::MAX);
            match (revision, id, at) {
                (Some(revision), Some(id), Some(at)) => written.push(Written { place, revision, id, at }),
                _ => conflicts.push(place),
            }
        }
        Ok(if conflicts.is_empty() { batch::done(batch, &written) } else { Committed::Conflict(conflicts) })
    }

    pub(super) async fn write_beats(
        &self,
        writer: Writer,
        seq: i64,
        ids: Vec<EntryId>,
    ) -> Result<BeatsWritten, StoreError> {
        let query = sqlx::query("SELECT repeated, missing FROM write_beats($1, $2, $3)");
        let rows = self.rows(query.bind(writer).bind(seq).bind(ids)).await?;
        let row = rows.first().ok_or_else(|| error::undecodable(&sqlx::Error::RowNotFound))?;
        let (repeated, missing) = decode(FromRow::from_row(row))?;
        Ok(BeatsWritten { repeated, missing })
    }

    pub(super) async fn beats_after(
        &self,
        cursors: &BTreeMap<Writer, i64>,
    ) -> Result<Vec<BeatRow>, StoreError> {
        // Writer by writer through the key of beats; those without news cost one comparison.
        let query = sqlx::query(
            "SELECT w.writer, b.seq, b.ids FROM writers w \
             LEFT JOIN unnest($1::bigint[], $2::bigint[]) c(writer, seq) ON c.writer = w.writer \
             CROSS JOIN LATERAL (SELECT b.seq, b.ids FROM beats b \
                WHERE b.writer = w.writer AND b.seq > coalesce(c.seq, 0) ORDER BY b.seq LIMIT $3) b \
             WHERE w.seq > coalesce(c.seq, 0) ORDER BY w.writer, b.seq LIMIT $3",
        );
        let (writers, seqs): (Vec<Writer>, Vec<i64>) = cursors.iter().unzip();
        let rows = self.rows(query.bind(writers).bind(seqs).bind(limit(Store::BEATS_PAGE))).await?;
        let beat = |row: &PgRow| {
            let (writer, seq, ids) = FromRow::from_row(row)?;
            Ok(BeatRow { writer, seq, ids })
        };
        decode(rows.iter().map(beat).collect())
    }

    pub(super) async fn changes_after(
        &self,
        after: Revision,
        most: usize,
    ) -> Result<Vec<Change>, StoreError> {
        let query = sqlx::query(concat!(
            "SELECT ",
            change_columns!(),
            " FROM changes c WHERE c.revision > $1 ORDER BY c.revision LIMIT $2"
        ));
        changes(&self.rows(query.bind(after).bind(limit(most))).await?)
    }

    pub(super) async fn note_beats(&self, ids: &[EntryId]) -> Result<Vec<(EntryId, i64)>, StoreError> {
        let query = sqlx::query("SELECT id, beat FROM leases WHERE id = ANY ($1)");
        let rows = self.rows(query.bind(ids)).await?;
        decode(rows.iter().map(FromRow::from_row).collect())
    }

    pub(super) async fn expired(&self, ids: &[EntryId]) -> Result<Vec<Change>, StoreError> {
        let query = sqlx::query(concat!(
            "SELECT ",
            change_columns!(),
            " FROM changes c WHERE c.kind = 'expire' AND c.entry_id = ANY ($1) ORDER BY c.revision"
        ));
        changes(&self.rows(query.bind(ids)).await?)
    }

    pub(super) async fn trim(&self, writer: Writer, keep: Keep) -> Result<u64, StoreError> {
        let own = sqlx::query(
            "WITH old AS (SELECT b.seq FROM beats b WHERE b.writer = $1 \
                AND b.seq <= (SELECT w.seq FROM writers w WHERE w.writer = $1) - $2 ORDER BY b.seq LIMIT $3), \
             gone AS (DELETE FROM beats b USING old WHERE b.writer = $1 AND b.seq = old.seq RETURNING 1) \
             SELECT count(*) FROM gone",
        );
        let dead = sqlx::query(
            "WITH old AS (SELECT w.writer, b.seq FROM writers w \
                CROSS JOIN LATERAL (SELECT b.seq FROM beats b WHERE b.writer = w.writer LIMIT $2) b \
                WHERE w.at < clock_timestamp() - make_interval(secs => $1) LIMIT $2), \
             gone AS (DELETE FROM beats b USING old WHERE b.writer = old.writer AND b.seq = old.seq RETURNING 1) \
             SELECT count(*) FROM gone",
        );
        let forgotten = sqlx::query(
            "WITH gone AS (DELETE FROM writers w WHERE w.at < clock_timestamp() - make_interval(secs => $1) \
                AND NOT EXISTS (SELECT FROM beats b WHERE b.writer = w.writer) RETURNING 1) \
             SELECT count(*) FROM gone",
        );
        let changes = sqlx::query(
            "WITH old AS (SELECT c.revision FROM changes c \
                WHERE c.revision <= (SELECT h.revision FROM head h) - $1 ORDER BY c.revision LIMIT $2), \
             gone AS (DELETE FROM changes c USING old WHERE c.revision = old.revision RETURNING 1) \
             SELECT count(*) FROM gone",
        );
        let sessions = sqlx::query(
            "WITH old AS (SELECT e.service, e.instance, e.session FROM ended_sessions e \
                WHERE e.at < clock_timestamp() - make_interval(secs => $1) ORDER BY e.at LIMIT $2), \
             gone AS (DELETE FROM ended_sessions e USING old WHERE (e.service, e.instance, e.session) \
                = (old.service, old.instance, old.session) RETURNING 1) \
             SELECT count(*) FROM gone",
        );
        let silence = WRITER_MEMORY.as_secs_f64();
        let steps = [
            own.bind(writer).bind(i64::from(keep.beats)).bind(TRIM_ROWS),
            dead.bind(silence).bind(TRIM_ROWS),
            forgotten.bind(silence),
            changes.bind(i64::from(keep.changes)).bind(TRIM_ROWS),
            sessions.bind(ENDED_SESSION_MEMORY.as_secs_f64()).bind(TRIM_ROWS),
        ];
        let mut removed = 0;
        for step in steps {
            let counted = self.rows(step).await?;
            removed += counted.first().map_or(Ok(0), |row| decode(row.try_get::<i64, _>(0)))?.unsigned_abs();
        }
        Ok(removed)
    }

    pub(super) async fn close(&self, deadline: Duration) {
        self.pool.close(deadline).await;
    }
}

fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

fn decode<T>(result: Result<T, sqlx::Error>) -> Result<T, StoreError> {
    result.map_err(|error| error::undecodable(&error))
}

fn changes(rows: &[PgRow]) -> Result<Vec<Change>, StoreError> {
    let rows: Vec<ChangeRow> = decode(rows.iter().map(FromRow::from_row).collect())?;
    rows::changes(rows)
}

fn standing(row: &PgRow) -> Result<Standing, StoreError> {
    let id: Option<EntryId> = decode(row.try_get("id"))?;
    let entry = id.map(|_| decode(EntryRow::from_row(row))?.stored()).transpose()?;
    let ended: Option<&str> = decode(row.try_get("ended"))?;
    Ok(Standing { entry, ended_sessions: rows::sessions(ended)? })
}
