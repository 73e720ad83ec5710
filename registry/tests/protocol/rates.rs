//! How much may be asked for in a second, by token and by address.

use futures_util::future::join_all;
use registry::token::Right;
use registry_wire::ProblemType;
use reqwest::RequestBuilder;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    harness::{Answer, Node, Store, minimal, path},
    operator::{grown, scrape_once},
    tokens::Issuer,
};

/// Calls sent at once, where 2 a second are allowed.
const AT_ONCE: usize = 40;

/// Sends these calls at once. Returns how many were refused; the others are a second's worth, and what the time gave.
async fn burst(setting: &str, call: impl Fn() -> RequestBuilder) -> usize {
    let begun = Instant::now();
    let answers = join_all((0..AT_ONCE).map(|_| Answer::of(call()))).await;
    let given = 2 + usize::try_from(begun.elapsed().as_millis() / 500).unwrap() + 1;
    let (refused, passed): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 429);
    for answer in &refused {
        let body = answer.problem(ProblemType::Overloaded);
        assert!(body["detail"].as_str().unwrap().contains(setting), "{answer:?}");
    }
    assert!((2..=given).contains(&passed.len()), "{} of {AT_ONCE} passed, where {given} may", passed.len());
    refused.len()
}

/// What costs no rate, whatever was refused: beats of what is there, reads of one, probes.
async fn others_pass(node: &Node, with: impl Fn(RequestBuilder) -> RequestBuilder) {
    for _ in 0..20 {
        for (method, path) in [
            ("PUT", "/services/web/instances/a/heartbeat"),
            ("PUT", "/services/web/instances/%61/heartbeat"),
            ("POST", "/heartbeat"),
            ("GET", "/services/web"),
            ("GET", "/services/web/instances/a"),
            ("GET", "/livez"),
        ] {
            let body = json!({"service_name": "web", "instance_id": "a"});
            let answer = Answer::sure(|| with(node.request(method, path).json(&body))).await;
            assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn each_token_has_a_rate_of_changes() {
    const WRITE: &str = "token-9f8e7d6c5b4a3210";
    let issuer = Issuer::new();
    let node = Store::Sqlite
        .node_with(|settings| {
            issuer.settle(settings);
            settings.auth_token = Some(WRITE.into());
            settings.limits.max_changes_per_token = Some("2".into());
        })
        .await;
    let rights = [(Right::Register, "*")];
    let (one, other) = (issuer.token_of("id-1", &rights), issuer.token_of("id-2", &rights));
    let register =
        Answer::sure(|| node.request("PUT", &path("web", "a")).json(&minimal()).bearer_auth(&other));
    assert_eq!(register.await.status, 201);
    let before = scrape_once(&node).await;
    let mut refused = 0;
    for token in [WRITE, &one] {
        let delete = || node.request("DELETE", "/deregister/nobody").bearer_auth(token);
        refused += burst("REGISTRY_MAX_CHANGES_PER_TOKEN", delete).await;
        others_pass(&node, |request| request.bearer_auth(token)).await;
    }
    // A body that names the service counts as well, and so does a drain.
    for (id, method, path) in
        [("id-3", "POST", "/register"), ("id-4", "PUT", "/services/no/instances/a/drain")]
    {
        let token = issuer.token_of(id, &rights);
        let body = json!({"service_name": "x", "endpoint": "http://h:1", "reason": "r", "session": "s"});
        let call = || node.request(method, path).json(&body).bearer_auth(&token);
        refused += burst("REGISTRY_MAX_CHANGES_PER_TOKEN", call).await;
    }
    let grown = grown(&before, &scrape_once(&node).await, "registry_refused_total{reason=\"token_rate\"}");
    assert_eq!(usize::try_from(grown).unwrap(), refused);
}

#[tokio::test]
async fn each_address_behind_a_trusted_proxy_has_a_rate() {
    let node = Store::Sqlite
        .node_with(|settings| {
            settings.trusted_proxies = Some("127.0.0.1".into());
            settings.limits.max_calls_per_address = Some("2".into());
        })
        .await;
    // The proxy's own calls have none.
    node.register("web", "a", &minimal()).await;
    let before = scrape_once(&node).await;
    let mut refused = 0;
    for (address, path) in
        [("198.51.100.1", "/services"), ("198.51.100.2", "/instances"), ("::1", "/services")]
    {
        let list = || node.request("GET", path).header("x-forwarded-for", address);
        refused += burst("REGISTRY_MAX_CALLS_PER_ADDRESS", list).await;
        others_pass(&node, |request| request.header("x-forwarded-for", address)).await;
        for _ in 0..20 {
            node.get("/services").await.ok();
        }
    }
    let grown = grown(&before, &scrape_once(&node).await, "registry_refused_total{reason=\"address_rate\"}");
    assert_eq!(usize::try_from(grown).unwrap(), refused);
}

/// Where no proxy is named every client may have the address of one.
#[tokio::test]
async fn without_a_trusted_proxy_no_address_has_a_rate() {
    let node =
        Store::Sqlite.node_with(|settings| settings.limits.max_calls_per_address = Some("2".into())).await;
    for _ in 0..AT_ONCE {
        let list = node.request("GET", "/services").header("x-forwarded-for", "198.51.100.1");
        assert_ne!(Answer::of(list).await.status, 429);
    }
}
