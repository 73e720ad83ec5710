//! How large a request may be, and bytes that no client library would send.

use registry_wire::ProblemType;

use crate::harness::{Answer, Store, WITH_BODY, minimal};

both!(body_of_64_kib, body_where_none_is_read, head_of_16_kib, bytes_in_the_request_line);

const KIB_64: usize = 64 * 1024;
const KIB_16: usize = 16 * 1024;

async fn body_of_64_kib(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &minimal()).await;
    let body = |length: usize| {
        let begin = r#"{"service_name":"web","instance_id":"a","endpoint":"http://h:1","reason":"r","pad":""#;
        format!("{begin}{}\"}}", "x".repeat(length - begin.len() - 2)).into_bytes()
    };
    for (method, path) in WITH_BODY {
        for length in [KIB_64 - 1, KIB_64] {
            let answer = Answer::sure(|| node.request(method, path).body(body(length))).await;
            assert!(answer.status < 300, "{method} {path} {length}: {answer:?}");
        }
        let before = node.state().await;
        for length in [KIB_64 + 1, 10 * KIB_64] {
            let answer = Answer::sure(|| node.request(method, path).body(body(length))).await;
            answer.blames(ProblemType::BodyTooLarge, "body");
        }
        // In chunks, where no length says it beforehand.
        let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000)).repeat(17);
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
        let answer = node.raw(format!("{head}{chunk}0\r\n\r\n").as_bytes()).await;
        answer.problem(ProblemType::BodyTooLarge);
        assert_eq!(node.state().await, before, "{method} {path}");
    }
}

async fn body_where_none_is_read(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &minimal()).await;
    let before = node.state().await;
    for (method, path) in [
        ("GET", "/services"),
        ("GET", "/livez"),
        ("DELETE", "/services/web/instances/a"),
        ("DELETE", "/services/web/instances/a/drain"),
        ("DELETE", "/deregister/web?instance_id=a"),
        ("GET", "/nowhere"),
        ("POST", "/services"),
    ] {
        let request = |length: usize| node.request(method, path).body(" ".repeat(length));
        for length in [KIB_64 + 1, 10 * KIB_64] {
            Answer::of(request(length)).await.blames(ProblemType::BodyTooLarge, "body");
        }
        assert_eq!(node.state().await, before, "{method} {path}");
    }
    for (method, path, expected) in [("GET", "/services", 200), ("DELETE", "/services/web/instances/a", 204)]
    {
        let answer = Answer::sure(|| node.request(method, path).body(" ".repeat(KIB_64))).await;
        assert_eq!(answer.status, expected, "{method} {path}: {answer:?}");
    }
}

async fn head_of_16_kib(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &minimal()).await;
    let before = node.state().await;
    // The request line and the fields, each with the end of its line.
    let head = |method: &str, path: &str, length: usize| {
        let begin = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nx-pad: ");
        format!("{begin}{}\r\n\r\n", "x".repeat(length - begin.len() - 2))
    };
    for length in [KIB_16 - 1, KIB_16] {
        node.raw(head("GET", "/services", length).as_bytes()).await.ok();
        let answer = node.raw(head("DELETE", "/services/web/instances/no", length).as_bytes()).await;
        assert_eq!(answer.status, 404, "{answer:?}");
    }
    for length in [KIB_16 + 1, 2 * KIB_16 - 1000] {
        for (method, path) in
            [("GET", "/services"), ("GET", "/livez"), ("DELETE", "/services/web/instances/a")]
        {
            let answer = node.raw(head(method, path, length).as_bytes()).await;
            answer.problem(ProblemType::HeadTooLarge);
        }
    }
    let long_path = format!("/services/{}", "x".repeat(KIB_16));
    node.raw(head("GET", &long_path, KIB_16 + 500).as_bytes()).await.problem(ProblemType::HeadTooLarge);
    // Beyond what is buffered there is no document, but the same status.
    let answer = node.raw(head("DELETE", "/services/web/instances/a", 100_000).as_bytes()).await;
    assert_eq!(answer.status, 431, "{answer:?}");
    // Many short fields are a long head, too.
    let fields = "x-one: 1\r\n".repeat(300);
    let request = format!("DELETE /services/web/instances/a HTTP/1.1\r\nhost: x\r\n{fields}\r\n");
    let answer = node.raw(request.as_bytes()).await;
    assert_eq!(answer.status, 431, "{answer:?}");
    assert_eq!(node.state().await, before);
}

async fn bytes_in_the_request_line(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &minimal()).await;
    let before = node.state().await;
    let lines: [&[u8]; 9] = [
        b"DELETE /services/\xff/instances/a HTTP/1.1",
        b"DELETE /services/w\xc3\xa9b/instances/a HTTP/1.1",
        b"DELETE /services/we\0b/instances/a HTTP/1.1",
        b"DELETE /services/web/instances/a\x01 HTTP/1.1",
        b"DELETE  /services/web/instances/a HTTP/1.1",
        b"DEL\0TE /services/web/instances/a HTTP/1.1",
        b"DELETE services/web/instances/a HTTP/1.1",
        b"DELETE /services/web/instances/a HTTP/9.9",
        b"DELETE /services/web/../web/instances/a HTTP/1.1",
    ];
    for line in lines {
        let request = [line, b"\r\nhost: x\r\n\r\n"].concat();
        let answer = node.raw(&request).await;
        let shown = String::from_utf8_lossy(line);
        assert!((400..500).contains(&answer.status), "{shown}: {answer:?}");
        assert_eq!(node.state().await, before, "{shown}");
    }
}
