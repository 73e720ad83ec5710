use hyper::{HeaderMap, header::HeaderValue};
use proptest::prelude::*;
use registry_wire::Metadata;

use super::{as_text, facts, judge};
use crate::{http::Reply, machine::ProbeOutcome};

fn said(body: &str) -> (Option<String>, Option<String>) {
    let facts = facts(body.as_bytes());
    (facts.version, facts.status)
}

#[test]
fn version_and_status_are_taken_whatever_their_type() {
    let table = [
        (r#"{"version":"1.4.2"}"#, Some("1.4.2")),
        (r#"{"version":2}"#, Some("2")),
        (r#"{"version":1.10}"#, Some("1.10")),
        (r#"{"version":-1e5}"#, Some("-1e5")),
        (r#"{"version":123456789012345678901234567890}"#, Some("123456789012345678901234567890")),
        (r#"{"version":true}"#, Some("true")),
        (r#"{"version":null}"#, None),
        (r#"{"version":""}"#, None),
        (r#"{ "version" : { "a" : [ 1 , "x y\" z" ] } }"#, Some(r#"{"a":[1,"x y\" z"]}"#)),
        (r#"{"version":[ 1,2 ]}"#, Some("[1,2]")),
        (r#"{"version":"a\nb\u0000c"}"#, Some("a b c")),
        (r#"{"other":1}"#, None),
        ("[1,2]", None),
        ("\"ok\"", None),
        ("OK", None),
        ("", None),
        (r#"{"version":"#, None),
    ];
    for (body, version) in table {
        assert_eq!(said(body).0.as_deref(), version, "{body}");
    }
    assert_eq!(said(r#"{"status":"healthy","version":3}"#), (Some("3".into()), Some("healthy".into())));
}

#[test]
fn a_long_value_is_cut_to_what_metadata_takes() {
    let long = format!(r#"{{"version":{{"k":"{}"}}}}"#, "ü".repeat(1_000));
    let version = said(&long).0.unwrap();
    assert_eq!(version.chars().count(), 256);
    Metadata::default().insert("version", &version).unwrap();
}

proptest! {
    #[test]
    fn any_body_gives_facts_that_metadata_takes(version: String, garbage: Vec<u8>) {
        let body = format!("{{\"version\":{}}}", serde_json::to_string(&version).unwrap());
        for facts in [facts(body.as_bytes()), facts(&garbage)] {
            for value in [facts.version, facts.status].into_iter().flatten() {
                prop_assert!(Metadata::default().insert("version", &value).is_ok(), "{value:?}");
            }
        }
    }

    #[test]
    fn compact_text_is_the_same_json(value in "[ \"\\\\a-z,\\[\\]{}:0-9]{0,40}") {
        let json = format!("[ {} ]", serde_json::to_string(&value).unwrap());
        let compact: Vec<String> = serde_json::from_str(&as_text(&json)).unwrap();
        prop_assert_eq!(compact, [value]);
    }
}

fn reply(status: u16, coding: Option<&'static str>) -> Reply {
    let mut headers = HeaderMap::new();
    if let Some(coding) = coding {
        headers.insert("content-encoding", HeaderValue::from_static(coding));
    }
    Reply { status, headers, body: bytes::Bytes::from_static(b"{}") }
}

#[test]
fn only_a_plain_2xx_is_healthy() {
    for status in 200..300 {
        assert_eq!(judge(&reply(status, None)), ProbeOutcome::healthy());
    }
    assert_eq!(judge(&reply(500, None)), ProbeOutcome::unhealthy("HTTP 500"));
    for status in (300..600).chain([100, 199]) {
        assert!(matches!(judge(&reply(status, None)), ProbeOutcome::Unhealthy { .. }), "{status}");
    }
    assert_eq!(judge(&reply(200, Some("identity"))), ProbeOutcome::healthy());
    assert!(matches!(judge(&reply(200, Some("gzip"))), ProbeOutcome::Unhealthy { .. }));
}
