use std::time::Duration;

use sqlx::migrate::MigrateError;

use super::{StoreError, Verdict};

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

/// A call that the breaker kept from waiting.
pub(super) fn not_tried() -> StoreError {
    StoreError::Unavailable(
        "not asked, because the last calls failed; it is tried again every second".to_owned(),
    )
}

/// What a failed call says of the link. A server that answers "no" is there; one that is starting, stopping, full or
/// stuck behind a lock is not.
pub(super) fn verdict(error: &sqlx::Error) -> Verdict {
    let sqlx::Error::Database(error) = error else { return Verdict::Fails };
    let code = error.code().unwrap_or_default();
    let away = ["08", "53", "57"].iter().any(|class| code.starts_with(class)) || code == LOCK_NOT_AVAILABLE;
    if away { Verdict::Fails } else { Verdict::Works }
}

/// A write in a transaction that may only read.
const READ_ONLY: &str = "25006";

/// `lock_timeout` ran out.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// A call that was not answered in time.
pub(super) fn late(deadline: Duration) -> StoreError {
    StoreError::Unavailable(format!("no answer within {deadline:?}"))
}

/// A row that is not of the types that this version wrote.
pub(super) fn undecodable(error: &sqlx::Error) -> StoreError {
    StoreError::Unusable(format!("the store gave a row that cannot be read: {error}"))
}

/// Whether other connections are most likely of no use either: no word from the server, a word of farewell, or a
/// server that can only be read any more, as after a fail-over.
pub(super) fn breaks_connection(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("57P") || code == READ_ONLY)
        }
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
