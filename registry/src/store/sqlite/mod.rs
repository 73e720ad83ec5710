//! The store of a single node: a file that this process alone uses.
//!
//! In: the calls of [`super::Store`].
//! Owns: the file's lock, the one connection, its deadlines, the SQL of SQLite.
//! Out: rows, or an error that says whether to try again.
//!
//! A call that has begun runs to its end in a task of its own, also when its caller has gone or its time is up: a
//! transaction is never left half-way on the only connection. At most one call runs, and none begins that nobody
//! waits for.

mod commit;
mod error;
mod open;
mod read;

use std::{sync::Arc, time::Duration};

use sqlx::{SqliteConnection, migrate::Migrator, sqlite::SqliteConnectOptions};
use tokio::{
    sync::{Mutex, OwnedMutexGuard, watch},
    time::{Instant, timeout, timeout_at},
};

use super::{
    BeatsWritten, CALL_DEADLINE, Committed, Keep, Loaded, LogPage, Mutation, Standing, StoreError, Writer,
    batch::{self, Written},
    rows,
};
use crate::{
    entry::{Change, EntryId, Key, Revision, Tag},
    metrics::Breaker,
};

/// The tables of this version.
static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// For what is done once, at start.
const START_DEADLINE: Duration = Duration::from_mins(1);

/// The connection, until it is closed.
type Slot = Option<SqliteConnection>;

/// A SQLite file, locked.
#[derive(Debug)]
pub struct Sqlite {
    slot: Arc<Mutex<Slot>>,
    /// How the last call went. No call is ever kept from being made: a file is there or fails at once.
    shown: watch::Sender<Breaker>,
}

/// The connection while a call has it.
struct Held(OwnedMutexGuard<Slot>);

impl Held {
    fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        self.0.as_mut().ok_or_else(|| StoreError::Unavailable("it was closed".into()))
    }
}

impl Sqlite {
    pub(super) async fn open(options: &SqliteConnectOptions) -> Result<Self, StoreError> {
        let connection = timeout(START_DEADLINE, open::open(options))
            .await
            .unwrap_or_else(|_| Err(error::late(START_DEADLINE)))?;
        Ok(Self { slot: Arc::new(Mutex::new(Some(connection))), shown: watch::Sender::new(Breaker::Closed) })
    }

    pub(super) fn breaker(&self) -> watch::Receiver<Breaker> {
        self.shown.subscribe()
    }

    /// Runs `work` on the connection, and gives up waiting for it after `deadline`.
    async fn within<T, F, Fut>(&self, deadline: Duration, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(Held) -> Fut,
        Fut: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let result = self.run(deadline, work).await;
        self.shown.send_replace(if result.is_ok() { Breaker::Closed } else { Breaker::Open });
        result
    }

    async fn run<T, F, Fut>(&self, deadline: Duration, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(Held) -> Fut,
        Fut: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let end = Instant::now() + deadline;
        let late = |_| error::late(deadline);
        let held = Held(timeout_at(end, Arc::clone(&self.slot).lock_owned()).await.map_err(late)?);
        let task = tokio::spawn(work(held));
        timeout_at(end, task)
            .await
            .map_err(late)?
            .map_err(|error| StoreError::Unavailable(error.to_string()))?
    }

    pub(super) async fn migrate(&self) -> Result<(), StoreError> {
        self.within(START_DEADLINE, async move |mut held: Held| {
            let mut migrator = Migrator::with_migrations(MIGRATIONS.iter().cloned().collect());
            migrator.set_ignore_missing(true);
            migrator.run_direct(None, held.connection()?, false).await.map_err(error::migration)
        })
        .await
    }

    pub(super) async fn read(&self, keys: &[Key]) -> Result<Vec<Standing>, StoreError> {
        let pairs: Vec<(&str, &str)> =
            keys.iter().map(|key| (key.service.as_str(), key.instance.as_str())).collect();
        let keys = list(&pairs)?;
        self.within(CALL_DEADLINE, async move |mut held: Held| {
            read::standings(held.connection()?, keys).await
        })
        .await
    }

    pub(super) async fn commit(&self, mutations: &[Mutation]) -> Result<Committed, StoreError> {
        let items = batch::json_items(mutations)?;
        let plans = mutations.iter().map(commit::Plan::from).collect();
        let outcome = self
            .within(CALL_DEADLINE, async move |mut held: Held| {
                commit::commit(held.connection()?, items, plans).await
            })
            .await?;
        Ok(match outcome {
            commit::Outcome::Conflict(places) => Committed::Conflict(places),
            commit::Outcome::Written(written) => batch::done(mutations, &written),
        })
    }

    pub(super) async fn write_beats(
        &self,
        _writer: Writer,
        _seq: i64,
        ids: Vec<EntryId>,
        waited: Duration,
    ) -> Result<BeatsWritten, StoreError> {
        if ids.is_empty() {
            return Ok(BeatsWritten::default());
        }
        self.within(CALL_DEADLINE, async move |mut held: Held| {
            commit::beats(held.connection()?, list(&ids)?, ids.len(), waited).await
        })
        .await
    }

    pub(super) async fn changes_after(
        &self,
        after: Revision,
        limit: usize,
        known: &[Tag],
    ) -> Result<LogPage, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let known = list(known)?;
        self.within(CALL_DEADLINE, async move |mut held: Held| {
            read::changes_after(held.connection()?, after, limit, known).await
        })
        .await
    }

    pub(super) async fn note_beats(&self, ids: &[EntryId]) -> Result<Vec<(EntryId, i64)>, StoreError> {
        let ids = list(ids)?;
        self.within(CALL_DEADLINE, async move |mut held: Held| {
            read::note_beats(held.connection()?, ids).await
        })
        .await
    }

    pub(super) async fn expired(&self, ids: &[EntryId]) -> Result<Vec<Change>, StoreError> {
        let ids = list(ids)?;
        self.within(CALL_DEADLINE, async move |mut held: Held| read::expired(held.connection()?, ids).await)
            .await
    }

    pub(super) async fn load(&self) -> Result<Loaded, StoreError> {
        self.within(START_DEADLINE, async move |mut held: Held| read::load(held.connection()?).await).await
    }

    pub(super) async fn trim(&self, _writer: Writer, keep: Keep) -> Result<u64, StoreError> {
        self.within(CALL_DEADLINE, async move |mut held: Held| commit::trim(held.connection()?, keep).await)
            .await
    }

    pub(super) async fn close(&self, deadline: Duration) {
        let close = async {
            if let Some(connection) = self.slot.lock().await.take() {
                let _ = sqlx::Connection::close(connection).await;
            }
        };
        let _ = timeout(deadline, close).await;
    }
}

/// A list as `json_each` reads it.
fn list<T: serde::Serialize>(items: &[T]) -> Result<String, StoreError> {
    serde_json::to_string(items).map_err(|error| StoreError::Unusable(error.to_string()))
}
