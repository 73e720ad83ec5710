use std::time::Duration;

use sqlx::{error::DatabaseError, migrate::MigrateError};

use super::StoreError;

pub(super) const BUSY: i32 = 5;
pub(super) const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANNOT_OPEN: i32 = 14;
const NOT_A_DATABASE: i32 = 26;

/// The primary result code, as sqlite.org/rescode.html lists them.
pub(super) fn code(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error().and_then(DatabaseError::code)?.parse().ok()?;
    Some(extended & 0xff)
}

/// What a failed call means. Busy, full, read-only and disk errors may pass.
pub(super) fn store(error: &sqlx::Error) -> StoreError {
    let text = match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    };
    match code(error) {
        Some(CORRUPT | NOT_A_DATABASE) => {
            StoreError::Unusable(format!("the database file is damaged: {text}"))
        }
        _ => StoreError::Unavailable(text),
    }
}

/// What it means that a file cannot be opened, made or locked.
pub(super) fn open(path: &str, error: &sqlx::Error) -> StoreError {
    StoreError::Unusable(match code(error) {
        Some(BUSY | LOCKED) => format!("{path} is in use by another process"),
        Some(READONLY) => {
            format!("{path} cannot be written: the file, its directory or the disk is read-only")
        }
        Some(FULL) => format!("{path} cannot be written: the disk is full"),
        Some(CANNOT_OPEN) => {
            format!("{path} cannot be opened: does its directory exist, and may this user write there?")
        }
        Some(NOT_A_DATABASE) => format!("{path} is not a SQLite database"),
        Some(CORRUPT) => format!("{path} is damaged: restore it from a backup, or remove it to begin anew"),
        _ => format!("{path} cannot be opened: {error}"),
    })
}

/// A call whose time is up.
pub(super) fn late(deadline: Duration) -> StoreError {
    StoreError::Unavailable(format!("the disk gave no answer within {deadline:?}"))
}

/// A row that is not of the types that this version wrote.
pub(super) fn undecodable(error: &sqlx::Error) -> StoreError {
    StoreError::Unusable(format!("the store gave a row that cannot be read: {error}"))
}

/// What failed migrations mean.
pub(super) fn migration(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => store(&error),
        other => StoreError::Unusable(format!("the tables cannot be brought to this version: {other}")),
    }
}
