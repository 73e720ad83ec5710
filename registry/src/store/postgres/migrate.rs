use std::{collections::HashMap, time::Duration};

use sqlx::{PgConnection, migrate::Migrator};
use tokio::time::timeout;

use super::{CALL_DEADLINE, Pass, Postgres, StoreError, error};

/// The tables and functions of this version.
static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

/// Held while migrating: one node at a time. Any number that no other program on this database uses.
const MIGRATION_LOCK: i64 = 0x7265_6769_7374_7279;

const DEADLINE: Duration = Duration::from_mins(1);

impl Postgres {
    /// A call that is tried again and again at start, and so finds out whether the store is there.
    pub(in crate::store) async fn migrate(&self) -> Result<(), StoreError> {
        self.breaker.admit(Pass::Probe);
        let late = |_| error::late(CALL_DEADLINE);
        let found = timeout(CALL_DEADLINE, async {
            let mut connection = self.pool.connect().await?;
            let done = done(&mut connection).await?;
            Ok((connection, done))
        });
        let (mut connection, done) = match found.await {
            // Says nothing of the tables that calls are about: they may be locked.
            Ok(Ok(found)) => found,
            failed => self.judged(failed.map_err(late))?,
        };
        if done {
            return Ok(());
        }
        timeout(DEADLINE, migrate(&mut connection)).await.unwrap_or_else(|_| Err(error::late(DEADLINE)))
    }
}

/// Whether nothing is left to do: then nobody is waited for, and nothing is locked.
async fn done(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let there: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        return Ok(false);
    }
    let applied: HashMap<i64, Vec<u8>> =
        sqlx::query_as::<_, (i64, Vec<u8>)>("SELECT version, checksum FROM _sqlx_migrations WHERE success")
            .fetch_all(connection)
            .await?
            .into_iter()
            .collect();
    let same = |version, checksum: &[u8]| applied.get(&version).is_some_and(|applied| applied == checksum);
    Ok(MIGRATIONS.iter().all(|migration| same(migration.version, &migration.checksum)))
}

/// All in one transaction, with a lock that ends with it: it works through a pooler too, and nobody ever sees half of
/// it. Nodes that run are not kept waiting for long by a table lock.
async fn migrate(connection: &mut PgConnection) -> Result<(), StoreError> {
    let work = async {
        let mut transaction = sqlx::Connection::begin(connection).await?;
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
    work.await.map_err(error::migration)
}
