use proptest::prelude::*;

use super::*;
use crate::config::Settings;

fn ip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

proptest! {
    /// Against a plain count.
    #[test]
    fn limits_hold_whoever_comes_and_goes(
        all in 1_usize..12,
        each in 1_usize..5,
        steps in prop::collection::vec((prop::option::of(0_u8..4), any::<bool>()), 0..200),
    ) {
        let mut doors = Doors::new(all, each);
        let mut open: Vec<Option<u8>> = Vec::new();
        for (who, comes) in steps {
            if comes {
                let own = open.iter().filter(|one| **one == who).count();
                let expected = if open.len() == all {
                    Err(Closed::All)
                } else if who.is_some() && own == each {
                    Err(Closed::Address)
                } else {
                    Ok(())
                };
                prop_assert_eq!(doors.enter(who.map(ip)), expected);
                if expected.is_ok() {
                    open.push(who);
                }
            } else if let Some(who) = open.pop() {
                doors.leave(who.map(ip));
            }
            let mut named: Vec<u8> = open.iter().flatten().copied().collect();
            named.sort_unstable();
            named.dedup();
            prop_assert_eq!((doors.open, doors.by_address.len()), (open.len(), named.len()), "nobody is kept who has gone");
        }
    }
}

fn entrance(trusted: Option<&str>) -> Entrance {
    let settings = Settings { trusted_proxies: trusted.map(str::to_owned), ..Settings::default() };
    let trusted = settings.config().unwrap().trusted_proxies;
    let limits = Limits { connections: 5, connections_per_address: 1, ..Limits::NONE };
    Entrance::new(&limits, &trusted, Arc::new(Metrics::new().unwrap()))
}

#[test]
fn a_proxy_has_no_bound_but_that_of_all() {
    let entrance = entrance(Some("10.0.0.9"));
    let _client = entrance.enter(ip(1)).unwrap();
    assert_eq!(entrance.enter(ip(1)).unwrap_err(), Closed::Address);
    let places: Vec<Place> = (0..4).map(|_| entrance.enter(ip(9)).unwrap()).collect();
    assert_eq!(entrance.enter(ip(9)).unwrap_err(), Closed::All);
    drop(places);
    assert!(entrance.enter(ip(9)).is_ok());
}

#[test]
fn without_a_trusted_proxy_everybody_may_be_one() {
    let entrance = entrance(None);
    let _places: Vec<Place> = (0..5).map(|_| entrance.enter(ip(1)).unwrap()).collect();
    assert_eq!(entrance.enter(ip(1)).unwrap_err(), Closed::All);
}

#[test]
fn in_ipv6_a_whole_block_is_one_address() {
    let entrance = entrance(Some("10.0.0.9"));
    let _place = entrance.enter("2001:db8:0:1::1".parse().unwrap()).unwrap();
    assert_eq!(entrance.enter("2001:db8:0:1:ffff::2".parse().unwrap()).unwrap_err(), Closed::Address);
    assert!(entrance.enter("2001:db8:0:2::1".parse().unwrap()).is_ok());
    let _mapped = entrance.enter("::ffff:10.0.0.1".parse().unwrap()).unwrap();
    assert_eq!(entrance.enter(ip(1)).unwrap_err(), Closed::Address);
}
