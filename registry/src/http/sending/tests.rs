use http_body_util::{BodyExt, Full};
use proptest::prelude::*;

use super::*;

fn answer(bytes: usize) -> Response<Full<Bytes>> {
    Response::new(Full::new(vec![0; bytes].into()))
}

fn ip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn held(sending: &Sending) -> (usize, usize) {
    let held = sending.0.lock();
    (held.all, held.by_address.len())
}

#[tokio::test]
async fn a_big_answer_has_its_place_until_its_last_piece_is_dropped() {
    let sending = Sending::default();
    let big = usize::try_from(BIG).unwrap();
    let small = sending.send(answer(big), || unreachable!("small answers count for nobody")).unwrap();
    assert_eq!(held(&sending), (0, 0));
    drop(small);
    let sent = sending.send(answer(big + 1), || Some(ip(1))).unwrap();
    assert_eq!(held(&sending), (big + 1, 1));
    let piece = sent.into_body().collect().await.unwrap().to_bytes();
    assert_eq!((piece.len(), held(&sending)), (big + 1, (big + 1, 1)), "the body is gone, its piece is not");
    drop(piece);
    assert_eq!(held(&sending), (0, 0));
}

#[test]
fn an_address_has_its_share_and_leaves_the_rest_to_others() {
    let sending = Sending::default();
    let place = |address: IpAddr, bytes| sending.place(Some(address), bytes, 100);
    let (first, second) = (place(ip(1), 15).unwrap(), place(ip(1), 10).unwrap());
    assert_eq!(place(ip(1), 1).unwrap_err(), TooMany::Address);
    let _others = [place(ip(2), 25).unwrap(), place(ip(3), 25).unwrap()];
    assert_eq!(held(&sending), (75, 3));
    drop(first);
    assert_eq!(place(ip(1), 16).unwrap_err(), TooMany::Address);
    let third = place(ip(1), 15).unwrap();
    drop((second, third));
    assert_eq!(held(&sending), (50, 2), "nobody is kept whose answers are all taken");
    // The first of an address may be larger than its share, but not than what is left of all.
    assert_eq!(place(ip(1), 51).unwrap_err(), TooMany::All);
    let _large = place(ip(1), 50).unwrap();
    assert_eq!(place(ip(4), 1).unwrap_err(), TooMany::All);
}

#[test]
fn in_ipv6_a_whole_block_is_one_address() {
    let sending = Sending::default();
    let place = |address: &str| sending.place(Some(address.parse().unwrap()), 25, 100);
    let _block = place("2001:db8:0:1::1").unwrap();
    assert_eq!(place("2001:db8:0:1:ffff::2").unwrap_err(), TooMany::Address);
    assert!(place("2001:db8:0:2::1").is_ok());
}

proptest! {
    /// Against a plain sum: neither all together nor those of one address ever exceed their bound, but for one answer
    /// that is larger than it alone.
    #[test]
    fn no_more_bytes_than_the_bounds(
        answers in prop::collection::vec((prop::option::of(0_u8..4), 1_usize..60, any::<bool>()), 0..100),
    ) {
        let sending = Sending::default();
        let mut places: Vec<Place> = Vec::new();
        for (who, size, leave) in answers {
            let who = who.map(ip);
            let sum = |of: &dyn Fn(&Place) -> bool| -> usize {
                places.iter().filter(|place| of(place)).map(|place| place.bytes).sum()
            };
            let (all, own) = (sum(&|_| true), sum(&|place| who.is_some() && place.address == who));
            let mut named: Vec<IpAddr> = places.iter().filter_map(|place| place.address).collect();
            named.sort_unstable();
            named.dedup();
            prop_assert_eq!(held(&sending), (all, named.len()));
            let place = sending.place(who, size, 100);
            let expected = if own > 0 && own + size > 25 {
                Err(TooMany::Address)
            } else if all > 0 && all + size > 100 {
                Err(TooMany::All)
            } else {
                Ok(())
            };
            prop_assert_eq!(place.as_ref().map(drop).map_err(|full| *full), expected);
            places.extend(place);
            if leave {
                places.pop();
            }
        }
    }
}
