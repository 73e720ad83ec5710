use std::time::Duration;

use sqlx::{
    ConnectOptions, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous},
};

use super::{StoreError, error};

/// For the process before us to be gone.
const LOCK_PATIENCE: Duration = Duration::from_millis(250);

/// Opens or makes the file, and takes its lock for as long as the connection lives.
pub(super) async fn open(options: &SqliteConnectOptions) -> Result<SqliteConnection, StoreError> {
    let path = options.get_filename().display().to_string();
    let options = options
        .clone()
        .create_if_missing(true)
        .shared_cache(false)
        .busy_timeout(LOCK_PATIENCE)
        .locking_mode(SqliteLockingMode::Exclusive)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // The load is a stream of many rows from the thread of the file to ours.
        .row_buffer_size(2_000)
        .thread_name(|_| "sqlite".to_owned())
        .disable_statement_logging();
    let opened = async {
        let mut connection = options.connect().await?;
        // Takes the lock, and tells at once whether the file can be written; in exclusive mode COMMIT keeps the lock.
        sqlx::raw_sql("BEGIN EXCLUSIVE; COMMIT").execute(&mut connection).await?;
        Ok(connection)
    };
    opened.await.map_err(|error| error::open(&path, &error))
}
