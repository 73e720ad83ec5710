//! Signed tokens: every call with every kind of token.

use std::{fs, net::SocketAddr};

use registry::{
    clock,
    config::Settings,
    http::ROUTES,
    store::{LogRow, Store as Database},
    token::{BEAT_LEEWAY, Claims, Keys, LEEWAY, Right, Word},
};
use registry_wire::ProblemType;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    auth::{denied, let_through, own_address},
    harness::{Answer, Node, Store, minimal, path},
};

both!(
    every_call_with_every_token,
    reads_are_open_unless_they_are_closed,
    lists_need_the_right_to_read_all,
    an_operators_drain_needs_an_admin,
    a_name_is_compared_as_it_is_meant,
    an_expired_token_beats_for_a_day_and_does_nothing_else,
    who_did_it_stands_in_the_log_of_changes,
);

pub(crate) const KEY: &str = "k1 3d1f7c9a5be204688f0e1d2c3b4a59687766554433221100ffeeddccbbaa9988\n";
const OTHER_KEY: &str = "k1 99887766554433221100ffeeddccbbaa00112233445566778899aabbccddee1f\n";
const REVOKED: &str = "revoked-1";

/// The files of keys and of revocations, and what makes tokens.
pub(crate) struct Issuer {
    pub(crate) dir: TempDir,
    keys: Keys,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        let dir = testkit::memory_dir();
        fs::write(dir.path().join("keys"), KEY).unwrap();
        fs::write(dir.path().join("revoked"), format!("{REVOKED}\n")).unwrap();
        let keys = Keys::read(&dir.path().join("keys")).unwrap();
        Self { dir, keys }
    }

    /// One that signs under the same id with another secret.
    fn foreign() -> Keys {
        let dir = testkit::memory_dir();
        fs::write(dir.path().join("keys"), OTHER_KEY).unwrap();
        Keys::read(&dir.path().join("keys")).unwrap()
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// Sets the files of a node.
    pub(crate) fn settle(&self, settings: &mut Settings) {
        settings.token_keys_file = Some(self.file("keys"));
        settings.token_revoked_file = Some(self.file("revoked"));
    }

    /// A token of `NAME: PATTERN`s.
    pub(crate) fn token(&self, rights: &[(Right, &str)]) -> String {
        self.token_of("id-1", rights)
    }

    /// The same under another id.
    pub(crate) fn token_of(&self, id: &str, rights: &[(Right, &str)]) -> String {
        self.keys.sign(&claims("tester", id, 3600, rights)).unwrap()
    }
}

/// Claims that expire so many seconds from now.
pub(crate) fn claims(sub: &str, id: &str, seconds: i64, rights: &[(Right, &str)]) -> Claims {
    let now = clock::unix_seconds();
    let word = |text: &str| text.parse::<Word>().unwrap();
    let mut claims = Claims::new(word(sub), word(id), now, now.saturating_add_signed(seconds));
    for (right, pattern) in rights {
        let patterns = match right {
            Right::Register => &mut claims.register,
            Right::Read => &mut claims.read,
            Right::Admin => &mut claims.admin,
        };
        patterns.push(pattern.parse().unwrap());
    }
    claims
}

const DAY: i64 = 24 * 3600;

/// A path about `web/a`, with what a call needs besides.
fn filled(method: &str, pattern: &str) -> String {
    let path =
        pattern.replace("{service}", "web").replace("{instance}", "a").replace("{service_name}", "web");
    // A service's own drain; an operator's has a test of its own.
    if method == "DELETE" && path.ends_with("/drain") { format!("{path}?session=s") } else { path }
}

fn body(path: &str) -> Value {
    match path {
        "/register" => json!({"service_name": "web", "instance_id": "a", "endpoint": "http://h:1"}),
        "/heartbeat" => json!({"service_name": "web", "instance_id": "a"}),
        path if path.ends_with("/drain") => json!({"reason": "r", "session": "s"}),
        path if path.ends_with("/heartbeat") => json!({"session": "s"}),
        _ => json!({"endpoint": "http://h:1", "session": "s"}),
    }
}

async fn call(node: &Node, method: &str, path: &str, token: Option<&str>) -> Answer {
    let plain = path.split('?').next().unwrap();
    let mut request = node.request(method, path);
    if matches!(method, "PUT" | "POST") {
        request = request.json(&body(plain));
    }
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    Answer::of(request).await
}

/// What a call is, from its method and path alone: what is not named here is closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Open,
    OpenToNeighbours,
    ReadOne,
    ReadAll,
    Write,
    /// What is not there is no service's: whoever may not do everything is not told.
    NoCallButARead,
    NoCall,
}

fn class(method: &str, path: &str) -> Class {
    match (method, path) {
        ("GET" | "HEAD", "/" | "/livez" | "/readyz" | "/openapi.json") => Class::Open,
        ("GET" | "HEAD", "/health" | "/metrics") => Class::OpenToNeighbours,
        ("GET" | "HEAD", path) if path.starts_with("/services/") => Class::ReadOne,
        ("GET" | "HEAD", _) => Class::ReadAll,
        _ => Class::Write,
    }
}

/// 401 and 403 as they must be, by the kind of the token; `None`: let through.
fn expected(class: Class, kind: &str) -> Option<ProblemType> {
    if class == Class::Open {
        return None;
    }
    if UNKNOWN.contains(&kind) {
        return Some(ProblemType::Unauthorized);
    }
    let enough: &[&str] = match class {
        Class::Open | Class::OpenToNeighbours => &["other service's", "read-only", "right", "admin"],
        Class::ReadOne => &["read-only", "right", "admin"],
        Class::ReadAll | Class::NoCallButARead => &["read-only", "admin"],
        Class::Write => &["register only", "right", "admin"],
        Class::NoCall => &["admin"],
    };
    if enough.contains(&kind) { None } else { Some(ProblemType::Forbidden) }
}

/// Tokens that count for nothing.
const UNKNOWN: [&str; 6] = ["none", "garbage", "expired", "wrong key", "unsigned", "revoked"];

fn tokens(issuer: &Issuer) -> Vec<(&'static str, Option<String>)> {
    let sign = |keys: &Keys, claims: Claims| Some(keys.sign(&claims).unwrap());
    let all = [(Right::Admin, "*")];
    let mine = |claims| sign(&issuer.keys, claims);
    let admin = mine(claims("t", "id", DAY, &all)).unwrap();
    vec![
        ("none", None),
        ("garbage", Some("garbage-0123456789".into())),
        ("expired", mine(claims("t", "id", -2 * DAY, &all))),
        ("wrong key", sign(&Issuer::foreign(), claims("t", "id", DAY, &all))),
        ("unsigned", Some(format!("{}.", admin.rsplit_once('.').unwrap().0))),
        ("revoked", mine(claims("t", REVOKED, DAY, &all))),
        ("nothing", mine(claims("t", "id", DAY, &[]))),
        ("other service's", mine(claims("t", "id", DAY, &[(Right::Register, "we"), (Right::Read, "webs*")]))),
        ("read-only", mine(claims("t", "id", DAY, &[(Right::Read, "*")]))),
        ("register only", mine(claims("t", "id", DAY, &[(Right::Register, "web")]))),
        ("right", mine(claims("t", "id", DAY, &[(Right::Register, "web*"), (Right::Read, "web")]))),
        ("admin", Some(admin)),
    ]
}

async fn every_call_with_every_token(store: Store) {
    let issuer = Issuer::new();
    let here = own_address();
    if here.is_none() {
        eprintln!(
            "SKIPPED in part: this machine has no address but loopback ones, from which /metrics is open"
        );
    }
    let node = store
        .node_with(|settings| {
            issuer.settle(settings);
            settings.reads_closed = Some("true".into());
            settings.listen = here.map(|address| SocketAddr::new(address, 0).to_string());
        })
        .await;
    let tokens = tokens(&issuer);
    let admin = tokens.last().unwrap().1.clone().unwrap();
    let state = async || {
        let answer = Answer::sure(|| node.request("GET", "/instances").bearer_auth(&admin)).await;
        let fields = |instance: &Value| {
            ["instance_id", "status", "draining", "registered_at"].map(|name| instance[name].clone())
        };
        answer.ok()["instances"].as_array().unwrap().iter().map(fields).collect::<Vec<_>>()
    };
    let methods = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"];
    let unknown = ["/services/web/instances/a/future", "/admin", "/livez/x", "/metrics/", "//"];
    let real = ROUTES.iter().map(|route| (route.method.as_str(), route.path));
    let heads = ROUTES.iter().filter(|route| route.method == "GET").map(|route| ("HEAD", route.path));
    let made_up = unknown.iter().flat_map(|path| methods.map(|method| (method, *path)));
    // Each path with each method that it does not have.
    let wrong = ROUTES.iter().flat_map(|route| methods.map(|method| (method, route.path)));
    let wrong = wrong.filter(|(method, path)| {
        let has = |route: &&registry::http::Route| {
            route.path == *path && (route.method == *method || route.method == "GET" && *method == "HEAD")
        };
        ROUTES.iter().find(has).is_none()
    });
    let mut count = 0;
    let calls =
        real.chain(heads).map(|call| (call, true)).chain(made_up.chain(wrong).map(|call| (call, false)));
    for ((method, pattern), exists) in calls {
        let path = filled(method, pattern);
        for (kind, token) in &tokens {
            let class = match class(method, path.split('?').next().unwrap()) {
                Class::OpenToNeighbours if here.is_none() => Class::Open,
                class if exists => class,
                _ if matches!(method, "GET" | "HEAD") => Class::NoCallButARead,
                _ => Class::NoCall,
            };
            let before = state().await;
            let answer = call(&node, method, &path, token.as_deref()).await;
            let shown = format!("{method} {path} with {kind}: {answer:?}");
            if let Some(problem) = expected(class, kind) {
                assert_eq!(answer.status, problem.status(), "{shown}");
                denied(method, &answer, problem);
                assert_eq!(state().await, before, "{shown}");
            } else {
                let_through(&answer);
                let nothing = answer.status == 405 || answer.body["type"] == "/problems/not-found";
                // A HEAD has no body to say so.
                assert!(method == "HEAD" || exists != nothing, "{shown}");
            }
            count += 1;
        }
    }
    assert!(count > 18 * 12, "{count}");
}

async fn reads_are_open_unless_they_are_closed(store: Store) {
    let issuer = Issuer::new();
    let expired = issuer.keys.sign(&claims("t", "id", -2 * DAY, &[])).unwrap();
    let open = store.node_with(|settings| issuer.settle(settings)).await;
    for token in [None, Some("garbage"), Some(&*expired)] {
        call(&open, "GET", "/services", token).await.ok();
    }
    denied("PUT", &call(&open, "PUT", &path("web", "a"), None).await, ProblemType::Unauthorized);
    // A read token closes them for signed tokens too; the plain tokens count beside the signed ones.
    let closed = store
        .node_with(|settings| {
            issuer.settle(settings);
            settings.read_token = Some("read-0f1e2d3c4b5a6978".into());
            settings.auth_token = Some("write-9f8e7d6c5b4a3210".into());
        })
        .await;
    denied("GET", &call(&closed, "GET", "/services", None).await, ProblemType::Unauthorized);
    let reader = issuer.token(&[(Right::Read, "*")]);
    for token in ["read-0f1e2d3c4b5a6978", "write-9f8e7d6c5b4a3210", &reader] {
        call(&closed, "GET", "/services", Some(token)).await.ok();
    }
    assert_eq!(call(&closed, "PUT", &path("web", "a"), Some("write-9f8e7d6c5b4a3210")).await.status, 201);
    assert_eq!(call(&closed, "PUT", &path("web", "a"), Some("read-0f1e2d3c4b5a6978")).await.status, 403);
    // Two tokens that are not the same are none.
    let both = closed
        .request("GET", "/services")
        .bearer_auth(&reader)
        .header("x-registry-token", "read-0f1e2d3c4b5a6978");
    assert_eq!(Answer::of(both).await.status, 401);
    let twice = closed.request("GET", "/services").bearer_auth(&reader).header("x-registry-token", &reader);
    Answer::of(twice).await.ok();
}

async fn lists_need_the_right_to_read_all(store: Store) {
    let issuer = Issuer::new();
    let node = store
        .node_with(|settings| {
            issuer.settle(settings);
            settings.reads_closed = Some("true".into());
        })
        .await;
    let admin = issuer.token(&[(Right::Admin, "*")]);
    assert_eq!(call(&node, "PUT", &path("web", "a"), Some(&admin)).await.status, 201);
    let some = issuer.token(&[(Right::Read, "web*"), (Right::Read, "orders")]);
    let status = async |path: &str| call(&node, "GET", path, Some(&some)).await.status;
    for path in
        ["/services/web", "/services/web?all=true", "/services/web/instances/a", "/instances?service=web"]
    {
        assert_eq!(status(path).await, 200, "{path}");
    }
    assert_eq!(status("/services/orders").await, 404);
    // A list of some that looks like a list of all would be a lie.
    for path in [
        "/services",
        "/instances",
        "/instances?service=",
        "/instances?service=other",
        "/instances?limit=5",
        "/instances?Service=web",
        "/instances?service=other&service=web",
        "/instances?service=web&service=other",
        "/services/other",
        "/services/orders-eu",
    ] {
        assert_eq!(status(path).await, 403, "{path}");
    }
    let answer = call(&node, "GET", "/services", Some(&some)).await;
    let detail = answer.body["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("read web*, orders") && detail.contains("'tester'"), "{detail}");
    assert_eq!(status("/instances?service=web&service=web").await, 422);
}

async fn an_operators_drain_needs_an_admin(store: Store) {
    let issuer = Issuer::new();
    let node = store.node_with(|settings| issuer.settle(settings)).await;
    let service = issuer.token(&[(Right::Register, "web")]);
    let operator = issuer.token(&[(Right::Admin, "web")]);
    assert_eq!(call(&node, "PUT", &path("web", "a"), Some(&service)).await.status, 201);
    let drain = format!("{}/drain", path("web", "a"));
    let put = async |token: &str, body: Value| {
        Answer::of(node.request("PUT", &drain).bearer_auth(token).json(&body)).await.status
    };
    let delete = async |token: &str, query: &str| {
        Answer::of(node.request("DELETE", &format!("{drain}{query}")).bearer_auth(token)).await.status
    };
    let draining = async || node.get(&path("web", "a")).await.ok()["draining"].as_bool().unwrap();
    assert_eq!(put(&service, json!({"reason": "r"})).await, 403);
    assert!(!draining().await);
    assert_eq!(put(&service, json!({"reason": "r", "session": "s"})).await, 200, "its own");
    assert!(draining().await);
    assert_eq!(delete(&service, "?session=s").await, 204);
    assert_eq!(put(&operator, json!({"reason": "r"})).await, 200);
    assert_eq!(delete(&service, "").await, 403);
    assert!(draining().await);
    assert_eq!(delete(&operator, "").await, 204);
    assert!(!draining().await);
    // An admin of another service is nobody here.
    let other = issuer.token(&[(Right::Admin, "other"), (Right::Register, "web")]);
    assert_eq!(put(&other, json!({"reason": "r"})).await, 403);
}

async fn a_name_is_compared_as_it_is_meant(store: Store) {
    let issuer = Issuer::new();
    let node = store.node_with(|settings| issuer.settle(settings)).await;
    let token = issuer.token(&[(Right::Register, "web*")]);
    let put = async |service: &str| {
        Answer::of(node.request("PUT", &path(service, "a")).bearer_auth(&token).json(&minimal())).await.status
    };
    assert_eq!(put("web").await, 201);
    assert_eq!(put("%77eb").await, 200, "the same, percent-encoded");
    assert_eq!(put("web-2").await, 201);
    for other in ["Web", "orders", "%6frders", "web%2Fx", "web%00", "web%20", "%2e%2e", "we", "w%65"] {
        assert_eq!(put(other).await, 403, "{other}");
    }
    let flat = async |body: String| {
        let request =
            node.request("POST", "/register").bearer_auth(&token).header("content-type", "application/json");
        Answer::of(request.body(body)).await.status
    };
    assert_eq!(flat(r#"{"service_name":"w\u0065b","endpoint":"http://h:1"}"#.into()).await, 201);
    assert_eq!(flat(r#"{"service_name":"orders","endpoint":"http://h:1"}"#.into()).await, 403);
    assert_eq!(
        flat(r#"{"service_name":"web","service_name":"orders","endpoint":"http://h:1"}"#.into()).await,
        400
    );
    assert_eq!(
        flat(r#"{"service_name":"orders","service_name":"web","endpoint":"http://h:1"}"#.into()).await,
        400
    );
    let beat =
        node.request("POST", "/heartbeat").bearer_auth(&token).json(&json!({"service_name": "orders"}));
    assert_eq!(Answer::of(beat).await.status, 403);
    let gone = node.request("DELETE", "/deregister/orders").bearer_auth(&token);
    assert_eq!(Answer::of(gone).await.status, 403);
    assert_eq!(node.get("/services").await.ok(), &json!(["web", "web-2"]));
}

async fn an_expired_token_beats_for_a_day_and_does_nothing_else(store: Store) {
    let issuer = Issuer::new();
    let node = store.node_with(|settings| issuer.settle(settings)).await;
    let web = [(Right::Register, "web"), (Right::Admin, "web")];
    let good = issuer.token(&web);
    assert_eq!(call(&node, "PUT", &path("web", "a"), Some(&good)).await.status, 201);
    let beat = format!("{}/heartbeat", path("web", "a"));
    let drain = format!("{}/drain", path("web", "a"));
    let (day, minute) = (i64::try_from(BEAT_LEEWAY).unwrap(), i64::try_from(LEEWAY).unwrap());
    // So far from each bound that a slow machine does not cross it.
    for (seconds, beats, writes) in [
        (300, true, true),
        (30 - minute, true, true),
        (-minute - 5, true, false),
        (-3600, true, false),
        (300 - day, true, false),
        (-day - 5, false, false),
    ] {
        let token = issuer.keys.sign(&claims("late", &format!("late{seconds}"), seconds, &web)).unwrap();
        for (method, path) in [("PUT", beat.as_str()), ("POST", "/heartbeat")] {
            // Without a session: what takes the place of another is no matter here.
            let body = if method == "POST" { body(path) } else { json!({}) };
            let request = || node.request(method, path).bearer_auth(&token).json(&body);
            let status = Answer::sure(request).await.status;
            assert_eq!(status, if beats { 200 } else { 401 }, "{seconds} {path}");
        }
        for (method, path) in [
            ("PUT", path("web", "a").as_str()),
            ("PUT", &drain),
            ("DELETE", &format!("{drain}?session=s")),
            ("POST", "/register"),
        ] {
            let status = call(&node, method, path, Some(&token)).await.status;
            assert_eq!(status != 401, writes, "{seconds} {method} {path}: {status}");
        }
        if !writes {
            // Nothing new is made by a beat, and the other way out is closed.
            let absent = format!("{}/heartbeat", path("web", "nobody"));
            assert_eq!(call(&node, "PUT", &absent, Some(&token)).await.status, if beats { 404 } else { 401 });
            assert_eq!(call(&node, "DELETE", &path("web", "a"), Some(&token)).await.status, 401);
            let other = format!("{}/heartbeat", path("other", "a"));
            assert_eq!(call(&node, "PUT", &other, Some(&token)).await.status, if beats { 403 } else { 401 });
        }
    }
    let scrape = node.get("/metrics").await.text;
    let late = scrape.lines().find(|line| line.starts_with("registry_token_late_beats_total ")).unwrap();
    // Two beats and one of nobody for each of three tokens, and those of the second.
    assert_eq!(late, "registry_token_late_beats_total 11");
}

async fn who_did_it_stands_in_the_log_of_changes(store: Store) {
    let issuer = Issuer::new();
    let dir = testkit::memory_dir();
    let url = match store {
        Store::Sqlite => format!("sqlite://{}/registry.db", dir.path().display()),
        Store::Postgres => testkit::Postgres::shared().fresh_database().await,
    };
    let node = Node::start(url.clone(), None, |settings| {
        issuer.settle(settings);
        settings.auth_token = Some("write-9f8e7d6c5b4a3210".into());
    })
    .await;
    let alice = issuer.keys.sign(&claims("ci/alice", "id-1", 60, &[(Right::Admin, "*")])).unwrap();
    let plain = "write-9f8e7d6c5b4a3210";
    let drain = format!("{}/drain", path("web", "a"));
    for (method, path, token) in [
        ("PUT", path("web", "a").as_str(), alice.as_str()),
        ("PUT", &drain, &alice),
        ("DELETE", &format!("{drain}?session=s"), plain),
        ("POST", "/register", &alice),
        ("DELETE", "/deregister/web?instance_id=a", &alice),
    ] {
        let answer = Answer::sure(|| {
            let request = node.request(method, path).bearer_auth(token);
            if method == "DELETE" { request } else { request.json(&body(path)) }
        })
        .await;
        assert!(answer.status < 300, "{method} {path}: {answer:?}");
    }
    node.end().await;
    let database = Database::open(&url).await.unwrap();
    let page = database.changes_after(0, 100, &[]).await.unwrap();
    let changes: Vec<_> = page
        .rows
        .iter()
        .filter_map(|row| if let LogRow::Change(change) = row { Some(change) } else { None })
        .collect();
    let who: Vec<_> =
        changes.iter().map(|change| (change.kind.as_str(), change.actor.clone().unwrap())).collect();
    let signed = "ci/alice@127.0.0.1".to_owned();
    assert_eq!(
        who,
        [
            ("register", signed.clone()),
            ("drain", signed.clone()),
            ("undrain", "127.0.0.1".to_owned()),
            ("replace", signed.clone()),
            ("deregister", signed),
        ]
    );
    let record = &changes[0].body.record;
    assert_eq!(record.observed_address.as_deref(), Some("127.0.0.1"), "readers see the address alone");
}
