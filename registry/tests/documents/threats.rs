//! SECURITY.md names the tests of each threat: they are there.

use std::fs;

use crate::{markdown::Document, support::root};

/// What stands in backticks in a cell.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The names of a cell that are no tests of the file before them.
fn missing(cell: &str) -> Vec<String> {
    let (mut file, mut text, mut missing) = ("", String::new(), Vec::new());
    for word in quoted(cell) {
        if word.contains('/') {
            file = word;
            text = fs::read_to_string(root().join(file)).unwrap_or_default();
        } else if !text.contains(&format!("fn {word}(")) {
            missing.push(format!("{word} in {file}"));
        }
    }
    missing
}

#[test]
fn every_threat_has_tests_and_every_one_that_is_named_is_there() {
    let document = Document::read("SECURITY.md");
    let table = document.table("Threats, answers, tests", "what somebody might do");
    assert!(table.rows.len() >= 12, "{}", table.rows.len());
    for row in &table.rows {
        assert_eq!(missing(&row[2]), Vec::<String>::new(), "{}", row[0]);
        assert!(quoted(&row[2]).any(|word| !word.contains('/')), "{}: no test is named", row[0]);
    }
}

#[test]
fn a_test_that_is_not_there_is_missed() {
    let cell = "`registry/tests/documents/threats.rs` `a_test_that_is_not_there_is_missed` `no_such_test`";
    assert_eq!(missing(cell), ["no_such_test in registry/tests/documents/threats.rs"]);
    assert_eq!(missing("`no/such/file.rs` `missing`").len(), 1);
}
