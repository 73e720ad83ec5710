use super::*;

#[test]
fn an_answer_that_lay_there_during_a_pause_is_old() {
    let at = |millis| Moment::from_start(Duration::from_millis(millis));
    assert_eq!(read_at(at(1000), at(1020)), at(1020));
    assert_eq!(read_at(at(1000), at(11_000)), at(1000).plus(CALL_DEADLINE));
}
