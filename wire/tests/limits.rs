//! Every limit of names, texts and numbers: below, at and above.

use std::{fmt::Debug, str::FromStr};

use registry_wire::{
    Endpoint, FieldError, HealthPath, InstanceId, Metadata, Output, Reason, ServiceName, Session, Status,
    Ttl, limits, request::Register,
};

/// Whether a text is taken, and if not, whether the error names the field.
fn verdict<T: FromStr<Err = FieldError> + Debug>(field: &str, text: &str) -> bool {
    match text.parse::<T>() {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.field(), field, "{text:?}");
            assert!(!error.rule().is_empty(), "{text:?}");
            false
        }
    }
}

/// One row: a rule's type, its field, a text, and whether it must be taken.
type Row = (fn(&str, &str) -> bool, &'static str, String, bool);

fn check(rows: Vec<Row>) {
    for (verdict, field, text, expected) in rows {
        let count = text.chars().count();
        let shown: String = text.chars().take(60).collect();
        assert_eq!(verdict(field, &text), expected, "{field}: {shown:?}, {count} characters");
    }
}

#[test]
fn lengths() {
    let service = verdict::<ServiceName>;
    let instance = verdict::<InstanceId>;
    let session = verdict::<Session>;
    let health = verdict::<HealthPath>;
    let output = verdict::<Output>;
    let reason = verdict::<Reason>;
    let path = |length: usize| format!("/{}", "p".repeat(length - 1));
    check(vec![
        (service, "service_name", String::new(), false),
        (service, "service_name", "s".into(), true),
        (service, "service_name", "s".repeat(63), true),
        (service, "service_name", "s".repeat(64), true),
        (service, "service_name", "s".repeat(65), false),
        (service, "service_name", "s".repeat(60_000), false),
        (instance, "instance_id", String::new(), false),
        (instance, "instance_id", "i".into(), true),
        (instance, "instance_id", "i".repeat(127), true),
        (instance, "instance_id", "i".repeat(128), true),
        (instance, "instance_id", "i".repeat(129), false),
        (session, "session", String::new(), false),
        (session, "session", "x".into(), true),
        (session, "session", "x".repeat(63), true),
        (session, "session", "x".repeat(64), true),
        (session, "session", "x".repeat(65), false),
        // Characters count, not bytes.
        (session, "session", "é".repeat(64), true),
        (session, "session", "é".repeat(65), false),
        (health, "health_endpoint", String::new(), false),
        (health, "health_endpoint", path(1), true),
        (health, "health_endpoint", path(255), true),
        (health, "health_endpoint", path(256), true),
        (health, "health_endpoint", path(257), false),
        (output, "output", String::new(), true),
        (output, "output", "o".repeat(255), true),
        (output, "output", "o".repeat(256), true),
        (output, "output", "o".repeat(257), false),
        // Trimmed first, measured then.
        (output, "output", format!("  {}\r\n", "o".repeat(256)), true),
        (output, "output", "é".repeat(256), true),
        (reason, "reason", "r".repeat(255), true),
        (reason, "reason", "r".repeat(256), true),
        (reason, "reason", "r".repeat(257), false),
    ]);
}

#[test]
fn endpoint_length() {
    let url = |length: usize| {
        let start = "http://web:80/";
        format!("{start}{}", "p".repeat(length - start.len()))
    };
    let endpoint = verdict::<Endpoint>;
    check(vec![
        (endpoint, "endpoint", String::new(), false),
        (endpoint, "endpoint", url(511), true),
        (endpoint, "endpoint", url(512), true),
        (endpoint, "endpoint", url(513), false),
    ]);
}

#[test]
fn characters() {
    let service = verdict::<ServiceName>;
    let instance = verdict::<InstanceId>;
    let session = verdict::<Session>;
    let health = verdict::<HealthPath>;
    let output = verdict::<Output>;
    let mut rows: Vec<Row> = Vec::new();
    for good in ["a", "0", "A.b-c_d", "osint_service", "a..", "9-"] {
        rows.push((service, "service_name", good.into(), true));
        rows.push((instance, "instance_id", good.into(), true));
    }
    for bad in [
        ".a",
        "-a",
        "_a",
        ":a",
        "a b",
        " a",
        "a ",
        "a/b",
        "a\\b",
        "a%2Fb",
        "a\0",
        "a\n",
        "a\u{7f}",
        "é",
        "a\u{200b}",
        "a?b",
        "a#b",
        "a,b",
        "a'b",
        "<a>",
        "..",
        "/",
    ] {
        rows.push((service, "service_name", bad.into(), false));
        rows.push((instance, "instance_id", bad.into(), false));
    }
    // The colon is the one difference between the two.
    rows.push((service, "service_name", "web:80".into(), false));
    rows.push((instance, "instance_id", "web:80".into(), true));
    for control in (0..0x20).chain(0x7f..=0x9f).filter_map(char::from_u32) {
        rows.push((session, "session", format!("a{control}b"), false));
        rows.push((health, "health_endpoint", format!("/a{control}b"), false));
        let line_breaking = matches!(control, '\n' | '\r' | '\t');
        rows.push((output, "output", format!("a{control}b"), line_breaking));
    }
    rows.push((session, "session", "9f8e-any text".into(), true));
    for bad in ["health", "http://web/health", " /health", "/health ", "/a b", "/a\u{a0}b"] {
        rows.push((health, "health_endpoint", bad.into(), false));
    }
    for good in ["/", "/health?full=1", "/v1/~user/health.json", "/é"] {
        rows.push((health, "health_endpoint", good.into(), true));
    }
    check(rows);
}

#[test]
fn ttl() {
    for (seconds, expected) in [
        (0, false),
        (2, false),
        (3, true),
        (4, true),
        (90, true),
        (3599, true),
        (3600, true),
        (3601, false),
        (u64::from(u32::MAX) + 1 + 90, false),
        (u64::MAX, false),
    ] {
        match Ttl::try_from(seconds) {
            Ok(ttl) => {
                assert!(expected, "{seconds}");
                assert_eq!(u64::from(ttl.seconds()), seconds);
                assert_eq!(ttl.duration().as_secs(), seconds);
            }
            Err(error) => {
                assert!(!expected, "{seconds}");
                assert_eq!(error.field(), "ttl_seconds");
            }
        }
    }
    assert_eq!(Ttl::default().seconds(), 90);
}

#[test]
fn three_beats_in_a_lease_and_one_second_at_least() {
    for (ttl, interval) in [(3, 1), (4, 1), (5, 1), (6, 2), (89, 29), (90, 30), (3600, 1200)] {
        assert_eq!(Ttl::try_from(ttl).unwrap().heartbeat_interval(), interval, "{ttl}");
    }
    assert_eq!(limits::heartbeat_interval(0), 1);
}

#[test]
fn status_is_one_of_three_words() {
    for (word, usable) in [("passing", true), ("warning", true), ("critical", false)] {
        let status: Status = word.parse().unwrap();
        assert_eq!(status.as_str(), word);
        assert_eq!(status.usable(), usable);
    }
    for bad in ["", "Passing", "PASSING", " passing", "ok", "up", "passing\0"] {
        assert!(!verdict::<Status>("status", bad));
    }
    assert_eq!(Status::default(), Status::Passing);
}

#[test]
fn defaults_keep_their_own_rules() {
    assert_eq!(HealthPath::default().as_str(), "/health");
    assert_eq!(InstanceId::default().as_str(), "default");
    assert!("default".parse::<InstanceId>().is_ok());
}

#[test]
fn metadata_keys_and_values() {
    for (key, expected) in [
        (String::new(), false),
        ("k".into(), true),
        ("k".repeat(63), true),
        ("k".repeat(64), true),
        ("k".repeat(65), false),
        ("_a.b-C9".into(), true),
        (".".into(), true),
        ("a b".into(), false),
        ("a:b".into(), false),
        ("a\n".into(), false),
        ("é".into(), false),
        ("__address__".into(), true),
    ] {
        let result = Metadata::default().insert(&key, "v");
        assert_eq!(result.is_ok(), expected, "{key:?}");
        assert!(result.is_ok() || result.unwrap_err().field() == "metadata", "{key:?}");
    }
    for (value, expected) in [
        (String::new(), true),
        ("v".repeat(255), true),
        ("v".repeat(256), true),
        ("v".repeat(257), false),
        ("é".repeat(256), true),
        ("é".repeat(257), false),
        ("a\0".into(), false),
        ("a\nb".into(), false),
        ("a\tb".into(), false),
        ("\u{1b}[31m".into(), false),
        ("<script>alert(1)</script>".into(), true),
    ] {
        let mut metadata = Metadata::default();
        let result = metadata.insert("key", &value);
        assert_eq!(result.is_ok(), expected, "{value:?}");
        match result {
            Ok(()) => assert_eq!(metadata.get("key"), Some(value.as_str())),
            Err(error) => {
                assert_eq!(error.field(), "metadata.key");
                assert!(metadata.is_empty(), "a refused value changes nothing");
            }
        }
    }
}

#[test]
fn metadata_holds_32_keys() {
    let body = |keys: usize| {
        let pairs: Vec<String> = (0..keys).map(|n| format!(r#""k{n}":{n}"#)).collect();
        format!(r#"{{"endpoint":"http://web","metadata":{{{}}}}}"#, pairs.join(","))
    };
    for (keys, expected) in [(0, true), (31, true), (32, true), (33, false), (5000, false)] {
        let result = Register::parse(body(keys).as_bytes());
        assert_eq!(result.is_ok(), expected, "{keys}");
        match result {
            Ok(register) => assert_eq!(register.metadata.iter().count(), keys),
            Err(error) => assert_eq!(error.field_error().field(), "metadata"),
        }
    }
    let mut full = Register::parse(body(32).as_bytes()).unwrap().metadata;
    full.insert("k0", "replaced").expect("a key that is there is replaced, not added");
    assert_eq!(full.get("k0"), Some("replaced"));
    assert!(full.insert("k32", "v").is_err());
}

#[test]
fn text_that_is_made_to_fit() {
    assert_eq!(Output::fit(" a\0b\r\nc ").as_str(), "a b  c");
    let long = Output::fit(&format!("{} tail", "é".repeat(255)));
    assert_eq!(long.as_str(), "é".repeat(255), "cut, then trimmed again");
    assert_eq!(Output::fit(&"x".repeat(10_000)).as_str().len(), 256);
    assert_eq!("  trimmed\n".parse::<Output>().unwrap().as_str(), "trimmed");
}
