//! Endpoints: what is handed on to readers must mean to their parsers what it meant here.

use std::net::IpAddr;

use registry_wire::{Endpoint, HealthPath, limits};
use url::Url;

use super::text;

pub(super) fn run(input: &[u8]) {
    let Some(text) = text(input) else { return };
    // A debug assertion of the URL library speaks of Punycode, for which it has no tables here. Builds that people get
    // have none, and there all of it is tried.
    if cfg!(debug_assertions) && text.to_ascii_lowercase().contains("xn--") {
        return;
    }
    let taken = Endpoint::check(text).is_ok();
    // What a node checks of a million stored ones is what it checks of one that comes, told faster.
    assert_eq!(Endpoint::check_stored(text).is_ok(), taken, "{text:?}");
    if let Ok(endpoint) = text.parse::<Endpoint>() {
        assert_eq!(endpoint.as_str(), text);
        means_what_is_written(text);
    }
    parts(text);
}

/// A reader with no more than `split` finds the host and the port that the URL standard finds.
fn means_what_is_written(text: &str) {
    assert!(text.chars().count() <= limits::ENDPOINT_MAX);
    assert!(!text.contains(|c: char| c.is_control() || c.is_whitespace() || "\\#".contains(c)), "{text:?}");
    let (scheme, rest) = text.split_once("://").expect("an absolute URL");
    assert!(["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()), "{text:?}");
    let authority = rest.split(['/', '?']).next().expect("split gives one at least");
    assert!(authority.is_ascii() && !authority.contains(['@', '%']), "{text:?}");
    let url = Url::parse(text).expect("it was parsed before");
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{text:?}");
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.starts_with('[') || host.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let usual = if scheme.eq_ignore_ascii_case("http") { 80 } else { 443 };
    let port = port.map_or(usual, |port| port.parse().expect("a port of 1 to 65535"));
    assert!(port > 0 && url.port_or_known_default() == Some(port), "{text:?}");
    let seen = url.host_str().expect("a host");
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => {
            let address: IpAddr = inner.parse().expect("an IPv6 address");
            assert_eq!(seen.trim_matches(['[', ']']).parse(), Ok(address), "{text:?}");
        }
        None => assert!(seen.eq_ignore_ascii_case(host), "{text:?}"),
    }
    // Parsed and printed it is taken again, with the same host.
    if url.as_str().len() <= limits::ENDPOINT_MAX {
        let printed: Endpoint = url.as_str().parse().unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(Url::parse(printed.as_str()).as_ref(), Ok(&url), "{text:?}");
    }
}

/// Where a sidecar says that its service is: no part reaches into another.
fn parts(text: &str) {
    let mut parts = text.splitn(4, ' ');
    let (scheme, host, port) = (parts.next(), parts.next(), parts.next());
    let (Some(scheme), Some(host), Some(Ok(port))) = (scheme, host, port.map(str::parse::<u16>)) else {
        return;
    };
    let Ok(endpoint) = Endpoint::from_parts(scheme, host, port) else { return };
    let url = Url::parse(endpoint.as_str()).expect("an endpoint is a URL");
    assert_eq!((url.port_or_known_default(), url.path(), url.query()), (Some(port), "/", None), "{text:?}");
    let Some(Ok(path)) = parts.next().map(str::parse::<HealthPath>) else { return };
    // What is probed is on the same host, whatever the path.
    if let Ok(address) = registry_sidecar::Address::new(scheme, host, port, &path, None) {
        assert_eq!(address.health.origin(), url.origin(), "{text:?}");
        assert!(address.health.username().is_empty(), "{text:?}");
    }
}
