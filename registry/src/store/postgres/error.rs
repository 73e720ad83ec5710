use std::time::Duration;

use sqlx::migrate::MigrateError;

use super::StoreError;

/// What a failed call means. Nothing that Postgres says is beyond repair without a restart of the node: it may be
/// starting, full, read-only, restored from a backup, or its administrator may give the right that is missing.
pub(super) fn unavailable(error: &sqlx::Error) -> StoreError {
    StoreError::Unavailable(match error {
        sqlx::Error::Database(error) => match error.code() {
            Some(code) => format!("{} ({code})", error.message()),
            None => error.message().to_owned(),
        },
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::PoolClosed => "it was closed".to_owned(),
        other => other.to_string(),
    })
}

/// A call that was not answered in time.
pub(super) fn late(deadline: Duration) -> StoreError {
    StoreError::Unavailable(format!("no answer within {deadline:?}"))
}

/// A row that is not of the types that this version wrote.
pub(super) fn undecodable(error: &sqlx::Error) -> StoreError {
    StoreError::Unusable(format!("the store gave a row that cannot be read: {error}"))
}

/// Whether other connections are most likely lost as well: no word from the server, or a word of farewell.
pub(super) fn breaks_connection(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P")),
        _ => true,
    }
}

/// What failed migrations mean.
pub(super) fn migration(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => unavailable(&error),
        other => StoreError::Unusable(format!("the tables cannot be brought to this version: {other}")),
    }
}
