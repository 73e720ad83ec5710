//! Request bodies: what is malformed, what breaks a rule, which field is named, and what is kept.

use registry_wire::{
    BodyError, Status, Ttl,
    request::{Drain, FlatHeartbeat, FlatRegister, Heartbeat, Register},
};

/// The kind of the refusal and the field that it names.
fn refusal<T: std::fmt::Debug>(result: Result<T, BodyError>) -> (&'static str, String) {
    match result {
        Ok(value) => panic!("was taken: {value:?}"),
        Err(error) => {
            let kind = match &error {
                BodyError::Malformed(_) => "malformed",
                BodyError::Invalid(_) => "invalid",
            };
            assert!(error.to_string().chars().count() < 600, "an error quotes little: {error}");
            (kind, error.field_error().field().to_owned())
        }
    }
}

fn register(rest: &str) -> Result<Register, BodyError> {
    Register::parse(format!(r#"{{"endpoint":"http://web:80",{rest}}}"#).as_bytes())
}

#[test]
fn a_body_that_is_no_json_object_is_malformed() {
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let deep_open = "{\"a\":".repeat(12_000);
    for body in [
        &b"null"[..],
        b"true",
        b"1",
        b"\"text\"",
        b"[]",
        b"[\"http://web:80\"]",
        br#"[{"endpoint":"http://web"}]"#,
        b"{",
        b"}",
        b"{]",
        b"{}{}",
        b"{} x",
        b"{,}",
        br#"{"a"}"#,
        br#"{"a":}"#,
        br#"{"a":1,}"#,
        br"{a:1}",
        br"{'a':1}",
        br#"{"a":01}"#,
        br#"{"a":1.}"#,
        br#"{"a":NaN}"#,
        br#"{"a":undefined}"#,
        br"{1:1}",
        br"{null:1}",
        b"{\"a\":\"\n\"}",
        b"{\"a\":\"\0\"}",
        b"{\"a\":1}\0",
        b"\0",
        b"endpoint=http://web",
        b"<xml/>",
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\0}\0",
        b"\xff",
        b"{\"a\":\"\xff\"}",
        b"{\"\xc3\":1}",
        b"{\"a\":\"\xed\xa0\x80\"}",
        br#"{"\ud800":1}"#,
        br#"{"\x":1}"#,
        br#"{"a":"\x"}"#,
        br"// comment",
        b"{} //",
        deep.as_bytes(),
        deep_open.as_bytes(),
        b"\xc2\xa0{}",
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]);
        for got in [
            refusal(Register::parse(body)),
            refusal(Heartbeat::parse(body)),
            refusal(Drain::parse(body)),
            refusal(FlatRegister::parse(body)),
            refusal(FlatHeartbeat::parse(body)),
        ] {
            assert_eq!(got, ("malformed", "body".into()), "{shown}");
        }
    }
}

#[test]
fn an_empty_body_is_an_empty_object_only_where_everything_is_optional() {
    assert_eq!(Heartbeat::parse(b"").unwrap(), Heartbeat::default());
    assert_eq!(Heartbeat::parse(b"{}").unwrap(), Heartbeat::default());
    assert_eq!(Heartbeat::parse(b" \r\n\t{ } \n").unwrap(), Heartbeat::default());
    assert_eq!(refusal(Heartbeat::parse(b" ")), ("malformed", "body".into()));
    assert_eq!(refusal(Register::parse(b"")), ("malformed", "body".into()));
    assert_eq!(refusal(FlatHeartbeat::parse(b"")), ("malformed", "body".into()));
    assert_eq!(refusal(Drain::parse(b"")), ("invalid", "reason".into()));
}

#[test]
fn a_missing_field_is_named() {
    assert_eq!(refusal(Register::parse(b"{}")), ("invalid", "endpoint".into()));
    assert_eq!(refusal(Drain::parse(b"{}")), ("invalid", "reason".into()));
    assert_eq!(refusal(FlatRegister::parse(b"{}")), ("invalid", "service_name".into()));
    assert_eq!(refusal(FlatRegister::parse(br#"{"service_name":"a"}"#)), ("invalid", "endpoint".into()));
    assert_eq!(refusal(FlatHeartbeat::parse(b"{}")), ("invalid", "service_name".into()));
}

#[test]
fn null_is_as_good_as_missing() {
    let body = r#""health_endpoint":null,"metadata":null,"ttl_seconds":null,"session": null ,"status":null,"output":null"#;
    let bare = Register::parse(br#"{"endpoint":"http://web:80"}"#).unwrap();
    assert_eq!(register(body).unwrap(), bare);
    assert_eq!(refusal(Register::parse(br#"{"endpoint":null}"#)), ("invalid", "endpoint".into()));
}

#[test]
fn a_key_that_stands_twice_is_refused_however_it_is_spelt() {
    for (body, key) in [
        (r#"{"endpoint":"http://a","endpoint":"http://b"}"#, "endpoint"),
        (r#"{"endpoint":"http://a","endpoint":"http://a"}"#, "endpoint"),
        (r#"{"endpoint":"http://a","\u0065ndpoint":"http://b"}"#, "endpoint"),
        (r#"{"endpoint":"http://a","endpoint":null}"#, "endpoint"),
        (r#"{"endpoint":"http://a","unknown":1,"unknown":1}"#, "unknown"),
        (r#"{"endpoint":"http://a","a":1,"b":2,"\u0061":3}"#, "a"),
        (r#"{"endpoint":"http://a","":1,"":2}"#, ""),
        (r#"{"endpoint":"http://a","\ud83d\ude00":1,"😀":2}"#, "😀"),
    ] {
        assert_eq!(refusal(Register::parse(body.as_bytes())), ("malformed", key.into()), "{body}");
    }
    // Names differ in case, and a key within another value is another key.
    Register::parse(br#"{"endpoint":"http://a","Endpoint":"http://b","x":{"endpoint":1}}"#).unwrap();
    let long = "k".repeat(20_000);
    let (kind, key) = refusal(Register::parse(format!(r#"{{"{long}":1,"{long}":2}}"#).as_bytes()));
    assert_eq!(kind, "malformed");
    assert!(key.chars().count() < 300, "the name of a long key is cut");
}

#[test]
fn a_metadata_key_that_stands_twice_is_refused() {
    for metadata in [
        r#"{"a":"1","a":"2"}"#,
        r#"{"a":"1","a":"1"}"#,
        r#"{"a":"1","\u0061":"2"}"#,
        r#"{"b":1,"a":1,"a":true}"#,
    ] {
        let got = refusal(register(&format!(r#""metadata":{metadata}"#)));
        assert_eq!(got, ("invalid", "metadata.a".into()), "{metadata}");
    }
}

#[test]
fn a_wrong_type_names_the_field() {
    let wrong = |field: &str, values: &[&str]| {
        for value in values {
            let got = refusal(register(&format!(r#""{field}":{value}"#)));
            assert_eq!(got, ("invalid", field.to_owned()), "{field}: {value}");
        }
    };
    let no_text = ["1", "1.5", "true", "[]", "{}", r#"["passing"]"#, r#"{"passing":null}"#];
    wrong("health_endpoint", &no_text);
    wrong("session", &no_text);
    wrong("status", &no_text);
    wrong("output", &no_text);
    wrong("status", &[r#""""#, r#""Passing""#, r#""\u0000""#, r#""up""#]);
    wrong("session", &[r#""""#, r#""a\u0000b""#, r#""a\nb""#, r#""\ud800""#]);
    wrong("output", &[r#""a\u0000b""#, r#""a\u001b[0m""#]);
    wrong(
        "ttl_seconds",
        &[
            r#""90""#,
            "90.5",
            "9e-1",
            "3.6001e3",
            "-90",
            "-1",
            "0",
            "2",
            "3601",
            "4294967386",
            "18446744073709551616",
            "1e400",
            "true",
            "[90]",
            "{}",
            r#""""#,
        ],
    );
    // To JSON these are whole numbers.
    for ninety in ["90.0", "9e1", "900E-1"] {
        assert_eq!(
            register(&format!(r#""ttl_seconds":{ninety}"#)).unwrap().ttl_seconds,
            Some(Ttl::default())
        );
    }
    wrong("metadata", &["1", "true", r#""a=b""#, "[]", r#"[["a","b"]]"#]);
    for endpoint in ["1", "true", "[]", "{}", r#""""#, r#""web""#, r#""http://web\u0000""#, r#""\udc00""#] {
        let body = format!(r#"{{"endpoint":{endpoint}}}"#);
        assert_eq!(refusal(Register::parse(body.as_bytes())), ("invalid", "endpoint".into()), "{body}");
    }
}

#[test]
fn metadata_values_are_texts_numbers_and_booleans() {
    let got = register(r#""metadata":{"text":"1.4.2","number":1.10,"whole":0042e0,"no":1}"#);
    assert_eq!(refusal(got), ("malformed", "body".into()), "a number with leading zeros is no JSON");
    let metadata = register(
        r#""metadata":{"version":1.10,"build":20240101000000000000000001,"small":1E-7,"minus":-0,"yes":true,"no":false,"empty":"","esc":"\u00e9\"\\"}"#,
    )
    .unwrap()
    .metadata;
    for (key, value) in [
        ("version", "1.10"),
        ("build", "20240101000000000000000001"),
        ("small", "1E-7"),
        ("minus", "-0"),
        ("yes", "true"),
        ("no", "false"),
        ("empty", ""),
        ("esc", "é\"\\"),
    ] {
        assert_eq!(metadata.get(key), Some(value), "{key}");
    }
    for value in ["null", "[]", "{}", "[1]", r#"{"b":{"c":1}}"#, r#""\ud800""#] {
        let got = refusal(register(&format!(r#""metadata":{{"a":{value}}}"#)));
        assert_eq!(got, ("invalid", "metadata.a".into()), "{value}");
    }
    for value in
        [r#""a\u0000""#.to_owned(), r#""a\nb""#.into(), "1".repeat(257), format!("\"{}\"", "é".repeat(257))]
    {
        let got = refusal(register(&format!(r#""metadata":{{"a":{value}}}"#)));
        assert_eq!(got, ("invalid", "metadata.a".into()), "{value}");
    }
    for key in ["", "a b", r"a\u0000", r"\n", "é", r#"\""#] {
        let got = refusal(register(&format!(r#""metadata":{{"{key}":[]}}"#)));
        assert_eq!(got, ("invalid", "metadata".into()), "{key}");
    }
    assert!(register(r#""metadata":{}"#).unwrap().metadata.is_empty());
}

#[test]
fn unknown_fields_are_ignored_whatever_they_hold() {
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    for value in ["1", "null", "[1,[2]]", r#"{"a":1,"a":2}"#, r#""\ud800""#, "1e999", deep.as_str()] {
        register(&format!(r#""unknown":{value}"#)).unwrap();
    }
}

#[test]
fn everything_that_is_given_is_kept() {
    let body = br#"{"endpoint":"http://web:80/a","health_endpoint":"/h","metadata":{"a":"b"},"ttl_seconds":9,"session":"s1",
        "status":"critical","output":" down\n"}"#;
    let register = Register::parse(body).unwrap();
    assert_eq!(register.endpoint.as_str(), "http://web:80/a");
    assert_eq!(register.health_endpoint.as_ref().map(AsRef::as_ref), Some("/h"));
    assert_eq!(register.metadata.iter().collect::<Vec<_>>(), [("a", "b")]);
    assert_eq!(register.ttl_seconds.map(registry_wire::Ttl::seconds), Some(9));
    assert_eq!(register.session.as_ref().map(AsRef::as_ref), Some("s1"));
    assert_eq!(register.status, Some(Status::Critical));
    assert_eq!(register.output.as_ref().map(registry_wire::Output::as_str), Some("down"));
}

#[test]
fn the_flat_dialect() {
    let flat = FlatRegister::parse(br#"{"service_name":"a","endpoint":"http://web"}"#).unwrap();
    assert_eq!(flat.service_name.as_str(), "a");
    assert_eq!(flat.instance_id.as_str(), "default");
    let body = br#"{"service_name":"a","endpoint":"http://web","instance_id":"i:1","ttl_seconds":60,"session":"s","status":"critical","output":"x"}"#;
    let flat = FlatRegister::parse(body).unwrap();
    assert_eq!(flat.instance_id.as_str(), "i:1");
    assert_eq!(flat.register.ttl_seconds.map(registry_wire::Ttl::seconds), Some(60));
    // The dialect has no such fields, so they are unknown ones.
    assert_eq!((flat.register.session, flat.register.status, flat.register.output), (None, None, None));
    let beat = FlatHeartbeat::parse(br#"{"service_name":"a"}"#).unwrap();
    assert_eq!((beat.service_name.as_str(), beat.instance_id.as_str()), ("a", "default"));
    for (body, field) in [
        (r#"{"service_name":1,"endpoint":"http://web"}"#, "service_name"),
        (r#"{"service_name":"a/b","endpoint":"http://web"}"#, "service_name"),
        (r#"{"service_name":"","endpoint":"http://web"}"#, "service_name"),
        (r#"{"service_name":"a","endpoint":"http://web","instance_id":""}"#, "instance_id"),
        (r#"{"service_name":"a","endpoint":"http://web","instance_id":7}"#, "instance_id"),
        (r#"{"service_name":"a","endpoint":"http://web","ttl_seconds":2}"#, "ttl_seconds"),
    ] {
        assert_eq!(refusal(FlatRegister::parse(body.as_bytes())), ("invalid", field.into()), "{body}");
    }
    assert_eq!(
        refusal(FlatHeartbeat::parse(br#"{"service_name":"a","instance_id":"-"}"#)),
        ("invalid", "instance_id".into())
    );
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the time taken is what is tested")]
fn a_body_of_many_keys_is_read_in_linear_time() {
    // 9,000 keys fit into 64 KiB. Read in linear time this takes a tenth of a second; comparing all keys with all
    // would be a billion comparisons.
    let pairs: Vec<String> = (0..9_000).map(|n| format!("\"{n:x}\":0")).collect();
    let body = format!("{{{}}}", pairs.join(","));
    let start = std::time::Instant::now();
    for _ in 0..30 {
        assert_eq!(Heartbeat::parse(body.as_bytes()).unwrap(), Heartbeat::default());
    }
    let taken = start.elapsed();
    assert!(taken.as_secs() < 4, "{taken:?}");
}
