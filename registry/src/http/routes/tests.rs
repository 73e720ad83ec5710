use std::sync::atomic::AtomicBool;

use http::{Request, StatusCode};
use tokio::sync::{mpsc, watch};

use super::*;
use crate::{
    clock::Sight,
    config::Settings,
    http::{Guard, Tokens, app::App},
    lease::{Bounds, Leases, Looks},
    metrics::{Breaker, Metrics},
    view::View,
};

const TOKEN: &str = "write-9f8e7d6c5b4a3210";

fn node(auth_token: Option<&str>) -> Arc<Node> {
    let config =
        Settings { auth_token: auth_token.map(str::to_owned), ..Settings::default() }.config().unwrap();
    let (submit, _) = mpsc::channel(1);
    let (look, _) = Looks::new();
    Arc::new(Node {
        leases: Leases::new(Sight::continuous(config.tick), look, submit, config.default_ttl, Bounds::none()),
        view: Arc::new(View::default()),
        metrics: Arc::new(Metrics::new().unwrap()),
        breaker: watch::channel(Breaker::Closed).1,
        tokens: Tokens::new(&config),
        trusted_proxies: Vec::new(),
        guard: Guard::new(config.limits),
        node_id: "under-test".into(),
        stopping: AtomicBool::new(false),
    })
}

async fn status(
    routes: Router,
    node: &Arc<Node>,
    method: &Method,
    path: &str,
    token: Option<&str>,
) -> StatusCode {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header("x-registry-token", token);
    }
    let request = request.body(axum::body::Body::empty()).unwrap();
    let peer = std::net::Ipv4Addr::LOCALHOST.into();
    App::with(routes, Arc::clone(node)).call(request, peer).await.status()
}

/// Somebody adds a route beside the table, or a method to a path that is there.
#[tokio::test]
async fn a_route_that_does_not_say_what_it_needs_is_never_reached() {
    for auth_token in [None, Some(TOKEN)] {
        let node = node(auth_token);
        let routes = || {
            router(Arc::clone(&node))
                .route("/added", routing::any(async || "reached"))
                .route("/services", routing::post(async || "reached"))
        };
        for (method, path) in [
            (Method::GET, "/added"),
            (Method::HEAD, "/added"),
            (Method::PUT, "/added"),
            (Method::POST, "/added"),
            (Method::DELETE, "/added"),
            (Method::POST, "/services"),
        ] {
            let without = status(routes(), &node, &method, path, None).await;
            let with = status(routes(), &node, &method, path, Some(TOKEN)).await;
            let refused =
                if path == "/added" { StatusCode::NOT_FOUND } else { StatusCode::METHOD_NOT_ALLOWED };
            let closed = auth_token.is_some() && !reads(&method);
            let expected = if closed { StatusCode::UNAUTHORIZED } else { refused };
            assert_eq!((without, with), (expected, refused), "{method} {path}");
        }
        // The same service does reach what is in the table.
        assert_eq!(status(routes(), &node, &Method::GET, "/livez", None).await, StatusCode::OK);
    }
}

/// A handler that asks for a caller, behind a route whose service the gate has not seen.
#[tokio::test]
async fn a_caller_is_had_only_where_the_gate_has_let_them_write() {
    use crate::lease::Caller;
    let node = node(None);
    let reach = async |path| {
        let handler = routing::get(async |caller: Caller| format!("{caller:?}"));
        // In the place of a call that only reads.
        let routes = Router::new().route(path, handler).with_state(Arc::clone(&node));
        status(routes, &node, &Method::GET, path, None).await
    };
    assert_eq!(reach("/services").await, StatusCode::FORBIDDEN);
    assert_eq!(reach("/livez").await, StatusCode::FORBIDDEN);
}

#[test]
fn each_call_stands_in_the_table_once() {
    for (index, route) in ROUTES.iter().enumerate() {
        let twice =
            ROUTES[..index].iter().any(|other| other.method == route.method && other.path == route.path);
        assert!(!twice, "{} {}", route.method, route.path);
        assert_ne!(route.need, Need::Admin, "what an operator does is asked of `Operator`: {}", route.path);
    }
}

#[test]
fn a_path_is_a_call_part_by_part() {
    let found = |method: Method, path: &str| find(&method, path).map(|route| route.path);
    let instance = "/services/{service}/instances/{instance}";
    assert_eq!(found(Method::PUT, "/services/a/instances/b"), Some(instance));
    assert_eq!(found(Method::HEAD, "/services/%2e%2e/instances/b"), Some(instance));
    assert_eq!(found(Method::GET, "/"), Some("/"));
    for nothing in [
        "",
        "*",
        "//",
        "/services/",
        "//services",
        "/services//instances/b",
        "/services/a/instances/",
        "/Services",
        "/services/a/instances/b/",
        "/services/a/instances/b/c",
        "/services/a/../instances",
        "services",
    ] {
        assert_eq!(found(Method::GET, nothing), None, "{nothing}");
    }
    assert_eq!(found(Method::POST, "/services"), None);
    assert_eq!(found(Method::OPTIONS, "/"), None);
}

/// Behind a trusted proxy, whose own address counts for nobody.
#[tokio::test]
async fn big_answers_are_counted_by_the_address_of_their_client() {
    let mut node = node(None);
    let proxies = Settings { trusted_proxies: Some("127.0.0.1".into()), ..Settings::default() };
    Arc::get_mut(&mut node).unwrap().trusted_proxies = proxies.config().unwrap().trusted_proxies;
    let big = || Router::new().route("/services", routing::get(async || vec![0_u8; 40 << 20]));
    let app = App::with(big(), Arc::clone(&node));
    let ask = async |client: Option<&str>| {
        let mut request = Request::get("/services");
        if let Some(client) = client {
            request = request.header("x-forwarded-for", client);
        }
        app.call(request.body(axum::body::Body::empty()).unwrap(), std::net::Ipv4Addr::LOCALHOST.into()).await
    };
    // 256 MiB are six of these, and a quarter is one.
    let own = ask(Some("192.0.2.1")).await;
    assert_eq!(own.status(), StatusCode::OK);
    assert_eq!(ask(Some("192.0.2.1")).await.status(), StatusCode::TOO_MANY_REQUESTS);
    let others = [ask(Some("192.0.2.2")).await, ask(None).await, ask(None).await];
    assert!(others.iter().all(|answer| answer.status() == StatusCode::OK));
    drop(own);
    assert_eq!(ask(Some("192.0.2.1")).await.status(), StatusCode::OK);
}
