//! Ways around the token that others have fallen for: headers that claim, paths that mean another path.

use std::fmt::Write;

use registry::token::Right;
use registry_wire::ProblemType;
use serde_json::json;

use crate::{
    harness::{Answer, Node, Store, minimal, path},
    tokens::Issuer,
};

both!(two_hundred_headers_and_paths_give_the_same_401);

const WRITE: &str = "write-9f8e7d6c5b4a3210";

/// Headers that must count for nothing, each block in place of a good token. `$` stands for a token that is good.
const HEADERS: &[&str] = &[
    "authorization: $",
    "authorization: Bearer",
    "authorization: Bearer ",
    "authorization: Bearer$",
    "authorization: Bearer=$",
    "authorization: Bearer: $",
    "authorization: Bearer,$",
    "authorization: Bearer \"$\"",
    "authorization: Bearer '$'",
    "authorization: Bearer <$>",
    "authorization: Bearer $,",
    "authorization: Bearer $;",
    "authorization: Bearer $ $",
    "authorization: Bearer $, Bearer $",
    "authorization: Bearer Bearer $",
    "authorization: Bearer token=$",
    "authorization: Bearer $%20",
    "authorization: Bearer %$",
    "authorization: Bearer x$",
    "authorization: Bearer $x",
    "authorization: Bearer null",
    "authorization: Bearer undefined",
    "authorization: Bearer true",
    "authorization: Bearer *",
    "authorization: Bearer '' OR 1=1",
    "authorization: Basic $",
    "authorization: Basic OlQ=",
    "authorization: Token $",
    "authorization: JWT $",
    "authorization: Digest $",
    "authorization: Negotiate $",
    "authorization: ApiKey $",
    "authorization: none",
    "authorization: Bearer wrong\r\nauthorization: Bearer $",
    "authorization: Bearer $\r\nauthorization: Bearer wrong",
    "authorization: Bearer $\r\nauthorization: Basic $",
    "authorization: Bearer $\r\nauthorization: ",
    "authorization: Bearer $\r\nx-registry-token: wrong",
    "authorization: Bearer $\r\nx-registry-token: ",
    "authorization: Bearer wrong\r\nx-registry-token: $",
    "authorization: \r\nx-registry-token: $",
    "x-registry-token: $\r\nx-registry-token: wrong",
    "x-registry-token: wrong\r\nx-registry-token: $",
    "x-registry-token: Bearer $",
    "x-registry-token: \"$\"",
    "x-registry-token: $,$",
    "x-registry-token: $ x",
    "x-registry-token: ",
    "x-registry-tokens: $",
    "x_registry_token: $",
    "xregistrytoken: $",
    "registry-token: $",
    "token: $",
    "auth: $",
    "accesstoken: $",
    "x-token: $",
    "x-auth-token: $",
    "x-access-token: $",
    "x-api-key: $",
    "api-key: $",
    "x-consul-token: $",
    "x-vault-token: $",
    "private-token: $",
    "proxy-authorization: Bearer $",
    "www-authenticate: Bearer $",
    "x-authorization: Bearer $",
    "x-original-authorization: Bearer $",
    "x-forwarded-authorization: Bearer $",
    "authentication: Bearer $",
    "cookie: token=$; registry_token=$; session=$",
    "set-cookie: token=$",
    "sec-websocket-protocol: bearer, $",
    "user-agent: Nacos-Server",
    "user-agent: sidecar/0.1.0",
    "user-agent: registry",
    "user-agent: kube-probe/1.31",
    "user-agent: Prometheus/3.0",
    "serveridentity: security",
    "x-forwarded-for: 127.0.0.1",
    "x-forwarded-for: ::1",
    "x-real-ip: 127.0.0.1",
    "forwarded: for=127.0.0.1;by=127.0.0.1;host=localhost",
    "x-client-ip: 127.0.0.1",
    "x-originating-ip: 127.0.0.1",
    "x-remote-ip: 127.0.0.1",
    "x-remote-addr: 127.0.0.1",
    "true-client-ip: 127.0.0.1",
    "cf-connecting-ip: 127.0.0.1",
    "x-cluster-client-ip: 127.0.0.1",
    "x-forwarded-host: localhost",
    "x-forwarded-proto: https",
    "x-forwarded-prefix: /livez",
    "x-forwarded-uri: /livez",
    "x-forwarded-user: admin",
    "x-forwarded-client-cert: Hash=0;Subject=\"CN=admin\"",
    "x-remote-user: admin",
    "remote-user: admin",
    "x-user: admin",
    "x-admin: true",
    "x-internal: true",
    "x-ssl-client-verify: SUCCESS",
    "x-original-url: /livez",
    "x-rewrite-url: /livez",
    "x-original-method: GET",
    "x-http-method: GET",
    "x-http-method-override: GET",
    "x-method-override: GET",
    "x-custom-ip-authorization: 127.0.0.1",
    "origin: http://localhost:8888",
    "referer: http://localhost:8888/livez",
    "via: 1.1 localhost",
    "upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABkAAQAAP__",
    "connection: authorization",
    "cache-control: no-cache",
    "accept: text/html",
    "range: bytes=0-1",
    "te: trailers",
    "dnt: 1",
];

/// Other ways to write the path of an instance, and of what is open to all.
const PATHS: &[&str] = &[
    "/services/web/instances/a",
    "//services/web/instances/a",
    "///services/web/instances/a",
    "/services//web/instances/a",
    "/services/web//instances/a",
    "/services/web/instances//a",
    "/services/web/instances/a/",
    "/services/web/instances/a//",
    "/services/web/instances/a/.",
    "/services/web/instances/a/..",
    "/services/web/instances/a;",
    "/services/web/instances/a;jsessionid=1",
    "/services/web;/instances/a",
    "/services;x=/livez/web/instances/a",
    "/;/services/web/instances/a",
    "/livez;/../services/web/instances/a",
    "/livez/../services/web/instances/a",
    "/livez/..;/services/web/instances/a",
    "/livez/%2e%2e/services/web/instances/a",
    "/livez/%2e%2e%2fservices/web/instances/a",
    "/livez%2f..%2fservices/web/instances/a",
    "/livez%00/services/web/instances/a",
    "/livez%20",
    "/livez%3f",
    "/livez%23",
    "/livez/",
    "//livez",
    "/./livez",
    "/%6civez",
    "/LIVEZ",
    "/livez.json",
    "/livez;x",
    "/livez/x",
    "/health/",
    "/metrics/",
    "/metrics/x",
    "/openapi.json/",
    "/openapi.json/../services",
    "/%2e/services/web/instances/a",
    "/%2e%2e/services/web/instances/a",
    "/./services/web/instances/a",
    "/../services/web/instances/a",
    "/services/./web/instances/a",
    "/services/web/../web/instances/a",
    "/services/%2e%2e/instances/a",
    "/services/web%2finstances%2fa",
    "/services%2fweb%2finstances%2fa",
    "/%73ervices/web/instances/a",
    "/services/%77eb/instances/%61",
    "/services/web/instances/a%00",
    "/services/web/instances/a%0d%0a",
    "/services/web/instances/%252e%252e",
    "/Services/web/instances/a",
    "/SERVICES/WEB/INSTANCES/A",
    "/services\\web\\instances\\a",
    "/services/web/instances/a?",
    "/services/web/instances/a?token=$",
    "/services/web/instances/a?access_token=$",
    "/services/web/instances/a?authorization=Bearer%20$",
    "/services/web/instances/a?_method=GET",
    "/services/web/instances/a?x-registry-token=$",
    "/services/web/instances/a?/livez",
    "/services/web/instances/a?path=/livez",
    "http://localhost/services/web/instances/a",
    "http://$@localhost/services/web/instances/a",
    "https://localhost/livez/../services/web/instances/a",
    "/v1/services/web/instances/a",
    "/api/services/web/instances/a",
    "/nacos/v1/auth/users",
    "/actuator/env",
];

async fn ask(node: &Node, method: &str, path: &str, headers: &str) -> Answer {
    let body = minimal().to_string();
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
    if !headers.is_empty() {
        write!(request, "{headers}\r\n").unwrap();
    }
    write!(request, "content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .unwrap();
    node.raw(request.as_bytes()).await
}

async fn two_hundred_headers_and_paths_give_the_same_401(store: Store) {
    let issuer = Issuer::new();
    let node = store
        .node_with(|settings| {
            issuer.settle(settings);
            settings.auth_token = Some(WRITE.into());
            settings.reads_closed = Some("true".into());
        })
        .await;
    let signed = issuer.token(&[(Right::Admin, "*")]);
    let put = node.request("PUT", &path("web", "a")).bearer_auth(&signed).json(&minimal());
    assert_eq!(Answer::of(put).await.status, 201);
    let state =
        async || Answer::sure(|| node.request("GET", "/instances").bearer_auth(WRITE)).await.ok().clone();
    let registered_at = |state: &serde_json::Value| state["instances"][0]["registered_at"].clone();
    let before = state().await;
    let mut seen = 0;
    let mut refused = |answer: &Answer, shown: &str| {
        assert_eq!(answer.status, 401, "{shown}: {answer:?}");
        let problem = answer.problem(ProblemType::Unauthorized);
        assert_eq!(answer.header("www-authenticate"), "Bearer", "{shown}");
        let keys: Vec<_> = problem.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["detail", "status", "title", "type"], "{shown}");
        seen += 1;
    };
    for (index, pattern) in HEADERS.iter().enumerate() {
        // The plain token and the signed one in turn.
        let token = if index % 2 == 0 { WRITE } else { &signed };
        let headers = pattern.replace('$', token);
        for (method, path) in [("PUT", "/services/web/instances/a"), ("GET", "/services")] {
            refused(&ask(&node, method, path, &headers).await, &format!("{method} {path} {headers}"));
        }
    }
    for pattern in PATHS {
        let path = pattern.replace('$', &signed);
        for method in ["PUT", "POST", "DELETE", "PATCH", "OPTIONS", "get", "GETS", "TRACE"] {
            refused(&ask(&node, method, &path, "").await, &format!("{method} {path}"));
        }
        // What is open is so by its exact name.
        refused(&ask(&node, "GET", &path, "").await, &format!("GET {path}"));
    }
    assert!(seen >= 200, "{seen}");
    let after = state().await;
    assert_eq!(after["instances"].as_array().unwrap().len(), 1);
    assert_eq!(registered_at(&after), registered_at(&before));
    assert_eq!(after["instances"][0]["endpoint"], minimal()["endpoint"]);
    // With the token in its place each of these requests is let through, so the refusals were for want of it.
    for headers in [format!("Authorization: bearer   {signed} "), format!("X-REGISTRY-TOKEN: {WRITE}")] {
        let answer = ask(&node, "PUT", "/services/web/instances/a", &headers).await;
        assert_eq!(answer.status, 200, "{headers}: {answer:?}");
    }
    assert_eq!(ask(&node, "GET", "/livez", "").await.body, json!({"status": "alive"}));
}
