//! Every limit: below, at and above, through both dialects; and what no limit foresees.

use registry_wire::ProblemType;
use serde_json::{Value, json};

use crate::harness::{Answer, Node, Store, WITH_BODY, minimal, path};

both!(
    fields_of_a_registration,
    fields_of_a_beat,
    names_in_paths,
    names_in_flat_bodies,
    bodies_that_are_no_objects,
);

/// A field's values that are taken and those that are not. Only the ends are here: the rules themselves have tests
/// beside them.
fn cases() -> Vec<(&'static str, Vec<Value>, Vec<Value>)> {
    let url = |length: usize| Value::from(format!("http://h:1/{}", "x".repeat(length - 11)));
    vec![
        (
            "endpoint",
            vec![
                url(511),
                url(512),
                json!("https://h"),
                json!("http://[::1]:65535/p?q=1"),
                json!("http://127.0.0.1:1"),
                json!("http://my_service:80"),
            ],
            vec![
                json!(null),
                url(513),
                json!(""),
                json!("h:1"),
                json!("/path"),
                json!("ftp://h:1"),
                json!("http://"),
                json!("http://h:0"),
                json!("http://h:65536"),
                json!("http://h:x"),
                json!("http://user@h:1"),
                json!("http://u:p@h:1"),
                json!("http://h:1/#f"),
                json!("http://-h:1"),
                json!("http://h h:1"),
                json!("http://h:1\u{0}"),
                json!("http://h:1/\r\nx: y"),
                json!("javascript:alert(1)"),
                json!(5),
                json!(["http://h:1"]),
                json!({"url": "http://h:1"}),
                json!(true),
            ],
        ),
        (
            "health_endpoint",
            vec![
                json!("/"),
                Value::from(format!("/{}", "x".repeat(254))),
                Value::from(format!("/{}", "é".repeat(255))),
            ],
            vec![
                json!(""),
                json!("health"),
                json!("http://h/health"),
                Value::from(format!("/{}", "x".repeat(256))),
                json!("/a b"),
                json!("/a\u{0}"),
                json!("/a\n"),
                json!(1),
                json!([]),
            ],
        ),
        (
            "ttl_seconds",
            vec![json!(3), json!(4), json!(3599), json!(3600)],
            vec![
                json!(2),
                json!(0),
                json!(-1),
                json!(3601),
                json!(90.5),
                json!("90"),
                json!(1e20),
                json!(true),
                json!([90]),
                json!({}),
            ],
        ),
    ]
}

/// As [`cases`], of metadata and of the value of one key.
fn metadata_cases() -> Vec<(&'static str, Vec<Value>, Vec<Value>)> {
    let text = |length: usize| Value::from("x".repeat(length));
    let keys = |count: usize| Value::Object((0..count).map(|n| (format!("k{n}"), json!("v"))).collect());
    let key = |length: usize| json!({ "k".repeat(length): "v" });
    vec![
        (
            "metadata",
            vec![keys(0), keys(31), keys(32), key(1), key(63), key(64), json!({"a.b_c-D9": "v"})],
            vec![
                keys(33),
                key(65),
                json!({"": "v"}),
                json!({"a b": "v"}),
                json!({"é": "v"}),
                json!({"a\u{0}": "v"}),
                json!([]),
                json!("a=b"),
                json!(1),
            ],
        ),
        (
            "metadata.k",
            vec![text(0), text(255), text(256), Value::from("é".repeat(256)), json!(1e300), json!(false)],
            vec![
                text(257),
                json!("a\u{0}b"),
                json!("a\nb"),
                json!("\u{7f}"),
                json!(null),
                json!([1]),
                json!({"a": 1}),
            ],
        ),
    ]
}

/// Fields that only the native dialect has.
fn native_cases() -> Vec<(&'static str, Vec<Value>, Vec<Value>)> {
    let text = |length: usize| Value::from("x".repeat(length));
    vec![
        (
            "session",
            vec![text(1), text(63), text(64), Value::from("é".repeat(64)), json!("a b")],
            vec![
                text(0),
                text(65),
                json!("a\u{0}"),
                json!("a\n"),
                json!(1),
                json!(["s"]),
                json!({}),
                json!(true),
            ],
        ),
        (
            "status",
            vec![json!("passing"), json!("warning"), json!("critical")],
            vec![
                json!(""),
                json!("Passing"),
                json!("healthy"),
                json!("passing "),
                json!(1),
                json!(["passing"]),
                json!(true),
            ],
        ),
        (
            "output",
            vec![
                text(0),
                text(255),
                text(256),
                Value::from(format!(" \n{}\t ", "x".repeat(256))),
                json!("a\nb"),
            ],
            vec![text(257), json!("a\u{0}b"), json!("\u{1b}[31m"), json!(1), json!(["o"]), json!({})],
        ),
    ]
}

/// A body with one field, or one metadata value, set.
fn with(mut body: Value, field: &str, value: &Value) -> Value {
    match field.split_once('.') {
        Some((outer, inner)) => body[outer] = json!({ inner: value }),
        None => body[field] = value.clone(),
    }
    body
}

/// The problem names the field, and what was there before is there still.
async fn refused(node: &Node, before: &Value, answer: &Answer, field: &str, call: &str) {
    assert_eq!(answer.status, 422, "{call}: {answer:?}");
    answer.blames(ProblemType::Invalid, field);
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.contains(field) && detail.len() < 1000, "{call}: {detail}");
    assert_eq!(node.state().await, *before, "{call}");
}

async fn fields_of_a_registration(store: Store) {
    let node = store.node().await;
    node.register("web", "there", &minimal()).await;
    let base = json!({"endpoint": "http://h:1"});
    for (field, good, bad) in cases().into_iter().chain(metadata_cases()).chain(native_cases()) {
        for value in good {
            let answer = node.put(&path("web", "new"), &with(base.clone(), field, &value)).await;
            assert_eq!(answer.status, 201, "{field} = {value}: {answer:?}");
            assert_eq!(node.delete(&path("web", "new")).await.status, 204);
        }
        let before = node.state().await;
        for value in bad {
            let call = format!("PUT {field} = {value}");
            for instance in ["there", "new"] {
                let answer = node.put(&path("web", instance), &with(base.clone(), field, &value)).await;
                refused(&node, &before, &answer, field, &call).await;
            }
        }
    }
    // The same fields, flat.
    let base = json!({"service_name": "flat", "endpoint": "http://h:1"});
    for (field, good, bad) in cases().into_iter().chain(metadata_cases()) {
        for value in good {
            let answer = node.post("/register", &with(base.clone(), field, &value)).await;
            assert_eq!(answer.status, 201, "{field} = {value}: {answer:?}");
        }
        let before = node.state().await;
        for value in bad {
            let answer = node.post("/register", &with(base.clone(), field, &value)).await;
            refused(&node, &before, &answer, field, &format!("POST {field} = {value}")).await;
        }
    }
    for (path, body) in
        [(path("web", "there"), json!({})), ("/register".into(), json!({"service_name": "x"}))]
    {
        let method = if path == "/register" { "POST" } else { "PUT" };
        let answer = Answer::sure(|| node.request(method, &path).json(&body)).await;
        answer.blames(ProblemType::Invalid, "endpoint");
    }
}

async fn fields_of_a_beat(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &minimal()).await;
    let before = node.state().await;
    for (field, good, bad) in native_cases() {
        for value in bad {
            let answer = node.beat("web", "a", &json!({field: value})).await;
            refused(&node, &before, &answer, field, &format!("beat {field} = {value}")).await;
        }
        for value in good {
            let body = json!({field: value});
            let answer = node.beat("web", "a", &body).await;
            // No session was registered, so each is unknown; that was looked up, so the field was in order.
            let expected = if field == "session" { 404 } else { 200 };
            assert_eq!(answer.status, expected, "{body}: {answer:?}");
        }
        node.put(&path("web", "a"), &minimal()).await.ok();
    }
    for bad in ["", &"x".repeat(65), "a%00", "a%0A"] {
        for (method, path) in
            [("DELETE", path("web", "a")), ("DELETE", format!("{}/drain", path("web", "a")))]
        {
            let answer = Answer::sure(|| node.request(method, &format!("{path}?session={bad}"))).await;
            answer.blames(ProblemType::Invalid, "session");
        }
    }
    assert_eq!(node.state().await, before);
}

async fn names_in_paths(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &minimal()).await;
    let long = |length: usize| "x".repeat(length);
    for (service, instance) in [
        (long(1), long(1)),
        (long(63), long(127)),
        (long(64), long(128)),
        ("A.b_c-9".into(), "A.b_c-9:80".into()),
        // Decoded once.
        ("%77eb2".into(), "h%3A80".into()),
    ] {
        assert_eq!(
            node.put(&path(&service, &instance), &minimal()).await.status,
            201,
            "{service}/{instance}"
        );
        node.get(&path(&service, &instance)).await.ok();
    }
    node.get(&path("web2", "h:80")).await.ok();
    let before = node.state().await;
    let bad = [
        long(65),
        long(129),
        long(10_000),
        "%20".into(),
        "a%20".into(),
        "a%2Fb".into(),
        "a%2fb".into(),
        "%2e%2e%2f".into(),
        "a%252Fb".into(),
        "a%00".into(),
        "%00".into(),
        "a%0A".into(),
        "a%7F".into(),
        "%ff".into(),
        "a%C3".into(),
        "a%C3%A9".into(),
        "a%".into(),
        "a%zz".into(),
        "-a".into(),
        ".a".into(),
        "_a".into(),
        "a*b".into(),
        "a@b".into(),
        "a+b".into(),
    ];
    for name in bad {
        let mut calls = vec![
            ("PUT", path(&name, "a"), "service_name"),
            ("GET", path(&name, "a"), "service_name"),
            ("DELETE", path(&name, "a"), "service_name"),
            ("GET", format!("/services/{name}"), "service_name"),
            ("PUT", format!("{}/heartbeat", path(&name, "a")), "service_name"),
            ("PUT", format!("{}/drain", path(&name, "a")), "service_name"),
            ("DELETE", format!("{}/drain", path(&name, "a")), "service_name"),
            ("DELETE", format!("/deregister/{name}"), "service_name"),
        ];
        // 65 characters are in order for an instance.
        if name.len() != 65 {
            calls.push(("PUT", path("web", &name), "instance_id"));
            calls.push(("GET", path("web", &name), "instance_id"));
            calls.push(("DELETE", path("web", &name), "instance_id"));
            calls.push(("PUT", format!("{}/heartbeat", path("web", &name)), "instance_id"));
            if name.len() < 1000 {
                calls.push(("DELETE", format!("/deregister/web?instance_id={name}"), "instance_id"));
            }
        }
        for (method, path, field) in calls {
            // A client library would mend some of these.
            let body = r#"{"endpoint":"http://h:1","reason":"r"}"#;
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            // In a query a plus is a space, which is as wrong.
            let answer = node.raw(request.as_bytes()).await;
            assert_eq!(answer.status, 422, "{method} {path}: {answer:?}");
            answer.blames(ProblemType::Invalid, field);
        }
        assert_eq!(node.state().await, before, "{name}");
    }
    // Nothing at all in a place is another path.
    for path in ["/services//instances/a", "/services/web/instances/", "/services/", "/deregister/"] {
        let answer = Answer::of(node.request("DELETE", path)).await;
        assert!(matches!(answer.status, 404 | 405 | 422), "{path}: {answer:?}");
    }
    assert_eq!(node.state().await, before);
}

async fn names_in_flat_bodies(store: Store) {
    let node = store.node().await;
    node.register("web", "default", &minimal()).await;
    let long = |length: usize| json!("x".repeat(length));
    for (service, instance) in [(long(1), long(1)), (long(64), long(128)), (json!("0.a_-"), json!("a:1"))] {
        let body = json!({"service_name": service, "instance_id": instance, "endpoint": "http://h:1"});
        assert_eq!(node.post("/register", &body).await.status, 201, "{body}");
        node.post("/heartbeat", &body).await.ok();
    }
    let before = node.state().await;
    for bad in [
        json!(""),
        long(129),
        json!("a/b"),
        json!("a b"),
        json!("-a"),
        json!("é"),
        json!("a\u{0}"),
        json!(7),
        json!(["web"]),
        json!({"a": 1}),
        json!(false),
    ] {
        for path in ["/register", "/heartbeat"] {
            let body = json!({"service_name": bad, "endpoint": "http://h:1"});
            let answer = node.post(path, &body).await;
            refused(&node, &before, &answer, "service_name", &format!("{path} {body}")).await;
            let body = json!({"service_name": "web", "instance_id": bad, "endpoint": "http://h:1"});
            let answer = node.post(path, &body).await;
            refused(&node, &before, &answer, "instance_id", &format!("{path} {body}")).await;
        }
    }
    let body = json!({"service_name": long(65), "endpoint": "http://h:1"});
    node.post("/register", &body).await.blames(ProblemType::Invalid, "service_name");
    for path in ["/register", "/heartbeat"] {
        node.post(path, &json!({})).await.blames(ProblemType::Invalid, "service_name");
    }
    assert_eq!(node.state().await, before);
}

async fn bodies_that_are_no_objects(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &minimal()).await;
    let before = node.state().await;
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
    let bodies: [(&[u8], &str); 18] = [
        (b"{", "body"),
        (b"}", "body"),
        (b"{\"endpoint\":\"http://h:1\"", "body"),
        (b"{\"endpoint\":\"http://h:1\",}", "body"),
        (b"{endpoint:\"http://h:1\"}", "body"),
        (b"{\"endpoint\":\"http://h:1\"} x", "body"),
        (b"{\"endpoint\":\"http://h:1\"}{}", "body"),
        (b"[]", "body"),
        // An array in the order of the fields, which a careless parser takes for an object.
        (b"[\"http://h:1\",\"/health\"]", "body"),
        (b"null", "body"),
        (b"\"text\"", "body"),
        (b"17", "body"),
        (b" ", "body"),
        (b"\0", "body"),
        (b"\xef\xbb\xbf{}", "body"),
        (b"{\"endpoint\":\"http://h:1/\xff\"}", "body"),
        (b"{\"reason\":\"a\",\"endpoint\":\"http://h:1\",\"reason\":\"b\"}", "reason"),
        (b"{\"x\":1,\"\\u0078\":2}", "x"),
    ];
    for (method, path) in WITH_BODY {
        let empty_is_fine = path.ends_with("/heartbeat") && method == "PUT";
        for (body, field) in bodies.into_iter().chain([(deep.as_bytes(), "body"), (b"".as_slice(), "body")]) {
            if body.is_empty() && (empty_is_fine || path.ends_with("/drain")) {
                continue;
            }
            let answer = Answer::sure(|| {
                node.request(method, path).header("content-type", "application/json").body(body.to_vec())
            })
            .await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            // Deep nesting in a field that nobody reads does no harm; on the stack it would.
            let harmless = body == deep.as_bytes() && answer.status != 400;
            if harmless {
                assert!(matches!(answer.status, 200 | 422), "{method} {path} {shown}: {answer:?}");
                continue;
            }
            assert_eq!(answer.status, 400, "{method} {path} {shown}: {answer:?}");
            answer.blames(ProblemType::Malformed, field);
        }
    }
    assert_eq!(node.state().await, before);
    let twice = r#"{"endpoint":"http://h:1","metadata":{"k":"1","k":"2"}}"#;
    let answer = Answer::sure(|| node.request("PUT", &path("web", "a")).body(twice)).await;
    assert!(matches!(answer.status, 400 | 422), "{answer:?}");
    assert_eq!(answer.body["field"], "metadata.k");
    assert_eq!(node.state().await, before);
}
