use super::*;

#[test]
fn a_batch_holds_each_entry_once_in_order() {
    let mut buffer = Buffer::new();
    assert_eq!(buffer.batch(&[5, 1, 5, 3]), (1, &[1, 3, 5][..]));
}

#[test]
fn an_empty_batch_still_has_a_row() {
    let mut buffer = Buffer::new();
    assert_eq!(buffer.batch(&[]), (1, &[][..]));
    assert_eq!(buffer.written(), Vec::<EntryId>::new());
    assert_eq!(buffer.batch(&[]), (2, &[][..]));
}

#[test]
fn beats_whose_commit_is_not_known_are_merged_into_the_same_row() {
    let mut buffer = Buffer::new();
    buffer.batch(&[2]);
    assert_eq!(buffer.batch(&[1]), (1, &[1, 2][..]));
    assert_eq!(buffer.written(), vec![1, 2]);
    assert_eq!(buffer.batch(&[1]), (2, &[1][..]));
}

#[test]
fn beats_of_a_row_that_was_there_already_go_into_the_next() {
    let mut buffer = Buffer::new();
    buffer.batch(&[2]);
    buffer.batch(&[1]);
    buffer.repeated();
    assert_eq!(buffer.batch(&[]), (2, &[1, 2][..]));
    assert_eq!(buffer.written(), vec![1, 2]);
}
