use registry_wire::HealthPath;

use super::{Address, Finder, Host, towards};
use crate::Config;

fn config(host: Host, registries: &[&str]) -> Config {
    let registries = registries.iter().map(|url| url.parse().unwrap()).collect();
    Config::new("echo".parse().unwrap(), host, 8080, registries)
}

#[test]
fn the_parts_make_endpoint_id_and_health_url() {
    let path: HealthPath = "/up?deep=1".parse().unwrap();
    let address = Address::new("http", "osint_service", 8049, &path, None).unwrap();
    assert_eq!(address.endpoint.as_str(), "http://osint_service:8049");
    assert_eq!(address.instance.as_str(), "osint_service:8049");
    assert_eq!(address.health.as_str(), "http://osint_service:8049/up?deep=1");
    let six = Address::new("https", "fe80::1", 1, &path, None).unwrap();
    assert_eq!(six.endpoint.as_str(), "https://[fe80::1]:1");
    assert_eq!(six.instance.as_str(), "fe80::1:1");
}

#[test]
fn a_bad_part_is_named() {
    let path = HealthPath::default();
    let error = Address::new("http", "not a host", 80, &path, None).unwrap_err();
    assert_eq!(error.field(), "endpoint");
    // Cannot begin an id, so one has to be given.
    let error = Address::new("http", "::1", 80, &path, None).unwrap_err();
    assert_eq!(error.field(), "instance_id");
    Address::new("http", "::1", 80, &path, Some(&"a".parse().unwrap())).unwrap();
}

#[test]
fn a_host_beyond_ascii_is_refused_however_it_is_written() {
    let path = HealthPath::default();
    for host in ["exämple", "A\u{176e}", "A%E1%9D%AE", "/A\u{176e}", "//A%E1%9D%AE", "", "a%2fb"] {
        let error = Address::new("http", host, 80, &path, None).unwrap_err();
        assert_eq!(error.field(), "endpoint", "{host}");
    }
}

#[test]
fn the_interface_towards_loopback_is_loopback() {
    assert!(towards("127.0.0.1:9".parse().unwrap()).unwrap().is_loopback());
}

#[tokio::test]
async fn auto_takes_the_first_registry_that_resolves_and_stays() {
    let urls = ["http://does-not-exist.invalid:1", "http://127.0.0.1:9"];
    let finder = Finder::new(&config(Host::Auto, &urls)).unwrap();
    assert_eq!(finder.found(), None);
    let address = finder.find().await.unwrap();
    assert_eq!(address.endpoint.as_str(), "http://127.0.0.1:8080");
    assert_eq!(address.instance.as_str(), "127.0.0.1:8080");
    assert_eq!(finder.found(), Some(address));
}

#[tokio::test]
async fn auto_says_what_is_missing() {
    let finder = Finder::new(&config(Host::Auto, &["http://does-not-exist.invalid:1"])).unwrap();
    let reason = finder.find().await.unwrap_err();
    assert!(reason.starts_with("SERVICE_HOST=auto found no address yet: the name 'does-not"), "{reason}");
}
