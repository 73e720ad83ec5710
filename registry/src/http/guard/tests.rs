use super::*;

/// All that a guard's lists are given: one for each core, and some that wait for half a second.
#[tokio::test]
async fn big_lists_wait_a_little_for_their_turn() {
    let guard = Guard::new(Limits::NONE);
    let turns: Vec<_> = std::iter::repeat_with(|| Arc::clone(&guard.lists).try_acquire_owned())
        .map_while(Result::ok)
        .collect();
    assert!(!turns.is_empty());
    assert_eq!(guard.turn().await.unwrap_err().whole().status(), 429);
    let (turn, ()) = tokio::join!(guard.turn(), async { drop(turns) });
    assert!(turn.is_ok());
    // Where too many wait, nobody waits.
    let _all = guard.lists_waiting.acquire_many(u32::try_from(LISTS_WAITING).unwrap()).await.unwrap();
    assert_eq!(guard.turn().await.unwrap_err().whole().status(), 429);
}
