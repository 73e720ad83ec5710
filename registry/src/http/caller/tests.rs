use super::*;
use crate::config::Settings;

fn client_of(peer: &str, forwarded: &[&'static str]) -> String {
    let settings = Settings { trusted_proxies: Some("10.0.0.0/8, fd00::/8".into()), ..Settings::default() };
    let trusted = settings.config().unwrap().trusted_proxies;
    let mut headers = HeaderMap::new();
    for value in forwarded {
        headers.append("x-forwarded-for", value.parse().unwrap());
    }
    client(peer.parse().unwrap(), &headers, &trusted).to_string()
}

#[test]
fn a_peer_that_is_no_trusted_proxy_is_the_client_whatever_it_says() {
    assert_eq!(client_of("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
    assert_eq!(client_of("::ffff:192.0.2.1", &[]), "192.0.2.1");
}

#[test]
fn the_last_address_that_is_no_trusted_proxy_is_the_client() {
    assert_eq!(client_of("10.1.2.3", &["198.51.100.7"]), "198.51.100.7");
    assert_eq!(client_of("10.1.2.3", &["203.0.113.1, 198.51.100.7, 10.9.9.9"]), "198.51.100.7");
    assert_eq!(client_of("10.1.2.3", &["203.0.113.1", "198.51.100.7"]), "198.51.100.7");
    assert_eq!(client_of("fd00::1", &["2001:db8::1"]), "2001:db8::1");
    assert_eq!(client_of("::ffff:10.1.2.3", &["198.51.100.7"]), "198.51.100.7");
}

#[test]
fn a_port_behind_an_address_is_no_part_of_it() {
    for (hop, address) in [
        ("198.51.100.7:40312", "198.51.100.7"),
        ("[2001:db8::1]:40312", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
    ] {
        assert_eq!(client_of("10.1.2.3", &[hop]), address);
    }
}

#[test]
fn what_is_no_address_ends_the_search() {
    assert_eq!(client_of("10.1.2.3", &["198.51.100.7, unknown"]), "10.1.2.3");
    assert_eq!(client_of("10.1.2.3", &[]), "10.1.2.3");
}
