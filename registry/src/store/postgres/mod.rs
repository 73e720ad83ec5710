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
mod migrate;
mod pool;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use sqlx::{
    FromRow, Postgres as Pg, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::{sync::watch, time::timeout};

use self::pool::Pool;
use super::{
    BeatRow, BeatsWritten, CALL_DEADLINE, Committed, ENDED_SESSION_MEMORY, ENDED_SESSIONS_LOADED, Hosts,
    Keep, LogPage, Mutation, Slice, Standing, Store, StoreError, WRITER_MEMORY, Writer,
    batch::{self, Written},
    breaker::{Breaker, Pass, Verdict},
    rows::{self, ChangeRow, EntryRow, entry_columns},
};
use crate::{
    entry::{Change, EntryId, Key, Revision, Tag},
    metrics::Breaker as Shown,
};

/// Rows that one statement of [`Postgres::trim`] removes at most.
const TRIM_ROWS: i64 = 5_000;

/// The columns of a change, `changes AS c`; what it did stands there as text, or as `$body` says.
macro_rules! change_columns {
    () => {
        change_columns!("c.body::text")
    };
    ($body:literal) => {
        concat!(
            "c.revision, c.tag, c.entry_id, extract(epoch FROM c.at)::float8 AS at, c.kind, c.reason, c.actor, ",
            $body,
            " AS body"
        )
    };
}
use change_columns;

/// A row of `commit_changes_after`.
type CommittedRow = (i32, Option<Revision>, Option<EntryId>, Option<f64>, Option<Tag>);

/// Postgres, and how it is spoken to.
#[derive(Debug)]
pub struct Postgres {
    pool: Pool,
    breaker: Breaker,
    /// The last revision that any call gave.
    seen: AtomicI64,
}

impl Postgres {
    pub(super) fn new(hosts: &Hosts) -> Self {
        Self { pool: Pool::new(hosts), breaker: Breaker::new(), seen: AtomicI64::new(0) }
    }

    pub(super) fn breaker(&self) -> watch::Receiver<Shown> {
        self.breaker.watch()
    }

    /// Runs one statement, within the deadline of a call.
    async fn rows(&self, query: Query<'_, Pg, PgArguments>) -> Result<Vec<PgRow>, StoreError> {
        self.call(Pass::Ordinary, query).await
    }

    async fn call(&self, pass: Pass, query: Query<'_, Pg, PgArguments>) -> Result<Vec<PgRow>, StoreError> {
        if !self.breaker.admit(pass) {
            return Err(error::not_tried());
        }
        let call = async {
            let mut held = self.pool.take().await?;
            let rows = query.fetch_all(held.connection()).await?;
            held.give_back();
            Ok(rows)
        };
        self.judged(timeout(CALL_DEADLINE, call).await.map_err(|_| error::late(CALL_DEADLINE)))
    }

    /// What a call that has ended says of the link, and of the connections that rest.
    fn judged<T>(&self, result: Result<Result<T, sqlx::Error>, StoreError>) -> Result<T, StoreError> {
        let (verdict, error) = match result {
            Ok(Ok(value)) => {
                self.breaker.ended(Verdict::Works, "");
                return Ok(value);
            }
            Ok(Err(failed)) => {
                if error::breaks_connection(&failed) {
                    self.pool.forget();
                }
                (error::verdict(&failed), error::unavailable(&failed))
            }
            Err(late) => {
                self.pool.forget();
                (Verdict::Fails, late)
            }
        };
        self.breaker.ended(verdict, &error.to_string());
        Err(error)
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
            "SELECT out_place, out_revision, out_entry, out_at, out_tag \
             FROM commit_changes_after($1::text::jsonb, $2, $3)",
        );
        let query =
            query.bind(batch::json(batch)?).bind(ENDED_SESSION_MEMORY.as_secs_f64()).bind(self.seen());
        let rows = self.rows(query).await?;
        let (mut written, mut conflicts) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            let (place, revision, id, at, tag): CommittedRow = decode(FromRow::from_row(&row))?;
            let place = usize::try_from(place).unwrap_or(usize::MAX);
            match (revision, id, at, tag) {
                (Some(revision), Some(id), Some(at), Some(tag)) => {
                    self.see(revision);
                    written.push(Written { place, revision, id, at, tag });
                }
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
        waited: Duration,
    ) -> Result<BeatsWritten, StoreError> {
        let waited = i32::try_from(waited.as_millis()).unwrap_or(i32::MAX);
        let query = sqlx::query("SELECT repeated, missing FROM write_beats($1, $2, $3, $4)");
        let rows = self.call(Pass::Probe, query.bind(writer).bind(seq).bind(ids).bind(waited)).await?;
        let row = rows.first().ok_or_else(|| error::undecodable(&sqlx::Error::RowNotFound))?;
        let (repeated, missing) = decode(FromRow::from_row(row))?;
        Ok(BeatsWritten { repeated, missing })
    }

    pub(super) async fn beats_after(
        &self,
        cursors: &BTreeMap<Writer, i64>,
        own: Writer,
    ) -> Result<Vec<BeatRow>, StoreError> {
        // Writer by writer through the key of beats; those without news cost one comparison.
        let query = sqlx::query(
            "SELECT w.writer, coalesce(b.seq, w.seq) AS seq, \
                CASE WHEN w.writer = $4 THEN '{}' ELSE coalesce(b.ids, '{}') END AS ids, \
                coalesce(b.waited, 0) AS waited, coalesce(w.seq - b.seq, 0) AS later FROM writers w \
             LEFT JOIN unnest($1::bigint[], $2::bigint[]) c(writer, seq) ON c.writer = w.writer \
             LEFT JOIN LATERAL (SELECT b.seq, b.ids, b.waited FROM beats b \
                WHERE b.writer = w.writer AND b.seq > coalesce(c.seq, 0) ORDER BY b.seq LIMIT $3) b ON true \
             WHERE w.seq < c.seq OR (w.seq > coalesce(c.seq, 0) AND b.seq IS NOT NULL) \
             ORDER BY w.writer, seq LIMIT $3",
        );
        let (writers, seqs): (Vec<Writer>, Vec<i64>) = cursors.iter().unzip();
        let rows = self.rows(query.bind(writers).bind(seqs).bind(limit(Store::BEATS_PAGE)).bind(own)).await?;
        let beat = |row: &PgRow| {
            let (writer, seq, ids, waited, later): (_, _, _, i32, i64) = FromRow::from_row(row)?;
            let waited = Duration::from_millis(waited.try_into().unwrap_or(0));
            Ok(BeatRow { writer, seq, ids, waited, later: later.try_into().unwrap_or(0) })
        };
        decode(rows.iter().map(beat).collect())
    }

    pub(super) async fn changes_after(
        &self,
        after: Revision,
        most: usize,
        known: &[Tag],
    ) -> Result<LogPage, StoreError> {
        let seen = self.seen();
        // One statement, one snapshot: the rows, and what tells whether they go on where the reader stopped.
        let query = sqlx::query(concat!(
            "SELECT (SELECT h.revision FROM head h) AS head, (SELECT min(f.revision) FROM changes f) AS first, \
             c.* FROM (SELECT) one LEFT JOIN LATERAL (SELECT ",
            change_columns!(
                "CASE WHEN c.tag = ANY ($3) AND c.kind <> 'expire' THEN NULL ELSE c.body::text END"
            ),
            " FROM changes c WHERE c.revision >= $1 ORDER BY c.revision LIMIT $2) c ON true ORDER BY c.revision"
        ));
        let rows = self.rows(query.bind(after).bind(limit(most.saturating_add(1))).bind(known)).await?;
        let mut page = LogPage { seen, ..LogPage::default() };
        for row in &rows {
            page.head = decode(row.try_get("head"))?;
            page.first = decode(row.try_get("first"))?;
            let revision: Option<Revision> = decode(row.try_get("revision"))?;
            // No row at all, but what stands beside them.
            let Some(revision) = revision else { continue };
            if revision == after {
                page.cursor_tag = Some(decode(row.try_get("tag"))?);
            } else if page.rows.len() < most {
                self.see(revision);
                page.rows.push(decode(ChangeRow::from_row(row))?.row()?);
            }
        }
        Ok(page)
    }

    pub(super) async fn slice(&self, after: Option<Key>, most: usize) -> Result<Slice, StoreError> {
        // In the order of bytes, as the columns are: that of the view.
        let query = sqlx::query(concat!(
            "SELECT coalesce((SELECT h.revision FROM head h), 0) AS head, i.* FROM (SELECT) one \
             LEFT JOIN LATERAL (SELECT ",
            entry_columns!(),
            " FROM instances i WHERE (i.service, i.instance) > ($1, $2) ORDER BY i.service, i.instance LIMIT $3) i \
             ON true ORDER BY i.service, i.instance"
        ));
        let (service, instance) =
            after.as_ref().map_or(("", ""), |key| (key.service.as_str(), key.instance.as_str()));
        let rows = self.rows(query.bind(service).bind(instance).bind(limit(most))).await?;
        let mut slice =
            Slice { head: 0, entries: Vec::with_capacity(rows.len()), last: rows.len() < most, after };
        for row in &rows {
            slice.head = decode(row.try_get("head"))?;
            // No row at all, but the head.
            if decode::<Option<EntryId>>(row.try_get("id"))?.is_some() {
                slice.entries.push(decode(EntryRow::from_row(row))?.stored()?);
            }
        }
        Ok(slice)
    }

    pub(super) async fn begin_epoch(&self, lost: bool) -> Result<(), StoreError> {
        let rows = self.rows(sqlx::query("SELECT begin_epoch($1, $2)").bind(self.seen()).bind(lost)).await?;
        let row = rows.first().ok_or_else(|| error::undecodable(&sqlx::Error::RowNotFound))?;
        self.see(decode(row.try_get(0))?);
        Ok(())
    }

    fn seen(&self) -> Revision {
        self.seen.load(Ordering::Acquire)
    }

    fn see(&self, revision: Revision) {
        self.seen.fetch_max(revision, Ordering::AcqRel);
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
        // The size of a row tells how many beats it holds, and needs no look into it.
        let own = sqlx::query(
            "WITH kept AS (SELECT b.seq, sum(pg_column_size(b.ids) / 8) OVER (ORDER BY b.seq DESC) AS beats \
                FROM beats b WHERE b.writer = $1), \
             old AS (SELECT k.seq FROM kept k \
                WHERE k.seq <= (SELECT w.seq FROM writers w WHERE w.writer = $1) - $2 OR k.beats > $4 \
                ORDER BY k.seq LIMIT $3), \
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
            own.bind(writer).bind(i64::from(keep.beats)).bind(TRIM_ROWS).bind(i64::from(keep.beats_in_all)),
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
