use http_body_util::{BodyExt, Full};
use proptest::prelude::*;

use super::*;

fn answer(bytes: usize) -> Response<Full<Bytes>> {
    Response::new(Full::new(vec![0; bytes].into()))
}

#[tokio::test]
async fn a_big_answer_has_its_place_until_its_last_piece_is_dropped() {
    let sending = Sending::default();
    let held = || sending.0.load(Ordering::Acquire);
    let big = usize::try_from(BIG).unwrap();
    drop(sending.send(answer(big)).unwrap());
    let small = sending.send(answer(big)).unwrap();
    assert_eq!(held(), 0);
    drop(small);
    let sent = sending.send(answer(big + 1)).unwrap();
    assert_eq!(held(), big + 1);
    let piece = sent.into_body().collect().await.unwrap().to_bytes();
    assert_eq!((piece.len(), held()), (big + 1, big + 1), "the body is gone, its piece is not");
    drop(piece);
    assert_eq!(held(), 0);
}

proptest! {
    /// Together they never exceed the bound, but for one that is larger than it alone.
    #[test]
    fn no_more_bytes_than_the_bound(sizes in prop::collection::vec((1_usize..60, any::<bool>()), 0..100)) {
        let sending = Sending::default();
        let mut places = Vec::new();
        for (size, leave) in sizes {
            let held: usize = places.iter().map(|place: &Place| place.bytes).sum();
            prop_assert_eq!(sending.0.load(Ordering::Acquire), held);
            let place = sending.place(size, 50);
            prop_assert_eq!(place.is_some(), held == 0 || held + size <= 50);
            places.extend(place);
            if leave {
                places.pop();
            }
        }
    }
}
