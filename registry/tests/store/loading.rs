use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use registry::{
    entry::{Kind, Stored},
    store::{Keep, Loaded},
};
use sqlx::{Connection, PgConnection, SqliteConnection};

use crate::support::{
    Place, commit, commit_one, entry, expire, head, is_unavailable, key, log, mutation, record, register,
    standing,
};

pub(crate) async fn what_is_loaded_is_what_was_written(place: Place) {
    let store = &place.store;
    assert_eq!(store.load().await.unwrap(), Loaded::default());
    let batch: Vec<_> = (0..50)
        .map(|n| {
            let mut request = register(&format!("s{}/{n}", n % 3));
            request.body.record.metadata.insert("n", &n.to_string()).unwrap();
            request
        })
        .collect();
    let changes = commit(store, &batch).await;
    commit_one(store, mutation(Kind::Deregister, record("s0/0"), Some(1))).await;
    store.write_beats(5, 1, &[changes[1].id], Duration::ZERO).await.unwrap();
    store.write_beats(5, 2, &[], Duration::ZERO).await.unwrap();
    store.write_beats(-9, 1, &[], Duration::ZERO).await.unwrap();

    let place = place.reopened().await;
    let loaded = place.store.load().await.unwrap();
    assert_eq!(loaded.head, 51);
    let mut entries: Vec<Stored> = loaded.entries.iter().map(registry::store::LoadedEntry::stored).collect();
    entries.sort_by_key(|stored| stored.revision);
    let expected: Vec<Stored> = changes[1..]
        .iter()
        .map(|change| Stored { id: change.id, revision: change.revision, record: change.body.record.clone() })
        .collect();
    assert_eq!(entries, expected);
    let cursors = if place.is_postgres() { BTreeMap::from([(5, 2), (-9, 1)]) } else { BTreeMap::new() };
    assert_eq!(loaded.cursors, cursors);
}

pub(crate) async fn the_time_since_the_last_beat_is_told(place: Place) {
    let store = &place.store;
    let names = ["a/1", "a/2", "a/3", "a/4"];
    let changes = commit(store, &names.map(register)).await;
    execute(
        &place,
        "UPDATE leases SET beat_at = now() - interval '1 hour' WHERE id < 3",
        "UPDATE leases SET beat_at = beat_at - 3600 WHERE id < 3",
    )
    .await;
    execute(
        &place,
        "UPDATE leases SET beat_at = now() + interval '1 hour' WHERE id = 3",
        "UPDATE leases SET beat_at = beat_at + 3600 WHERE id = 3",
    )
    .await;
    let place = reopened_if_sqlite(place).await;
    place.store.write_beats(1, 1, &[changes[1].id], Duration::ZERO).await.unwrap();
    let waited = Duration::from_hours(2);
    place.store.write_beats(1, 2, &[changes[3].id], waited).await.unwrap();
    let loaded = place.store.load().await.unwrap();
    let since =
        |name| loaded.entries.iter().find(|entry| entry.record.key() == key(name)).unwrap().since_beat;
    assert!((Duration::from_hours(1)..Duration::from_mins(61)).contains(&since("a/1")), "{:?}", since("a/1"));
    assert!(since("a/2") < Duration::from_mins(1), "{:?}", since("a/2"));
    // A clock that was set back.
    assert_eq!(since("a/3"), Duration::ZERO);
    // A beat that waited for the store.
    assert!((waited..waited + Duration::from_mins(1)).contains(&since("a/4")), "{:?}", since("a/4"));
}

pub(crate) async fn a_renewal_is_told_from_a_registration(place: Place) {
    let store = &place.store;
    let changes =
        commit(store, &[register("a/never"), register("a/beat"), register("a/again"), register("a/drained")])
            .await;
    store.write_beats(1, 1, &[changes[1].id], Duration::ZERO).await.unwrap();
    commit_one(store, mutation(Kind::Replace, record("a/again"), Some(3))).await;
    commit_one(store, mutation(Kind::Drain, record("a/drained"), Some(4))).await;
    let loaded = store.load().await.unwrap();
    let renewed: Vec<String> = loaded
        .entries
        .iter()
        .filter(|entry| entry.renewed)
        .map(|entry| entry.record.instance().to_owned())
        .collect();
    assert_eq!(std::collections::BTreeSet::from_iter(renewed), ["again".into(), "beat".into()].into());
}

pub(crate) async fn removals_are_remembered_oldest_first(place: Place) {
    let store = &place.store;
    commit(store, &[register("a/1"), register("a/2"), register("a/3"), register("a/4")]).await;
    let one = commit_one(store, mutation(Kind::Deregister, record("a/2"), Some(2))).await;
    let two = commit_one(store, expire(&entry(store, "a/1").await, 1)).await;
    let old = commit_one(store, mutation(Kind::Deregister, record("a/3"), Some(3))).await;
    commit_one(store, mutation(Kind::Drain, record("a/4"), Some(4))).await;
    assert_eq!(store.load().await.unwrap().gone, [one.clone(), two.clone(), old]);
    execute(
        &place,
        "UPDATE changes SET at = now() - interval '25 hours' WHERE revision = 7",
        "UPDATE changes SET at = at - 25 * 3600 WHERE revision = 7",
    )
    .await;
    let place = reopened_if_sqlite(place).await;
    assert_eq!(place.store.load().await.unwrap().gone, [one, two]);
}

pub(crate) async fn sessions_that_ended_are_loaded_with_and_without_an_entry(place: Place) {
    let store = &place.store;
    let session = |text: &str| Some(text.parse::<registry_wire::Session>().unwrap());
    commit(store, &[register("a/here"), register("a/gone")]).await;
    let mut replace = mutation(Kind::Replace, record("a/here"), Some(1));
    replace.body.ended_session = session("replaced");
    let mut deregister = mutation(Kind::Deregister, record("a/gone"), Some(2));
    deregister.body.ended_session = session("left");
    commit(store, &[replace, deregister]).await;
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded.entries.len(), 1);
    assert_eq!(loaded.entries[0].ended_sessions, [session("replaced").unwrap()]);
    assert_eq!(loaded.past_sessions, [(key("a/gone"), vec![session("left").unwrap()])]);
}

pub(crate) async fn history_is_trimmed_from_its_beginning(place: Place) {
    let store = &place.store;
    let batch: Vec<_> = (0..20).map(|n| register(&format!("s/{n}"))).collect();
    commit(store, &batch).await;
    for session in ["old", "new"] {
        let revision = entry(store, "s/0").await.revision;
        let mut request = mutation(Kind::Replace, record("s/0"), Some(revision));
        request.body.ended_session = Some(session.parse().unwrap());
        commit_one(store, request).await;
    }
    execute(
        &place,
        "UPDATE ended_sessions SET at = now() - interval '61 minutes' WHERE session = 'old'",
        "UPDATE ended_sessions SET at = at - 61 * 60 WHERE session = 'old'",
    )
    .await;
    let place = reopened_if_sqlite(place).await;
    let store = &place.store;
    // What is too old is not known any more, trimmed or not.
    let ended = standing(store, "s/0").await.ended_sessions;
    assert_eq!(ended, ["new".parse().unwrap()]);

    assert_eq!(store.trim(1, Keep::default()).await.unwrap(), 1);
    assert_eq!(log(store, 0, 100).await.len(), 22);
    assert_eq!(store.trim(1, Keep { changes: 5, ..Keep::default() }).await.unwrap(), 17);
    let left: BTreeSet<i64> = log(store, 0, 100).await.iter().map(|change| change.revision).collect();
    assert_eq!(left, (18..=22).collect());
    assert_eq!(store.trim(1, Keep { changes: 5, ..Keep::default() }).await.unwrap(), 0);
    assert_eq!(store.load().await.unwrap().entries.len(), 20);
    assert_eq!(commit_one(store, register("more/1")).await.revision, 23);
}

pub(crate) async fn migrating_again_changes_nothing(place: Place) {
    commit_one(&place.store, register("a/1")).await;
    place.store.migrate().await.unwrap();
    let place = place.reopened().await;
    assert_eq!(head(&place.store).await, 1);
    assert_eq!(commit_one(&place.store, register("a/2")).await.revision, 2);
}

pub(crate) async fn a_later_schema_is_left_alone(place: Place) {
    commit_one(&place.store, register("a/1")).await;
    execute(
        &place,
        "ALTER TABLE instances ADD COLUMN later text; INSERT INTO _sqlx_migrations \
         (version, description, success, checksum, execution_time) VALUES (9999, 'later', true, 'x', 1)",
        "ALTER TABLE instances ADD COLUMN later text; INSERT INTO _sqlx_migrations \
         (version, description, success, checksum, execution_time) VALUES (9999, 'later', true, 'x', 1)",
    )
    .await;
    let place = reopened_if_sqlite(place).await;
    place.store.migrate().await.unwrap();
    assert_eq!(commit_one(&place.store, register("a/2")).await.revision, 2);
    assert_eq!(place.store.load().await.unwrap().entries.len(), 2);
}

pub(crate) async fn a_closed_store_is_out_of_reach(place: Place) {
    commit_one(&place.store, register("a/1")).await;
    place.store.close(Duration::from_secs(5)).await;
    assert!(is_unavailable(&place.store.read(&[key("a/1")]).await));
    assert!(is_unavailable(&place.store.commit(&[register("a/2")]).await));
    assert!(is_unavailable(&place.store.load().await));
    // Twice is no fault.
    place.store.close(Duration::from_secs(5)).await;
}

/// Runs SQL of one's own. The file is let go for it, since nobody else may have it: reopen it afterwards.
async fn execute(place: &Place, postgres: &'static str, sqlite: &'static str) {
    if place.is_postgres() {
        let mut connection = PgConnection::connect(&place.url).await.unwrap();
        sqlx::raw_sql(postgres).execute(&mut connection).await.unwrap();
    } else {
        place.store.close(Duration::from_secs(5)).await;
        let mut connection = SqliteConnection::connect(&place.url).await.unwrap();
        sqlx::raw_sql(sqlite).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

async fn reopened_if_sqlite(place: Place) -> Place {
    if place.is_postgres() { place } else { place.reopened().await }
}
