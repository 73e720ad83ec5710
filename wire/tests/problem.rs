//! Problem documents as RFC 9457 has them.

use std::collections::HashSet;

use registry_wire::{Problem, ProblemType, problem::CONTENT_TYPE};
use serde_json::{Value, json};

#[test]
fn the_members_of_rfc_9457() {
    assert_eq!(CONTENT_TYPE, "application/problem+json");
    for &kind in ProblemType::ALL {
        let document = serde_json::to_value(Problem::new(kind, "what to do")).unwrap();
        assert_eq!(
            document,
            json!({"type": kind.path(), "title": kind.title(), "status": kind.status(), "detail": "what to do"}),
            "extras that say nothing are left out"
        );
    }
}

#[test]
fn extras_stand_beside_the_members() {
    let mut problem = Problem::new(ProblemType::UnknownInstance, "gone").field("instance_id").retry_after(7);
    problem.state = Some("expired".into());
    problem.last_seen = Some(1_761_308_042.19);
    problem.reason = Some("no beat for 90 s".into());
    let text = serde_json::to_string(&problem).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        document,
        json!({"type": "/problems/unknown-instance", "title": "The instance is not registered", "status": 404, "detail": "gone",
            "field": "instance_id", "retry_after_seconds": 7, "state": "expired", "last_seen": 1_761_308_042.19,
            "reason": "no beat for 90 s"})
    );
    assert_eq!(serde_json::from_str::<Problem>(&text).unwrap(), problem);
}

#[test]
fn every_type_round_trips_and_is_recognised() {
    for &kind in ProblemType::ALL {
        let problem = Problem::new(kind, "\u{1b}[31m \"quoted\" \0 é");
        let text = serde_json::to_string(&problem).unwrap();
        assert!(!text.contains(char::is_control), "control characters are escaped");
        let read: Problem = serde_json::from_str(&text).unwrap();
        assert_eq!(read, problem);
        for &other in ProblemType::ALL {
            assert_eq!(read.is(other), other == kind);
        }
    }
}

#[test]
fn members_that_a_later_version_adds_are_ignored() {
    let read: Problem = serde_json::from_str(
        r#"{"type":"/problems/superseded","title":"t","status":409,"detail":"d","instance":"/x","added":{"a":[1]}}"#,
    )
    .unwrap();
    assert!(read.is(ProblemType::Superseded));
}

#[test]
fn paths_are_stable_and_distinct() {
    let paths: Vec<&str> = ProblemType::ALL.iter().map(|kind| kind.path()).collect();
    assert_eq!(paths.iter().collect::<HashSet<_>>().len(), paths.len());
    // Clients match on these: a change here breaks them.
    assert_eq!(
        paths,
        [
            "/problems/malformed",
            "/problems/invalid-field",
            "/problems/body-too-large",
            "/problems/head-too-large",
            "/problems/unsupported-media-type",
            "/problems/method-not-allowed",
            "/problems/not-found",
            "/problems/body-timeout",
            "/problems/unauthorized",
            "/problems/forbidden",
            "/problems/unknown-instance",
            "/problems/unknown-service",
            "/problems/no-usable-instance",
            "/problems/superseded",
            "/problems/overloaded",
            "/problems/full",
            "/problems/unavailable",
            "/problems/internal",
        ]
    );
    for kind in ProblemType::ALL {
        assert!((400..600).contains(&kind.status()), "{kind:?}");
    }
}
