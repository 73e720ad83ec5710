//! A whole request, from the gate on: sizes, token, route, names, body, and the answer.
//!
//! The first byte chooses the node; then comes the head as in HTTP, lines ended by LF, an empty line, and the body.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use registry::{
    config::Settings,
    http::{Need, ROUTES, Route},
};
use registry_wire::{Problem, ProblemType, problem};
use serde_json::Value;

use crate::bed::{Bed, records};

/// The token of writes, where one is needed.
const WRITE: &str = "write-9f8e7d6c5b4a3210";
/// The token of reads.
const READ: &str = "read-4b3a29180f7e6d5c";

/// Open to all; closed; and one that has lost its store.
struct Nodes {
    open: Bed,
    closed: Bed,
    blind: Bed,
    documented: BTreeMap<(String, String), BTreeSet<u16>>,
}

std::thread_local! {
    static NODES: LazyLock<Nodes> = const { LazyLock::new(Nodes::new) };
}

pub(super) fn run(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    let Some(request) = parse(rest) else { return };
    NODES.with(|nodes| nodes.run(*choice, &request));
}

/// A request, if these bytes are one that the HTTP library lets through.
fn parse(input: &[u8]) -> Option<Request<Bytes>> {
    let end = input.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = end.map_or((input, &input[input.len()..]), |end| (&input[..end], &input[end + 2..]));
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut line = lines.next()?.splitn(2, |byte| *byte == b' ');
    let method = Method::from_bytes(line.next()?).ok()?;
    let uri = Uri::from_maybe_shared(Bytes::copy_from_slice(line.next()?)).ok()?;
    let mut request = Request::builder().method(method).uri(uri).body(Bytes::copy_from_slice(body)).ok()?;
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}

impl Nodes {
    fn new() -> Self {
        let open = Settings::default();
        let closed =
            Settings { auth_token: Some(WRITE.into()), read_token: Some(READ.into()), ..Settings::default() };
        let bed = |settings: &Settings, seeing| {
            Bed::new(&settings.clone().config().expect("a configuration"), &records(4), seeing)
        };
        let (open, closed, blind) = (bed(&open, true), bed(&closed, true), bed(&open, false));
        let request = Request::get("/openapi.json").body(Full::default()).expect("a request");
        let document = serde_json::from_slice(open.call(request).body()).expect("a document");
        Self { open, closed, blind, documented: documented(&document) }
    }

    fn run(&self, choice: u8, request: &Request<Bytes>) {
        let bed = [&self.open, &self.closed, &self.blind][usize::from(choice) % 3];
        let closed = std::ptr::eq(bed, &raw const self.closed);
        let blind = std::ptr::eq(bed, &raw const self.blind);
        bed.refresh();
        let before = (bed.committed(), bed.beats());
        let answer = bed.call(request.clone().map(Full::new));
        let route = route(request.method(), request.uri().path());
        let status = answer.status().as_u16();
        let shown = || format!("{} {} {:?}: {answer:?}", request.method(), request.uri(), request.headers());

        self.is_documented(route, request.method(), status, &shown);
        is_whole(request.method(), &answer, &shown);
        if status >= 400 {
            assert_eq!(
                (bed.committed(), bed.beats()),
                before,
                "a refused call changed something: {}",
                shown()
            );
        }
        if closed && let Some(route) = route {
            may_call(route, request.headers(), status, &shown);
        }
        if blind && let Some(route) = route {
            let write = matches!(route.need, Need::Register(_) | Need::Beat(_));
            assert!(!write || status >= 400, "{}", shown());
            let says_no = answer.headers().contains_key(header::AGE) && status == 404;
            assert!(!says_no, "a blind node says that something is not there: {}", shown());
        }
        if status != 431 {
            is_the_routers_answer(bed, request, &answer, &shown);
        }
    }

    fn is_documented(&self, route: Option<&Route>, method: &Method, status: u16, shown: &dyn Fn() -> String) {
        let Some(route) = route else {
            return assert!([401, 403, 404, 405, 413, 431].contains(&status), "no call: {}", shown());
        };
        let key = (route.path.to_owned(), route.method.as_str().to_ascii_lowercase());
        let known = &self.documented[&key];
        // Of any call: a body that says that it is too long, though none is read.
        assert!(known.contains(&status) || status == 413, "{method} {}: {status}: {}", route.path, shown());
    }
}

/// The statuses that the document names for each path and method.
fn documented(document: &Value) -> BTreeMap<(String, String), BTreeSet<u16>> {
    let paths = document["paths"].as_object().expect("paths");
    let calls = paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().expect("a path item");
        item.iter().filter(|(name, _)| *name != "parameters").map(move |(method, call)| {
            let answers = call["responses"].as_object().expect("responses");
            let statuses = answers.keys().filter_map(|status| status.parse().ok()).collect();
            ((path.clone(), method.clone()), statuses)
        })
    });
    calls.collect()
}

/// The call of the table, found part by part without the table's own code.
fn route(method: &Method, path: &str) -> Option<&'static Route> {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let parts: Vec<&str> = path.split('/').collect();
    ROUTES.iter().find(|route| {
        let pattern: Vec<&str> = route.path.split('/').collect();
        let fits = |(pattern, part): (&&str, &&str)| {
            if pattern.starts_with('{') { !part.is_empty() } else { pattern == part }
        };
        route.method == *method && pattern.len() == parts.len() && pattern.iter().zip(&parts).all(fits)
    })
}

/// What any answer is.
fn is_whole(method: &Method, answer: &Response<Bytes>, shown: &dyn Fn() -> String) {
    let status = answer.status();
    assert!(!status.is_server_error() || status == StatusCode::SERVICE_UNAVAILABLE, "{}", shown());
    assert!(!status.is_redirection() && !status.is_informational(), "{}", shown());
    let text = |name: HeaderName| answer.headers().get(name).and_then(|value| value.to_str().ok());
    assert_eq!(text(header::X_CONTENT_TYPE_OPTIONS), Some("nosniff"), "{}", shown());
    if status.is_success() {
        let json = text(header::CONTENT_TYPE) == Some("application/json") && method != Method::HEAD;
        assert!(!json || serde_json::from_slice::<Value>(answer.body()).is_ok(), "{}", shown());
        return;
    }
    assert_eq!(text(header::CONTENT_TYPE), Some(problem::CONTENT_TYPE), "{}", shown());
    let waits = matches!(status.as_u16(), 429 | 503);
    assert_eq!(text(header::RETRY_AFTER).is_some(), waits, "{}", shown());
    assert_eq!(text(header::ALLOW).is_some(), status == StatusCode::METHOD_NOT_ALLOWED, "{}", shown());
    assert_eq!(text(header::WWW_AUTHENTICATE).is_some(), status == StatusCode::UNAUTHORIZED, "{}", shown());
    if method == Method::HEAD && answer.body().is_empty() {
        return;
    }
    let problem: Problem = serde_json::from_slice(answer.body()).unwrap_or_else(|_| panic!("{}", shown()));
    let kind = ProblemType::ALL.iter().find(|kind| problem.is(**kind));
    let kind = kind.unwrap_or_else(|| panic!("{}", shown()));
    assert_eq!((kind.status(), kind.title()), (status.as_u16(), &*problem.title), "{}", shown());
    assert!(problem.detail.ends_with('.') && problem.detail.chars().count() < 3000, "{}", shown());
    let seconds = text(header::RETRY_AFTER).map(|value| value.parse().expect("seconds"));
    assert_eq!(problem.retry_after_seconds, seconds, "{}", shown());
}

/// Told from the headers without the gate's code: one token, however often it is sent, and the right one.
fn may_call(route: &Route, headers: &HeaderMap, status: u16, shown: &dyn Fn() -> String) {
    let bearer = headers.get_all(header::AUTHORIZATION).iter().map(|value| {
        let value = value.as_bytes();
        let scheme = value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
        if scheme { value[7..].trim_ascii() } else { b"no scheme" }
    });
    let plain = headers.get_all("x-registry-token").iter().map(|value| value.as_bytes().trim_ascii());
    let tokens: BTreeSet<&[u8]> = bearer.chain(plain).collect();
    let has = |token: &str| tokens.len() == 1 && tokens.contains(token.as_bytes());
    let expected = match route.need {
        Need::Nothing => None,
        Need::Read(_) | Need::ReadFromElsewhere if has(READ) || has(WRITE) => None,
        Need::Register(_) | Need::Beat(_) | Need::Admin if has(READ) => Some(403),
        Need::Register(_) | Need::Beat(_) | Need::Admin if has(WRITE) => None,
        _ => Some(401),
    };
    // What comes before the token: a head that is too long.
    if status == 431 {
        return;
    }
    match expected {
        Some(expected) => assert_eq!(status, expected, "{}", shown()),
        None => assert!(![401, 403].contains(&status), "{}", shown()),
    }
}

/// The calls that take the short way: with an empty query the same call takes the router's, and gets the same answer.
fn is_the_routers_answer(
    bed: &Bed,
    request: &Request<Bytes>,
    answer: &Response<Bytes>,
    shown: &dyn Fn() -> String,
) {
    let uri = request.uri();
    if uri.query().is_some() || uri.authority().is_some() || uri.path() == "*" {
        return;
    }
    let mut longer = request.clone();
    *longer.uri_mut() = format!("{}?", uri.path()).parse().unwrap_or_else(|_| panic!("{}", shown()));
    let routed = bed.call(longer.map(Full::new));
    if routed.status().as_u16() == 431 {
        return;
    }
    assert_eq!(answer.status(), routed.status(), "{}", shown());
    assert_eq!(without_times(answer), without_times(&routed), "{}", shown());
    let sorted = |answer: &Response<Bytes>| {
        let timed = [header::CONTENT_LENGTH, header::AGE];
        let pairs = answer.headers().iter().filter(|(name, _)| !timed.contains(name));
        pairs.map(|(name, value)| (name.clone(), value.clone())).collect::<HeaderMap>()
    };
    // The length may differ by a digit of a time. The age of what a blind node knows goes on.
    assert_eq!(sorted(answer), sorted(&routed), "{}", shown());
    let has_age = |answer: &Response<Bytes>| answer.headers().contains_key(header::AGE);
    assert_eq!(has_age(answer), has_age(&routed), "{}", shown());
}

/// The body, where it is JSON without what time alone changes.
fn without_times(answer: &Response<Bytes>) -> Result<Value, Bytes> {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for name in ["ttl_remaining", "last_heartbeat", "registered_at", "sight_age_seconds"] {
                    fields.remove(name);
                }
                fields.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    match serde_json::from_slice(answer.body()) {
        Ok(mut body) => {
            strip(&mut body);
            Ok(body)
        }
        // The metrics count the calls.
        Err(_) if answer.body().starts_with(b"# HELP") => Err(Bytes::new()),
        Err(_) => Err(answer.body().clone()),
    }
}
