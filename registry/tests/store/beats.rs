use std::time::Duration;

use registry::{
    entry::Kind,
    store::{BeatsWritten, Committed},
};

use crate::support::{
    Place, beats, commit, commit_one, entry, expire, log, mutation, record, register, standing,
};

pub(crate) async fn a_beat_counts(place: Place) {
    let store = &place.store;
    let ids: Vec<i64> =
        commit(store, &[register("a/1"), register("a/2")]).await.iter().map(|change| change.id).collect();
    assert_eq!(store.write_beats(7, 1, &[], Duration::ZERO).await.unwrap(), BeatsWritten::default());
    // In any order, and twice in a batch is once.
    let both = store.write_beats(7, 2, &[ids[1], ids[0], ids[1]], Duration::ZERO).await.unwrap();
    assert_eq!(both, BeatsWritten::default());
    store.write_beats(7, 3, &[ids[0]], Duration::ZERO).await.unwrap();
    assert_eq!((beats(store, ids[0]).await, beats(store, ids[1]).await), (3, 2));
    // It is no change.
    assert_eq!(log(store, 2, 10).await, []);
    assert_eq!(entry(store, "a/1").await.revision, 1);
}

pub(crate) async fn missing_ids_are_named_and_the_others_beat(place: Place) {
    let store = &place.store;
    let id = commit_one(store, register("a/1")).await.id;
    let written = store.write_beats(7, 1, &[id + 900, id, id + 500], Duration::ZERO).await.unwrap();
    assert_eq!(written, BeatsWritten { repeated: false, missing: vec![id + 500, id + 900] });
    assert_eq!(beats(store, id).await, 2);
}

pub(crate) async fn an_expiry_removes(place: Place) {
    let store = &place.store;
    commit_one(store, register("a/1")).await;
    let stored = entry(store, "a/1").await;
    let mut request = expire(&stored, beats(store, stored.id).await);
    request.body.last_seen = Some(1_761_308_042.19);
    request.reason = Some("no beat for 90 s".into());
    let change = commit_one(store, request).await;
    assert_eq!((change.kind, change.id, change.revision), (Kind::Expire, stored.id, 2));
    assert_eq!(standing(store, "a/1").await.entry, None);
    assert_eq!(store.note_beats(&[stored.id]).await.unwrap(), []);
    assert_eq!(log(store, 1, 10).await, [change]);
}

pub(crate) async fn an_expiry_is_passed_over_when_a_beat_came_between(place: Place) {
    let store = &place.store;
    commit(store, &[register("a/1"), register("a/2")]).await;
    let (alive, dead) = (entry(store, "a/1").await, entry(store, "a/2").await);
    let noted = store.note_beats(&[alive.id, dead.id]).await.unwrap();
    assert_eq!(noted, [(alive.id, 1), (dead.id, 1)]);
    store.write_beats(7, 1, &[alive.id], Duration::ZERO).await.unwrap();
    let Committed::Done(changes) = store.commit(&[expire(&alive, 1), expire(&dead, 1)]).await.unwrap() else {
        panic!("a conflict");
    };
    assert_eq!(changes[0], None);
    assert_eq!(changes[1].as_ref().map(|change| (change.revision, change.id)), Some((3, dead.id)));
    assert_eq!(entry(store, "a/1").await, alive);
    assert_eq!(standing(store, "a/2").await.entry, None);
    // All passed over: no revision is used up.
    assert_eq!(store.commit(&[expire(&alive, 1)]).await.unwrap(), Committed::Done(vec![None]));
    assert_eq!(log(store, 3, 10).await, []);
    assert_eq!(commit_one(store, expire(&alive, 2)).await.revision, 4);
}

pub(crate) async fn an_expiry_of_an_entry_that_changed_is_a_conflict(place: Place) {
    let store = &place.store;
    commit_one(store, register("a/1")).await;
    let old = entry(store, "a/1").await;
    commit_one(store, mutation(Kind::Replace, record("a/1"), Some(1))).await;
    assert_eq!(store.commit(&[expire(&old, 1)]).await.unwrap(), Committed::Conflict(vec![0]));
    let now = entry(store, "a/1").await;
    commit_one(store, expire(&now, 2)).await;
    assert_eq!(store.commit(&[expire(&now, 2)]).await.unwrap(), Committed::Conflict(vec![0]));
}

pub(crate) async fn expired_tells_only_of_expiries(place: Place) {
    let store = &place.store;
    let changes = commit(store, &[register("a/1"), register("a/2"), register("a/3")]).await;
    let ids: Vec<i64> = changes.iter().map(|change| change.id).collect();
    commit_one(store, mutation(Kind::Deregister, record("a/1"), Some(1))).await;
    let expired = commit_one(store, expire(&entry(store, "a/2").await, 1)).await;
    assert_eq!(store.expired(&ids).await.unwrap(), [expired]);
    assert_eq!(store.expired(&[ids[0], ids[2], 999]).await.unwrap(), []);
}

pub(crate) async fn noted_beats_leave_out_what_is_gone(place: Place) {
    let store = &place.store;
    let changes = commit(store, &[register("a/1"), register("a/2")]).await;
    commit_one(store, mutation(Kind::Deregister, record("a/1"), Some(1))).await;
    let asked: Vec<i64> = changes.iter().map(|change| change.id).collect();
    assert_eq!(store.note_beats(&asked).await.unwrap(), [(asked[1], 1)]);
    assert_eq!(store.note_beats(&[]).await.unwrap(), []);
}
