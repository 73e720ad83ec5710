//! The shared store after it went back in time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use registry::store::{BeatRow, LogRow, Store};
use testkit::Postgres;

use crate::{
    postgres::execute,
    support::{Place, commit_one, head, log, migrated, register, standing},
};

const TRUNCATE: &str =
    "TRUNCATE head, instances, leases, changes, ended_sessions, beats, writers RESTART IDENTITY";

async fn rows(store: &Store, after: i64) -> Vec<LogRow> {
    store.changes_after(after, 100, &[]).await.unwrap().rows
}

/// So far above what is known does an epoch begin.
const JUMP: i64 = 10_000;

#[tokio::test]
async fn a_truncated_store_goes_on_above_what_was_seen_without_using_an_id_again() {
    let Place { store, url, .. } = Place::postgres().await;
    let before = commit_one(&store, register("a/1")).await;
    commit_one(&store, register("a/2")).await;
    execute(&url, TRUNCATE).await;
    assert_eq!(standing(&store, "a/1").await.entry, None);
    let page = store.changes_after(2, 10, &[]).await.unwrap();
    assert_eq!((page.head, page.first, page.cursor_tag, page.seen), (None, None, None, 2));

    let after = commit_one(&store, register("a/1")).await;
    assert_eq!(after.revision, 2 + JUMP + 1, "after the epoch");
    assert!(after.id > before.id);
    let rows = rows(&store, 0).await;
    assert!(matches!(rows[0], LogRow::Epoch { revision, .. } if revision == 2 + JUMP), "{rows:?}");
    assert_eq!(rows[1], LogRow::Change(Box::new(after)));
    assert_eq!(head(&store).await, 3 + JUMP);
    // Once is enough.
    assert_eq!(commit_one(&store, register("a/2")).await.revision, 4 + JUMP);
}

#[tokio::test]
async fn an_older_state_goes_on_above_what_was_seen() {
    let Place { store, url, .. } = Place::postgres().await;
    for n in 0..4 {
        commit_one(&store, register(&format!("a/{n}"))).await;
    }
    // What an asynchronous fail-over leaves.
    execute(
        &url,
        "BEGIN; DELETE FROM changes WHERE revision > 2; DELETE FROM instances WHERE revision > 2; \
         UPDATE head SET revision = 2; COMMIT",
    )
    .await;
    // A node that saw less goes on where the store stands.
    let other = migrated(&url).await;
    assert_eq!(head(&other).await, 2);
    assert_eq!(commit_one(&other, register("b/1")).await.revision, 3);
    store.begin_epoch(true).await.unwrap();
    assert_eq!(head(&store).await, 4 + JUMP);
    assert_eq!(commit_one(&store, register("b/2")).await.revision, 4 + JUMP + 1);
    let kinds: Vec<bool> =
        rows(&store, 2).await.iter().map(|row| matches!(row, LogRow::Epoch { .. })).collect();
    assert_eq!(kinds, [false, true, false]);
}

#[tokio::test]
async fn who_knows_of_a_loss_begins_anew_although_the_revision_came_as_far_again() {
    let Place { store, url, .. } = Place::postgres().await;
    for n in 1..=3 {
        commit_one(&store, register(&format!("a/{n}"))).await;
    }
    execute(&url, "BEGIN; DELETE FROM changes WHERE revision > 2; UPDATE head SET revision = 2; COMMIT")
        .await;
    let other = migrated(&url).await;
    for n in 3..=5 {
        assert_eq!(commit_one(&other, register(&format!("b/{n}"))).await.revision, n);
    }
    // This one has seen another change at 3.
    store.begin_epoch(true).await.unwrap();
    let last = rows(&store, 5).await;
    assert!(matches!(last[..], [LogRow::Epoch { revision, .. }] if revision == 5 + JUMP), "{last:?}");
    assert_eq!(commit_one(&store, register("b/6")).await.revision, 5 + JUMP + 1);
}

/// A node that fell behind a trim has lost nothing, and neither has one whose load is tried again.
#[tokio::test]
async fn who_knows_of_no_loss_begins_an_epoch_only_where_something_is_missing() {
    let Place { store, url, .. } = Place::postgres().await;
    for n in 1..=3 {
        commit_one(&store, register(&format!("a/{n}"))).await;
    }
    execute(&url, "DELETE FROM changes WHERE revision < 3").await;
    store.begin_epoch(false).await.unwrap();
    assert_eq!((head(&store).await, rows(&store, 2).await.len()), (3, 1));

    execute(&url, "UPDATE head SET revision = 2").await;
    store.begin_epoch(false).await.unwrap();
    assert_eq!(head(&store).await, 3 + JUMP);
    store.begin_epoch(false).await.unwrap();
    assert_eq!(head(&store).await, 3 + JUMP);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_saw_different_revisions_begin_anew_at_once() {
    let Place { store, url, .. } = Place::postgres().await;
    let mut stores = vec![];
    for n in 0..6 {
        let last = commit_one(&store, register(&format!("a/{n}"))).await;
        let node = migrated(&url).await;
        assert_eq!(head(&node).await, last.revision);
        stores.push(Arc::new(node));
    }
    execute(&url, TRUNCATE).await;
    let commits = stores.iter().enumerate().map(|(n, store)| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let seen = i64::try_from(n).unwrap() + 1;
            if n % 2 == 0 {
                store.begin_epoch(true).await.unwrap();
                assert!(head(&store).await > seen);
            } else {
                assert!(commit_one(&store, register(&format!("b/{n}"))).await.revision > seen);
            }
        })
    });
    for commit in commits.collect::<Vec<_>>() {
        commit.await.unwrap();
    }
    // In order, and each gap begins with an epoch.
    let rows = rows(&store, 0).await;
    for pair in rows.windows(2) {
        let gap = pair[1].revision() != pair[0].revision() + 1;
        assert!(!gap || matches!(pair[1], LogRow::Epoch { .. }), "{rows:?}");
        assert!(pair[1].revision() > pair[0].revision());
    }
    assert_eq!(head(&store).await, rows.last().unwrap().revision());
}

#[tokio::test]
async fn a_kind_of_a_later_version_is_passed_over() {
    let Place { store, url, .. } = Place::postgres().await;
    commit_one(&store, register("a/1")).await;
    execute(
        &url,
        "BEGIN; UPDATE head SET revision = 2; INSERT INTO changes (revision, tag, at, kind, service, instance, \
         entry_id, body) VALUES (2, 77, now(), 'quorum', 'a', '1', 1, '{\"of\": 3}'); COMMIT",
    )
    .await;
    let later = commit_one(&store, register("a/2")).await;
    let unknown = LogRow::Unknown { revision: 2, tag: 77, kind: "quorum".into() };
    assert_eq!(rows(&store, 1).await, [unknown, LogRow::Change(Box::new(later))]);
    assert_eq!(store.load().await.unwrap().entries.len(), 2);
}

#[tokio::test]
async fn the_table_is_read_slice_by_slice_in_the_order_of_keys() {
    let Place { store, .. } = Place::postgres().await;
    let empty = store.slice(None, 10).await.unwrap().unwrap();
    assert_eq!((empty.head, empty.entries.len(), empty.last), (0, 0, true));
    for name in ["b/2", "a/z", "a-b/1", "b/10", "a/1"] {
        commit_one(&store, register(name)).await;
    }
    let (mut after, mut names) = (None, Vec::new());
    loop {
        let slice = store.slice(after, 2).await.unwrap().unwrap();
        assert_eq!(slice.head, 5);
        names.extend(slice.entries.iter().map(|stored| stored.record.key().to_string()));
        if slice.last {
            break;
        }
        after = slice.entries.last().map(|stored| stored.record.key());
    }
    let mut sorted: Vec<_> = ["b/2", "a/z", "a-b/1", "b/10", "a/1"].map(crate::support::key).into();
    sorted.sort();
    assert_eq!(names, sorted.iter().map(ToString::to_string).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_commit_comes_with_the_tag_that_the_log_holds() {
    let place = Place::postgres().await;
    let change = commit_one(&place.store, register("a/1")).await;
    assert_eq!(log(&place.store, 0, 10).await, std::slice::from_ref(&change));
    let page = place.store.changes_after(1, 10, &[]).await.unwrap();
    assert_eq!((page.head, page.first, page.cursor_tag), (Some(1), Some(1), Some(change.tag)));
    assert_eq!(place.store.load().await.unwrap().head_tag, Some(change.tag));
}

#[tokio::test]
async fn a_writer_that_went_back_is_told() {
    let url = Postgres::shared().fresh_database().await;
    let store = migrated(&url).await;
    for seq in 1..=5 {
        store.write_beats(9, seq, &[], Duration::ZERO).await.unwrap();
    }
    let cursors = BTreeMap::from([(9, 5)]);
    assert_eq!(store.beats_after(&cursors, 0).await.unwrap(), []);
    execute(&url, "BEGIN; DELETE FROM beats WHERE seq > 3; UPDATE writers SET seq = 3; COMMIT").await;
    assert_eq!(
        store.beats_after(&cursors, 0).await.unwrap(),
        [BeatRow { writer: 9, seq: 3, ids: vec![], waited: Duration::ZERO, later: 0 }]
    );
    // A writer that is trimmed away is no news.
    execute(&url, "DELETE FROM beats").await;
    assert_eq!(store.beats_after(&BTreeMap::from([(9, 2)]), 0).await.unwrap(), []);
}
