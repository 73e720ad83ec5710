use super::*;

/// Rows of these revisions and tags; a tag below zero is that of an epoch.
fn rows(rows: &[(Revision, Tag)]) -> Vec<LogRow> {
    let row = |&(revision, tag): &(Revision, Tag)| match tag {
        ..0 => LogRow::Epoch { revision, tag },
        _ => LogRow::Unknown { revision, tag, kind: "later".into() },
    };
    rows.iter().map(row).collect()
}

/// What a log of these rows answers to a reader at `cursor`.
fn page(log: &[(Revision, Tag)], cursor: Revision, seen: Revision) -> LogPage {
    LogPage {
        head: log.last().map(|row| row.0),
        first: log.first().map(|row| row.0),
        cursor_tag: log.iter().find(|row| row.0 == cursor).map(|row| row.1),
        rows: rows(&log.iter().copied().filter(|row| row.0 > cursor).collect::<Vec<_>>()),
        seen,
    }
}

/// Who has read this log to its end.
fn reader(log: &[(Revision, Tag)]) -> History {
    let mut history = History::default();
    history.check(&page(log, 0, 0)).unwrap();
    history.read(&rows(log));
    history
}

fn own(history: &mut History, revision: Revision, tag: Tag) {
    history.ahead.insert(revision, tag);
}

const LOG: [(Revision, Tag); 3] = [(1, 7), (2, 8), (3, 8)];

#[track_caller]
fn lost(history: &History, log: &[(Revision, Tag)], seen: Revision) {
    let checked = history.check(&page(log, history.cursor(), seen));
    assert!(matches!(checked, Err(Broken::Lost(_))), "{checked:?}");
}

#[track_caller]
fn sound(history: &History, log: &[(Revision, Tag)], seen: Revision) {
    assert_eq!(history.check(&page(log, history.cursor(), seen)), Ok(()));
}

#[test]
fn a_log_that_stands_or_grows_is_sound() {
    let history = reader(&LOG);
    sound(&history, &LOG, 3);
    sound(&history, &[(1, 7), (2, 8), (3, 8), (4, 9)], 3);
    sound(&history, &[(3, 8), (4, 9)], 3);
    sound(&history, &[(4, 9), (5, 9)], 3);
    sound(&History::default(), &[], 0);
}

#[test]
fn rows_trimmed_before_they_were_read_are_told_from_a_loss() {
    let checked = reader(&LOG).check(&page(&[(6, 9), (7, 9)], 3, 3));
    assert_eq!(checked, Err(Broken::Trimmed { expected: 4, found: 6 }));
    let checked = History::default().check(&page(&[(6, 9)], 0, 0));
    assert_eq!(checked, Err(Broken::Trimmed { expected: 1, found: 6 }));
}

#[test]
fn another_tag_at_the_cursor_is_a_loss() {
    lost(&reader(&LOG), &[(1, 7), (2, 8), (3, 5)], 3);
    lost(&reader(&LOG), &[(1, 7), (2, 5), (3, 5), (4, 5)], 3);
}

#[test]
fn a_revision_that_went_back_is_a_loss() {
    lost(&reader(&LOG), &[(1, 7), (2, 8)], 3);
    // Also of what was committed and not read yet.
    lost(&reader(&LOG), &LOG, 4);
}

#[test]
fn an_emptied_store_is_a_loss() {
    lost(&reader(&LOG), &[], 3);
    lost(&History::default(), &[], 1);
    // Already begun anew, by a node that had seen more or less.
    lost(&reader(&LOG), &[(9, -1), (10, 5)], 3);
    lost(&reader(&LOG), &[(2, -1), (3, 5)], 3);
    lost(&reader(&LOG), &[(1, 5), (2, 5), (3, 5)], 3);
}

#[test]
fn an_emptied_log_beside_a_revision_that_stayed_is_a_loss_but_no_reason_to_load_twice() {
    let mut history = reader(&LOG);
    let empty = LogPage { head: Some(3), seen: 3, ..LogPage::default() };
    assert!(matches!(history.check(&empty), Err(Broken::Lost(_))));
    history.begin(&Loaded { head: 3, head_tag: None, ..Loaded::default() });
    assert_eq!(history.check(&empty), Ok(()));
    sound(&history, &[(4, 9)], 3);
}

#[test]
fn an_epoch_alone_may_leave_a_gap() {
    let history = reader(&LOG);
    sound(&history, &[(1, 7), (2, 8), (3, 8), (9, -1), (10, 5), (20, -2)], 3);
    lost(&history, &[(1, 7), (2, 8), (3, 8), (9, 5)], 3);
    lost(&history, &[(1, 7), (2, 8), (3, 8), (9, -1), (11, 5)], 3);
}

#[test]
fn an_own_change_must_be_found_in_the_log() {
    let mut history = reader(&LOG);
    own(&mut history, 5, 6);
    sound(&history, &[(3, 8), (4, 9)], 3);
    sound(&history, &[(3, 8), (4, 9), (5, 6)], 5);
    lost(&history, &[(3, 8), (4, 9), (5, 9)], 5);
    lost(&history, &[(3, 8), (6, -1), (7, 4)], 5);
    history.read(&rows(&[(4, 9), (5, 6)]));
    assert!(history.ahead.is_empty());
}
