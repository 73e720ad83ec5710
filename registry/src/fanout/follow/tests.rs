use super::*;
use crate::{
    entry::{Body, Kind},
    fanout::apply::tests::{node, record},
    store::Mutation,
};

#[test]
fn an_answer_that_lay_there_during_a_pause_is_old() {
    let at = |millis| Moment::from_start(Duration::from_millis(millis));
    assert_eq!(read_at(at(1000), at(1020)), at(1020));
    assert_eq!(read_at(at(1000), at(11_000)), at(1000).plus(CALL_DEADLINE));
}

/// A commit on SQLite goes on when its caller has given up: the caller is told that nobody knows, and here it is heard of.
#[tokio::test]
async fn one_process_hears_of_its_own_commit_that_was_answered_too_late() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("registry.db").display());
    let store = Arc::new(Store::open(&url).await.unwrap());
    let node = node();
    let (_own_row, own_row) = watch::channel((0, Moment::NEVER));
    let mut follower = Follower {
        store: Arc::clone(&store),
        applier: Arc::new(node.applier),
        leases: Arc::clone(&node.leases),
        writer: 1,
        tick: Duration::from_secs(1),
        own_row,
        looks: Looks::new().1,
        metrics: Arc::new(Metrics::new().unwrap()),
    };
    follower.load(&mut Load::Start).await.unwrap();
    for (kind, expected) in [(Kind::Register, None), (Kind::Deregister, Some(1))] {
        let body = Body::new(record("late", "http://h:1"));
        let mutation = Mutation {
            kind,
            body,
            expected,
            named_session: None,
            noted_beat: None,
            reason: None,
            actor: None,
        };
        store.commit(&[mutation]).await.unwrap();
        follower.read().await.unwrap();
        let listed = node.view.revision(&record("late", "http://h:1").key());
        assert_eq!(listed, (kind == Kind::Register).then_some(1));
    }
    assert_eq!(follower.applier.cursor(), 2);
}
