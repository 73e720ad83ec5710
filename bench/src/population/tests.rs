use std::collections::HashSet;

use super::*;

#[test]
fn no_two_instances_have_one_path() {
    let population = Population { services: 7, instances: 3 };
    let paths: HashSet<_> = (0..population.len()).map(|n| population.path(n)).collect();
    assert_eq!(paths.len(), 21);
}

#[test]
fn an_answer_is_whole_when_its_body_is() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(answer(bytes).expect("an answer"), Some((200, bytes.len())));
    assert_eq!(answer(&bytes[..20]).expect("no answer yet"), None);
    let empty = b"HTTP/1.1 204 No Content\r\nage: 0\r\n\r\n";
    assert_eq!(answer(empty).expect("an answer"), Some((204, empty.len())));
}
