use std::{collections::BTreeSet, sync::Arc, time::Duration};

use registry::{
    entry::{Body, Change, Kind, Stored},
    store::{Committed, LogRow, Mutation, Standing, StoreError},
};
use registry_wire::{Metadata, Output, Reason, Status, Ttl};

use crate::support::{
    Place, beats, commit, commit_one, entry, expire, head, key, log, mutation, record, register, standing,
};

pub(crate) async fn an_empty_store_knows_nothing(place: Place) {
    let store = &place.store;
    assert_eq!(
        store.read(&[key("a/1"), key("b/1")]).await.unwrap(),
        [Standing::default(), Standing::default()]
    );
    assert_eq!(store.read(&[]).await.unwrap(), []);
    assert_eq!(store.commit(&[]).await.unwrap(), Committed::Done(vec![]));
    assert_eq!(log(store, 0, 10).await, []);
    assert_eq!(store.expired(&[1]).await.unwrap(), []);
    assert_eq!(head(store).await, 0);
}

pub(crate) async fn a_registration_is_read_back_whole(place: Place) {
    let store = &place.store;
    let mut full = record("osint_service/vertice-osint:8049");
    full.endpoint = "https://[::1]:8049/base?x=1".parse().unwrap();
    full.health_endpoint = "/up".parse().unwrap();
    full.metadata.insert("version", "1.4.2").unwrap();
    full.ttl_seconds = Ttl::try_from(3600).unwrap();
    full.session = Some("s-1".parse().unwrap());
    full.status = Status::Critical;
    full.output = Some("connection refused".parse().unwrap());
    full.operator_drain = Some("kernel".parse().unwrap());
    full.session_drain = Some("stopping".parse().unwrap());
    full.observed_address = Some("172.18.0.7".into());
    let request = Mutation {
        reason: Some("first".into()),
        actor: Some("10.0.0.9".into()),
        ..mutation(Kind::Register, full.clone(), None)
    };
    let change = commit_one(store, request).await;
    assert_eq!((change.revision, change.kind), (1, Kind::Register));
    assert_eq!((change.reason.as_deref(), change.actor.as_deref()), (Some("first"), Some("10.0.0.9")));
    assert!(change.at > 1.7e9, "{}", change.at);
    assert_eq!(change.body.record, full);

    let stored = Stored { id: change.id, revision: 1, record: full };
    // In the order asked for, the unknown ones in their places.
    let read = store.read(&[key("x"), key("osint_service/vertice-osint:8049"), key("y")]).await.unwrap();
    let entries: Vec<Option<Stored>> = read.into_iter().map(|standing| standing.entry).collect();
    assert_eq!(entries, [None, Some(stored), None]);
    assert_eq!(log(store, 0, 10).await, [change]);
}

pub(crate) async fn of_a_change_that_the_reader_knows_only_the_number_is_read_but_an_expiry_comes_whole(
    place: Place,
) {
    let store = &place.store;
    let first = commit_one(store, register("a/1")).await;
    let stored = entry(store, "a/1").await;
    let batch = commit(store, &[expire(&stored, 1), register("b/1")]).await;
    let last = commit_one(store, register("c/1")).await;
    let known = |change: &Change| LogRow::Known { revision: change.revision, tag: change.tag };
    let whole = |change: &Change| LogRow::Change(Box::new(change.clone()));
    let page = store.changes_after(0, 10, &[first.tag, batch[0].tag]).await.unwrap();
    assert_eq!(page.rows, [known(&first), whole(&batch[0]), known(&batch[1]), whole(&last)]);
    let page = store.changes_after(first.revision, 2, &[last.tag]).await.unwrap();
    assert_eq!(page.rows, [whole(&batch[0]), whole(&batch[1])]);
    assert_eq!(page.cursor_tag, Some(first.tag));
}

pub(crate) async fn an_id_stays_through_replacements_and_is_never_used_again(place: Place) {
    let store = &place.store;
    let first = commit_one(store, register("a/1")).await;
    let mut moved = record("a/1");
    moved.endpoint = "http://10.0.0.2:9090".parse().unwrap();
    let replaced = commit_one(store, mutation(Kind::Replace, moved.clone(), Some(1))).await;
    assert_eq!((replaced.id, replaced.revision), (first.id, 2));
    // Registered over an entry whose lease had ended: the same entry.
    let over = commit_one(store, mutation(Kind::Register, moved.clone(), Some(2))).await;
    assert_eq!((over.id, over.revision), (first.id, 3));
    assert_eq!(entry(store, "a/1").await, Stored { id: first.id, revision: 3, record: moved.clone() });
    assert_eq!(beats(store, first.id).await, 3);

    let removed = commit_one(store, mutation(Kind::Deregister, moved, Some(3))).await;
    assert_eq!((removed.id, removed.revision), (first.id, 4));
    assert_eq!(standing(store, "a/1").await.entry, None);
    assert_eq!(store.note_beats(&[first.id]).await.unwrap(), []);

    let mut ids = BTreeSet::from([first.id]);
    for _ in 0..3 {
        let again = commit_one(store, register("a/1")).await;
        assert!(ids.insert(again.id), "{} was used before", again.id);
        assert_eq!(beats(store, again.id).await, 1);
        commit_one(store, expire(&entry(store, "a/1").await, 1)).await;
    }
    // Also not after a restart.
    let place = place.reopened().await;
    let again = commit_one(&place.store, register("a/1")).await;
    assert!(ids.insert(again.id), "{} was used before", again.id);
}

pub(crate) async fn a_conflict_writes_nothing(place: Place) {
    let store = &place.store;
    commit(store, &[register("a/1"), register("b/1")]).await;
    let before = store.load().await.unwrap();
    let batch = [
        register("new/1"),
        register("a/1"),
        mutation(Kind::Replace, record("b/1"), Some(1)),
        mutation(Kind::Deregister, record("absent/1"), Some(7)),
        Mutation {
            body: Body { ended_session: Some("e".parse().unwrap()), ..register("new/2").body },
            ..register("new/2")
        },
    ];
    assert_eq!(store.commit(&batch).await.unwrap(), Committed::Conflict(vec![1, 2, 3]));
    let mut after = store.load().await.unwrap();
    for (after, before) in after.entries.iter_mut().zip(&before.entries) {
        after.since_beat = before.since_beat;
    }
    assert_eq!(after, before);
    assert_eq!(log(store, 0, 10).await.len(), 2);
    assert_eq!(standing(store, "new/2").await, Standing::default());
    // The next one goes on without a gap.
    assert_eq!(commit_one(store, register("new/1")).await.revision, 3);
}

fn ending(session: &str, mut request: Mutation) -> Mutation {
    request.body.ended_session = Some(session.parse().unwrap());
    request
}

fn naming(session: &str, request: Mutation) -> Mutation {
    Mutation { named_session: Some(session.parse().unwrap()), ..request }
}

pub(crate) async fn an_ended_session_may_not_be_named(place: Place) {
    let store = &place.store;
    commit_one(store, naming("s1", register("a/1"))).await;
    commit_one(store, ending("s1", naming("s2", mutation(Kind::Replace, record("a/1"), Some(1))))).await;
    let late = naming("s1", mutation(Kind::Replace, record("a/1"), Some(2)));
    assert_eq!(store.commit(&[register("b/1"), late]).await.unwrap(), Committed::Conflict(vec![1]));
    // Of another key it says nothing, and unnamed it is no matter.
    commit_one(store, naming("s1", register("a/2"))).await;
    commit_one(store, naming("s2", mutation(Kind::Replace, record("a/1"), Some(2)))).await;
    commit_one(store, mutation(Kind::Replace, record("a/1"), Some(4))).await;
    // It stays ended when the entry is gone.
    commit_one(store, ending("s2", mutation(Kind::Deregister, record("a/1"), Some(5)))).await;
    for session in ["s1", "s2"] {
        let late = naming(session, register("a/1"));
        assert_eq!(store.commit(&[late]).await.unwrap(), Committed::Conflict(vec![0]), "{session}");
    }
}

pub(crate) async fn ended_sessions_are_remembered_by_key(place: Place) {
    let store = &place.store;
    commit(store, &[register("a/1"), register("a/2")]).await;
    commit_one(store, ending("s1", mutation(Kind::Replace, record("a/1"), Some(1)))).await;
    commit_one(store, ending("s2", mutation(Kind::Replace, record("a/1"), Some(3)))).await;
    let ended = standing(store, "a/1").await.ended_sessions;
    assert_eq!(ended.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["s1", "s2"]);
    assert_eq!(standing(store, "a/2").await.ended_sessions, []);
    let place = place.reopened().await;
    assert_eq!(standing(&place.store, "a/1").await.ended_sessions, ended);
    let loaded = place.store.load().await.unwrap();
    let of = |name| loaded.entries.iter().find(|entry| entry.record.key() == key(name)).unwrap();
    assert_eq!(of("a/1").ended_sessions, ended);
    assert_eq!(of("a/2").ended_sessions, []);
}

pub(crate) async fn of_one_key_as_many_ended_sessions_are_kept_as_a_node_remembers(place: Place) {
    let store = &place.store;
    commit(store, &[register("a/1"), register("a/2")]).await;
    commit_one(store, ending("other", mutation(Kind::Replace, record("a/2"), Some(2)))).await;
    for number in 0..70 {
        let expected = entry(store, "a/1").await.revision;
        let next = mutation(Kind::Replace, record("a/1"), Some(expected));
        commit_one(store, ending(&format!("s{number}"), next)).await;
    }
    let ended = standing(store, "a/1").await.ended_sessions;
    let newest: Vec<String> = (6..70).map(|number| format!("s{number}")).collect();
    assert_eq!(ended.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), newest);
    assert_eq!(standing(store, "a/2").await.ended_sessions.len(), 1);
    // One that is forgotten may be named again, as after an hour.
    let expected = entry(store, "a/1").await.revision;
    let named = |session: &str| Mutation {
        named_session: Some(session.parse().unwrap()),
        ..mutation(Kind::Replace, record("a/1"), Some(expected))
    };
    assert_eq!(store.commit(&[named("s6")]).await.unwrap(), Committed::Conflict(vec![0]));
    commit_one(store, named("s5")).await;
}

pub(crate) async fn an_operators_drain_is_no_beat(place: Place) {
    let store = &place.store;
    let id = commit_one(store, register("a/1")).await.id;
    let mut drained = record("a/1");
    drained.operator_drain = Some(Reason::default());
    commit_one(store, mutation(Kind::Drain, drained.clone(), Some(1))).await;
    assert_eq!(entry(store, "a/1").await.record, drained);
    commit_one(store, mutation(Kind::Undrain, record("a/1"), Some(2))).await;
    assert_eq!(entry(store, "a/1").await.record, record("a/1"));
    assert_eq!(beats(store, id).await, 1);
    let mut critical = record("a/1");
    critical.status = Status::Critical;
    critical.output = Some(Output::fit("no answer"));
    commit_one(store, mutation(Kind::Status, critical.clone(), Some(3))).await;
    assert_eq!(entry(store, "a/1").await.record, critical);
    assert_eq!(beats(store, id).await, 2);
}

pub(crate) async fn a_batch_is_answered_in_its_order(place: Place) {
    let store = &place.store;
    let ids: Vec<i64> = commit(store, &[register("b/1"), register("a/1"), register("c/1")])
        .await
        .into_iter()
        .map(|change| change.id)
        .collect();
    let beaten = entry(store, "a/1").await;
    store.write_beats(1, 1, &[beaten.id], Duration::ZERO).await.unwrap();
    let batch = [
        mutation(Kind::Replace, record("c/1"), Some(3)),
        register("z/1"),
        expire(&beaten, 1),
        mutation(Kind::Deregister, record("b/1"), Some(1)),
        register("d/1"),
    ];
    let Committed::Done(changes) = store.commit(&batch).await.unwrap() else { panic!("a conflict") };
    let revisions: Vec<Option<i64>> =
        changes.iter().map(|change| change.as_ref().map(|change| change.revision)).collect();
    assert_eq!(revisions, [Some(4), Some(5), None, Some(6), Some(7)]);
    let of = |place: usize| changes[place].as_ref().unwrap().id;
    assert_eq!((of(0), of(3)), (ids[2], ids[0]));
    let log = log(store, 3, 10).await;
    assert_eq!(log, changes.into_iter().flatten().collect::<Vec<Change>>());
}

/// As many as a node commits at once.
const LARGEST: usize = 512;

pub(crate) async fn the_largest_batch(place: Place) {
    let store = &place.store;
    let batch: Vec<Mutation> = (0..LARGEST).map(|n| register(&format!("s{}/i{n}", n % 7))).collect();
    let changes = commit(store, &batch).await;
    let revisions: Vec<i64> = changes.iter().map(|change| change.revision).collect();
    assert_eq!(revisions, (1..=512).collect::<Vec<i64>>());
    assert_eq!(changes.iter().map(|change| change.id).collect::<BTreeSet<i64>>().len(), LARGEST);
    let replace: Vec<Mutation> = changes
        .iter()
        .rev()
        .map(|change| mutation(Kind::Replace, change.body.record.clone(), Some(change.revision)))
        .collect();
    let replaced = commit(store, &replace).await;
    assert!(replaced.iter().zip(changes.iter().rev()).all(|(after, before)| after.id == before.id));
    let keys: Vec<_> = changes.iter().map(Change::key).collect();
    let read = store.read(&keys).await.unwrap();
    assert!(
        read.iter().zip(&keys).all(|(standing, key)| standing.entry.as_ref().unwrap().record.key() == *key)
    );
    assert_eq!(head(store).await, 1024);
}

pub(crate) async fn a_large_batch_of_large_entries(place: Place) {
    let store = &place.store;
    let large = |n: usize| {
        let mut record = record(&format!("s{}/i{n}", n % 7));
        for key in 0..32 {
            record.metadata.insert(&format!("k{key}"), &"\u{1f980}".repeat(256)).unwrap();
        }
        mutation(Kind::Register, record, None)
    };
    // About as many as flush puts into one.
    let batch: Vec<Mutation> = (0..33).map(large).collect();
    assert_eq!(commit(store, &batch).await.len(), 33);
}

pub(crate) async fn revisions_are_gapless_under_many_committers(place: Place) {
    let store = Arc::new(place.store);
    let committers = (0..8).map(|committer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut changes = Vec::new();
            for round in 0..10 {
                let batch: Vec<Mutation> =
                    (0..5).map(|n| register(&format!("s{committer}/r{round}-{n}"))).collect();
                let written = commit(&store, &batch).await;
                // A batch is one run of revisions.
                assert!(written.windows(2).all(|pair| pair[1].revision == pair[0].revision + 1));
                changes.extend(written);
            }
            changes
        })
    });
    let mut all = Vec::new();
    for committer in committers.collect::<Vec<_>>() {
        all.extend(committer.await.unwrap());
    }
    all.sort_by_key(|change| change.revision);
    assert_eq!(
        all.iter().map(|change| change.revision).collect::<Vec<i64>>(),
        (1..=400).collect::<Vec<i64>>()
    );
    assert_eq!(log(&store, 0, 1000).await, all);
}

pub(crate) async fn changes_are_read_page_by_page(place: Place) {
    let store = &place.store;
    let batch: Vec<Mutation> = (0..10).map(|n| register(&format!("s/{n}"))).collect();
    let all = commit(store, &batch).await;
    let mut read = Vec::new();
    loop {
        let after = read.last().map_or(0, |change: &Change| change.revision);
        let page = log(store, after, 4).await;
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 4);
        read.extend(page);
    }
    assert_eq!(read, all);
}

pub(crate) async fn what_no_caller_may_ask_for_is_refused(place: Place) {
    let store = &place.store;
    commit_one(store, register("a/1")).await;
    let stored = entry(store, "a/1").await;
    let wrong = [
        vec![register("b/1"), register("c/1"), register("b/1")],
        vec![mutation(Kind::Deregister, record("a/1"), None)],
        vec![mutation(Kind::Drain, record("a/1"), None)],
        vec![Mutation { noted_beat: None, ..expire(&stored, 1) }],
    ];
    for batch in wrong {
        assert!(matches!(store.commit(&batch).await, Err(StoreError::Unusable(_))), "{batch:?}");
    }
    assert_eq!(head(store).await, 1);
}

pub(crate) async fn texts_of_all_kinds_survive(place: Place) {
    let store = &place.store;
    let mut strange = record("a/1");
    let mut metadata = Metadata::default();
    metadata.insert("name", "Vértice 頂点 🗻 \u{feff}").unwrap();
    metadata.insert("quotes", r#"'"\ $$ {} [] \u0000 ; -- $.x"#).unwrap();
    metadata.insert("empty", "").unwrap();
    metadata.insert("number", "1e400").unwrap();
    metadata.insert("a.b-c_D", "null").unwrap();
    strange.metadata = metadata;
    strange.session = Some("🗝 ' \" \\".parse().unwrap());
    strange.output = Some("line one\n\tline \"two\"\r\nline three \\".parse().unwrap());
    strange.operator_drain = Some("".parse().unwrap());
    // Floats come back as they went in.
    strange.registered_at = 1_761_308_042.19_f64.next_up();
    let request = Mutation {
        reason: Some("'); DROP TABLE instances; --".into()),
        actor: Some("ü".into()),
        ..mutation(Kind::Register, strange.clone(), None)
    };
    let change = commit_one(store, request).await;
    assert_eq!(entry(store, "a/1").await.record, strange);
    assert_eq!(log(store, 0, 1).await, [change]);
    let named = Mutation {
        named_session: strange.session.clone(),
        ..mutation(Kind::Replace, strange.clone(), Some(1))
    };
    commit_one(
        store,
        Mutation {
            body: registry::entry::Body { ended_session: strange.session.clone(), ..named.body.clone() },
            ..named.clone()
        },
    )
    .await;
    assert_eq!(standing(store, "a/1").await.ended_sessions, [strange.session.unwrap()]);
    let late = Mutation { expected: Some(2), ..named };
    assert_eq!(store.commit(&[late]).await.unwrap(), Committed::Conflict(vec![0]));
    assert_eq!(store.load().await.unwrap().entries[0].stored(), entry(store, "a/1").await);
}

pub(crate) async fn an_entry_is_revived_with_a_new_id(place: Place) {
    let store = &place.store;
    let first = commit_one(store, register("a/1")).await;
    let gone = commit_one(store, expire(&entry(store, "a/1").await, 1)).await;
    assert_eq!(store.write_beats(1, 1, &[first.id], Duration::ZERO).await.unwrap().missing, [first.id]);
    assert_eq!(store.expired(&[first.id]).await.unwrap(), [gone]);
    let revival = mutation(Kind::Revive, record("a/1"), None);
    let waited = Duration::from_mins(50);
    let revival = Mutation { body: Body { waited_ms: 3_000_000, ..revival.body.clone() }, ..revival };
    let revived = commit_one(store, revival.clone()).await;
    assert_eq!((revived.body.waited(), log(store, 2, 1).await), (waited, vec![revived.clone()]));
    let since = store.load().await.unwrap().entries[0].since_beat;
    assert!((waited..waited + Duration::from_mins(1)).contains(&since), "as old as its beat, not {since:?}");
    assert_ne!(revived.id, first.id);
    assert_eq!(entry(store, "a/1").await, Stored { id: revived.id, revision: 3, record: record("a/1") });
    assert_eq!(beats(store, revived.id).await, 1);
    // Twice is noticed, and harmless.
    let twice = store.commit(&[revival]).await.unwrap();
    assert_eq!(twice, Committed::Conflict(vec![0]));
}

pub(crate) async fn what_the_brake_tells_leaves_the_entry_as_it_is(place: Place) {
    let store = &place.store;
    let first = commit_one(store, register("a/1")).await;
    let before = entry(store, "a/1").await;
    for (kind, expected) in [(Kind::Hold, 1), (Kind::Release, 2)] {
        let told = Mutation { reason: Some("told".into()), ..mutation(kind, record("a/1"), Some(expected)) };
        let told = commit_one(store, told).await;
        assert_eq!((told.kind, told.id, told.reason.as_deref()), (kind, first.id, Some("told")));
        let after = entry(store, "a/1").await;
        assert_eq!((after.id, &after.record), (before.id, &before.record));
        assert_eq!(log(store, expected, 10).await, [told]);
    }
    assert_eq!(beats(store, first.id).await, 1, "neither is a beat");
}
