use super::*;

fn at(second: u64) -> Moment {
    Moment::from_start(Duration::from_secs(second))
}

fn beats(ids: &[EntryId], second: u64) -> Beats {
    Beats { ids: ids.to_vec(), youngest: at(second) }
}

fn none() -> Beats {
    Beats { ids: Vec::new(), youngest: Moment::NEVER }
}

#[test]
fn a_row_holds_each_entry_once_in_order() {
    let mut buffer = Buffer::new();
    buffer.add(beats(&[5, 1, 5, 3], 1));
    assert_eq!(buffer.row(at(1)), (1, &[1, 3, 5][..], Duration::ZERO));
}

#[test]
fn without_beats_there_is_still_a_row() {
    let mut buffer = Buffer::new();
    buffer.add(none());
    assert_eq!(buffer.row(at(9)), (1, &[][..], Duration::ZERO));
    assert_eq!(buffer.written(), Vec::<EntryId>::new());
    buffer.add(none());
    assert_eq!(buffer.row(at(10)), (2, &[][..], Duration::ZERO));
}

#[test]
fn beats_whose_commit_is_not_known_are_merged_into_the_same_row() {
    let mut buffer = Buffer::new();
    buffer.add(beats(&[2], 1));
    buffer.add(beats(&[1], 2));
    assert_eq!(buffer.row(at(2)), (1, &[1, 2][..], Duration::ZERO));
    assert_eq!(buffer.written(), vec![1, 2]);
    buffer.add(beats(&[1], 3));
    assert_eq!(buffer.row(at(3)), (2, &[1][..], Duration::ZERO));
}

#[test]
fn beats_of_a_row_that_was_there_already_go_into_the_next() {
    let mut buffer = Buffer::new();
    buffer.add(beats(&[2], 1));
    buffer.add(beats(&[1], 2));
    buffer.repeated();
    assert_eq!(buffer.row(at(4)), (2, &[1, 2][..], Duration::from_secs(2)));
    assert_eq!(buffer.written(), vec![1, 2]);
}

#[test]
fn a_row_has_waited_as_long_as_its_youngest_beat() {
    let mut buffer = Buffer::new();
    buffer.add(beats(&[1], 1));
    buffer.add(beats(&[2], 3));
    buffer.add(none());
    assert_eq!(buffer.row(at(300)).2, Duration::from_secs(297));
    buffer.written();
    buffer.add(none());
    assert_eq!(buffer.row(at(301)).2, Duration::ZERO);
    buffer.add(beats(&[1], 302));
    assert_eq!(buffer.row(at(303)).2, Duration::from_secs(1));
}
