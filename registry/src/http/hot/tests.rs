use super::{
    super::{gate, routes},
    *,
};

fn hot(method: &str, uri: &'static str) -> Option<Hot<'static>> {
    let uri: &'static Uri = Box::leak(Box::new(Uri::from_static(uri)));
    let method = method.parse().unwrap();
    Hot::of(&method, uri)
}

#[test]
fn the_usual_calls_are_seen() {
    assert_eq!(hot("GET", "/services/a.b-1"), Some(Hot::Service("a.b-1")));
    assert_eq!(hot("PUT", "/services/a/instances/b:80/heartbeat"), Some(Hot::Heartbeat("a", "b:80")));
    assert_eq!(hot("POST", "/heartbeat"), Some(Hot::FlatHeartbeat));
}

#[test]
fn the_table_says_the_same_of_them() {
    for (method, uri) in [
        ("GET", "/services/services"),
        ("PUT", "/services/a/instances/instances/heartbeat"),
        ("PUT", "/services/heartbeat/instances/heartbeat/heartbeat"),
        ("POST", "/heartbeat"),
    ] {
        let hot = hot(method, uri).unwrap_or_else(|| panic!("{method} {uri}"));
        let route = routes::find(&method.parse().unwrap(), uri).unwrap();
        assert_eq!((hot.route().name, hot.route().need), (route.name, route.need), "{method} {uri}");
    }
}

#[test]
fn they_are_counted_as_the_router_would_have_them_counted() {
    for (method, uri) in
        [("GET", "/services/a"), ("PUT", "/services/a/instances/b/heartbeat"), ("POST", "/heartbeat")]
    {
        let counted = hot(method, uri).map(Hot::operation);
        assert!(counted.is_some(), "{method} {uri}");
        assert_eq!(counted, gate::operation(&method.parse().unwrap(), uri), "{method} {uri}");
    }
}

#[test]
fn what_looks_otherwise_is_for_the_router() {
    for (method, uri) in [
        ("GET", "/services/"),
        ("GET", "/services/a?all=true"),
        ("GET", "/services/a?"),
        ("GET", "/services/a%2Eb"),
        ("GET", "/services/a/instances/b"),
        ("GET", "/services/a/instances/b/heartbeat"),
        ("GET", "/heartbeat"),
        ("HEAD", "/services/a"),
        ("DELETE", "/services/a"),
        ("PUT", "/services/a"),
        ("PUT", "/services/a/instances/b"),
        ("PUT", "/services/a/instances//heartbeat"),
        ("PUT", "/services/a/instances/heartbeat"),
        ("PUT", "/services/a/drained/b/heartbeat"),
        ("PUT", "/services/a%20/instances/b/heartbeat"),
        ("PUT", "/services//instances/b/heartbeat"),
        ("PUT", "/services/a/instances/b/c/heartbeat"),
        ("PUT", "/services/a/instances/b%20/heartbeat"),
        ("PUT", "/services/a/instances/b/heartbeat/"),
        ("PUT", "/services/a/instances/b/drain"),
        ("POST", "/services/a/instances/b/heartbeat"),
        ("POST", "/heartbeat/"),
        ("POST", "/register"),
    ] {
        assert_eq!(hot(method, uri), None, "{method} {uri}");
    }
}
