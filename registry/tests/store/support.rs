//! Stores to try things on, and things to try.

use std::time::Duration;

use registry::{
    entry::{Body, Change, EntryId, Key, Kind, Record, Revision, Stored},
    store::{CALL_DEADLINE, Committed, LogRow, Mutation, Standing, Store, StoreError},
};
use testkit::{Postgres, Stopwatch};
use tokio::time::sleep;

/// For what takes no time but the machine's.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A migrated store, and where it is.
pub(crate) struct Place {
    pub(crate) store: Store,
    pub(crate) url: String,
    _dir: Option<tempfile::TempDir>,
}

impl Place {
    pub(crate) async fn postgres() -> Self {
        let url = Postgres::shared().fresh_database().await;
        Self { store: migrated(&url).await, url, _dir: None }
    }

    pub(crate) async fn sqlite() -> Self {
        let dir = testkit::memory_dir();
        let url = format!("sqlite://{}", dir.path().join("registry.db").display());
        Self { store: migrated(&url).await, url, _dir: Some(dir) }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.store, Store::Postgres(_))
    }

    /// Closes the store and opens it anew.
    pub(crate) async fn reopened(self) -> Self {
        self.store.close(Duration::from_secs(5)).await;
        Self { store: migrated(&self.url).await, ..self }
    }
}

/// Opens a store and makes its tables.
pub(crate) async fn migrated(url: &str) -> Store {
    let store = Store::open(url).await.unwrap();
    sure(|| store.migrate()).await;
    store
}

/// What a call gives that may be made twice. It is made again if this machine stood still meanwhile for so long that
/// the call may have run out of time, and for no other reason.
pub(crate) async fn sure<T, F: Future<Output = Result<T, StoreError>>>(call: impl Fn() -> F) -> T {
    let watch = Stopwatch::start();
    loop {
        match call().await {
            Err(StoreError::Unavailable(_)) if stood_still(&watch) && watch.elapsed() < SOON => {}
            result => return result.unwrap(),
        }
        // The breaker lets nobody through for a while.
        sleep(Duration::from_millis(50)).await;
    }
}

/// Whether this machine stood still for a good part of the time that a call has.
pub(crate) fn stood_still(watch: &Stopwatch) -> bool {
    watch.longest_stall() > CALL_DEADLINE / 4
}

pub(crate) fn key(name: &str) -> Key {
    let (service, instance) = name.split_once('/').unwrap_or((name, "default"));
    Key { service: service.parse().unwrap(), instance: instance.parse().unwrap() }
}

/// An entry by `service/instance`.
pub(crate) fn record(name: &str) -> Record {
    Record {
        registered_at: 1_761_307_802.11,
        ..Record::new(key(name), "http://10.0.0.1:8080".parse().unwrap())
    }
}

/// A mutation of a kind, without anything optional.
pub(crate) fn mutation(kind: Kind, record: Record, expected: Option<Revision>) -> Mutation {
    Mutation {
        kind,
        body: Body::new(record),
        expected,
        named_session: None,
        noted_beat: None,
        reason: None,
        actor: None,
    }
}

pub(crate) fn register(name: &str) -> Mutation {
    mutation(Kind::Register, record(name), None)
}

pub(crate) fn expire(entry: &Stored, noted_beat: i64) -> Mutation {
    Mutation {
        noted_beat: Some(noted_beat),
        ..mutation(Kind::Expire, entry.record.clone(), Some(entry.revision))
    }
}

/// Commits a batch of which nothing is passed over.
pub(crate) async fn commit(store: &Store, batch: &[Mutation]) -> Vec<Change> {
    match store.commit(batch).await.unwrap() {
        Committed::Done(changes) => changes.into_iter().map(|change| change.expect("written")).collect(),
        Committed::Conflict(places) => panic!("conflict at {places:?}"),
    }
}

/// Commits one mutation.
pub(crate) async fn commit_one(store: &Store, mutation: Mutation) -> Change {
    commit(store, &[mutation]).await.remove(0)
}

pub(crate) async fn standing(store: &Store, name: &str) -> Standing {
    let keys = [key(name)];
    sure(|| store.read(&keys)).await.remove(0)
}

/// The entry of this name, which must be there.
pub(crate) async fn entry(store: &Store, name: &str) -> Stored {
    standing(store, name).await.entry.unwrap_or_else(|| panic!("no entry {name}"))
}

/// Its beats so far.
pub(crate) async fn beats(store: &Store, id: EntryId) -> i64 {
    let ids = [id];
    sure(|| store.note_beats(&ids)).await.first().expect("a lease").1
}

/// The changes after a revision, in their order, `limit` at most.
pub(crate) async fn log(store: &Store, after: Revision, limit: usize) -> Vec<Change> {
    let page = sure(|| store.changes_after(after, limit, &[])).await;
    let change = |row| match row {
        LogRow::Change(change) => *change,
        other => panic!("{other:?}"),
    };
    page.rows.into_iter().map(change).collect()
}

/// The last revision.
pub(crate) async fn head(store: &Store) -> Revision {
    sure(|| store.load()).await.head
}

pub(crate) fn is_unavailable<T: std::fmt::Debug>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable(_)))
}
