use std::time::Duration;

use proptest::prelude::*;

use registry_wire::{Problem, ProblemType};

use super::read;
use crate::machine::{Answer, Kind};

const KINDS: [Kind; 4] = [Kind::Register, Kind::Beat, Kind::Drain, Kind::Deregister];

fn problem(kind: ProblemType) -> Vec<u8> {
    serde_json::to_vec(&Problem::new(kind, "a sentence for people")).unwrap()
}

fn is_unavailable(answer: &Answer) -> bool {
    matches!(answer, Answer::Unavailable { .. })
}

#[test]
fn the_documented_bodies_are_successes_and_unknown_fields_are_ignored() {
    let body = br#" {"ttl_seconds":90,"heartbeat_interval_seconds":30,"new_in_later_version":{}}"#;
    for kind in [Kind::Register, Kind::Beat] {
        for status in [200, 201] {
            let granted = Answer::Granted { ttl: 90, interval: 30 };
            assert_eq!(read(kind, status, None, body), granted);
        }
    }
    assert_eq!(read(Kind::Drain, 200, None, b"{}"), Answer::Done);
    assert_eq!(read(Kind::Deregister, 204, None, b""), Answer::Done);
}

#[test]
fn a_success_without_the_documented_body_is_none() {
    let bodies: [&[u8]; 8] = [
        b"",
        b"OK",
        b"<html>log in</html>",
        b"{}",
        b"[90,30]",
        br#"{"ttl_seconds":90"#,
        br#"{"ttl_seconds":90,"heartbeat_interval_seconds":-1}"#,
        br#"{"ttl_seconds":"90","heartbeat_interval_seconds":"30"}"#,
    ];
    for body in bodies {
        for kind in [Kind::Register, Kind::Beat] {
            let answer = read(kind, 200, Some(Duration::from_secs(9)), body);
            assert!(is_unavailable(&answer), "{answer:?}");
        }
    }
    assert!(is_unavailable(&read(Kind::Drain, 200, None, b"<html></html>")));
    assert!(is_unavailable(&read(Kind::Deregister, 200, None, b"<html></html>")));
}

#[test]
fn a_404_counts_only_in_the_registrys_words() {
    assert_eq!(read(Kind::Beat, 404, None, &problem(ProblemType::UnknownInstance)), Answer::Unknown);
    let unknown = problem(ProblemType::UnknownInstance);
    let others: [&[u8]; 6] = [
        b"",
        b"404 page not found",
        b"<html></html>",
        br#"{"message":"no such service"}"#,
        &problem(ProblemType::NotFound),
        &unknown[..unknown.len() - 1],
    ];
    for body in others {
        assert!(is_unavailable(&read(Kind::Beat, 404, None, body)), "{body:?}");
    }
}

#[test]
fn each_status_of_the_table_is_read_as_the_table_says() {
    let asked = Some(Duration::from_secs(7));
    for kind in KINDS {
        assert_eq!(read(kind, 409, None, &problem(ProblemType::Superseded)), Answer::Superseded);
        for status in [400, 401, 403, 405, 413, 415, 422, 431] {
            let answer = read(kind, status, asked, &problem(ProblemType::Invalid));
            let reason = format!("HTTP {status}: a sentence for people").into();
            assert_eq!(answer, Answer::Refused { reason });
        }
        let answer = read(kind, 429, asked, &problem(ProblemType::Overloaded));
        assert!(matches!(answer, Answer::Overloaded { retry_after, .. } if retry_after == asked));
        let answer = read(kind, 503, asked, b"<html>nginx</html>");
        assert!(matches!(answer, Answer::Unavailable { retry_after, .. } if retry_after == asked));
    }
}

#[test]
fn everything_else_is_nobody_knows_and_its_retry_after_does_not_count() {
    for kind in KINDS {
        for status in (100..600).filter(|status| !(200..300).contains(status)) {
            if [400, 401, 403, 405, 409, 413, 415, 422, 429, 431, 503].contains(&status) {
                continue;
            }
            let answer = read(kind, status, Some(Duration::from_secs(7)), b"");
            assert!(matches!(answer, Answer::Unavailable { retry_after: None, .. }), "{status} {answer:?}");
        }
    }
}

#[test]
fn what_a_registry_says_is_cut_and_holds_no_control_characters() {
    let detail = format!("line\r\nfaked \u{1b}[2J{}", "x".repeat(5_000));
    let body = serde_json::to_vec(&Problem::new(ProblemType::Invalid, detail)).unwrap();
    let Answer::Refused { reason } = read(Kind::Register, 422, None, &body) else {
        panic!("422 is a refusal");
    };
    assert!(reason.len() < 300 && !reason.contains(char::is_control), "{reason}");
}

proptest! {
    #[test]
    fn no_body_makes_it_panic_or_know_what_nobody_said(status in 100_u16..600, which in 0..4_usize, body: Vec<u8>, text: String) {
        for body in [body.as_slice(), text.as_bytes(), format!("{{{text:?}:1}}").as_bytes()] {
            let answer = read(KINDS[which], status, None, body);
            let known = matches!(answer, Answer::Unknown | Answer::Granted { .. });
            prop_assert!(!known, "{status} {body:?} {answer:?}");
        }
    }
}
