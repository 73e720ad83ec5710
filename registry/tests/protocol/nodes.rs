//! Several nodes on one Postgres: what one has acknowledged, no other denies.

use std::time::Duration;

use registry_wire::ProblemType;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use testkit::{Postgres, Stopwatch, wait_until};
use tokio::time::Instant;

use crate::harness::{Answer, Node, PATIENCE, minimal, path};

/// Within this time a change that one node acknowledged is in the answers of all. Until then a beat, which is answered
/// from memory, may be acknowledged to a session that has ended elsewhere; it changes nothing for the one after it.
const CHANGE_EVERYWHERE: Duration = Duration::from_secs(1);

async fn pair() -> (Node, Node) {
    let url = Postgres::shared().fresh_database().await;
    (Node::start(url.clone(), None, |_| {}).await, Node::start(url, None, |_| {}).await)
}

fn of(session: &str) -> Value {
    json!({"endpoint": "http://h:1", "session": session})
}

/// One beat, and then, where the node could not say, others until it can.
async fn beat_at_once(node: &Node, instance: &str, session: &str) -> Answer {
    let beat = format!("{}/heartbeat", path("web", instance));
    let session = json!({ "session": session });
    Answer::sure(|| node.request("PUT", &beat).json(&session)).await
}

#[tokio::test]
async fn a_beat_follows_its_registration_to_another_node() {
    let (one, other) = pair().await;
    for round in 0..200 {
        let (from, to) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let instance = format!("i{round}");
        from.register("web", &instance, &of("s")).await;
        let beat = beat_at_once(to, &instance, "s").await;
        assert_eq!(beat.status, 200, "{round}: {beat:?}");
    }
}

#[tokio::test]
async fn an_ended_session_has_ended_on_every_node() {
    let (one, other) = pair().await;
    one.register("web", "a", &of("s0")).await;
    for round in 0..50 {
        let (from, to) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let (old, new) = (format!("s{round}"), format!("s{}", round + 1));
        from.put(&path("web", "a"), &of(&new)).await.ok();
        beat_at_once(to, "a", &new).await.ok();
        // That one was unknown there, so it was looked up, and with it that the old one has ended.
        beat_at_once(to, "a", &old).await.problem(ProblemType::Superseded);
        to.put(&path("web", "a"), &of(&old)).await.problem(ProblemType::Superseded);
        let delete = format!("{}?session={old}", path("web", "a"));
        to.delete(&delete).await.problem(ProblemType::Superseded);
    }
    // Deregistered there: unknown here, and the session has ended.
    one.delete(&path("web", "a")).await;
    other.put(&path("web", "a"), &of("s50")).await.problem(ProblemType::Superseded);
    let deleted = Stopwatch::start();
    wait_until(PATIENCE, "the other node hears of it", async || {
        beat_at_once(&other, "a", "s50").await.status == 404
    })
    .await;
    assert!(deleted.elapsed() < CHANGE_EVERYWHERE, "{:?}", deleted.elapsed());
}

/// The label is for people: beats of a node are told apart by its process.
#[tokio::test]
async fn nodes_of_one_name_hear_each_others_beats() {
    let (one, other) = pair().await;
    for node in [&one, &other] {
        assert_eq!(node.get("/health").await.ok()["node"], "under-test");
    }
    let body = json!({"endpoint": "http://h:1", "session": "s", "ttl_seconds": 3});
    one.register("web", "one", &body).await;
    other.register("web", "other", &body).await;
    let everywhere = async |node: &Node| {
        let answer = node.get("/services/web").await;
        answer.status == 200 && answer.body["instances"].as_array().unwrap().len() == 2
    };
    wait_until(PATIENCE, "both know both", async || everywhere(&one).await && everywhere(&other).await).await;
    let begun = Instant::now();
    wait_until(PATIENCE, "two leases have passed", async || {
        beat_at_once(&one, "one", "s").await.ok();
        beat_at_once(&other, "other", "s").await.ok();
        assert!(everywhere(&one).await && everywhere(&other).await, "after {:?}", begun.elapsed());
        begun.elapsed() > Duration::from_secs(6)
    })
    .await;
}

/// A transaction pooler drops LISTEN, so that goes by a URL of its own.
#[tokio::test]
async fn listens_by_the_url_that_was_set_for_it() {
    let url = Postgres::shared().fresh_database().await;
    let listen_url = format!("{url}?application_name=the-direct-one");
    let node =
        Node::start(url.clone(), None, |settings| settings.database_listen_url = Some(listen_url)).await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    wait_until(PATIENCE, "one connection listens, by its own URL", async || {
        let listening: Vec<String> = sqlx::query_scalar(
            "SELECT application_name FROM pg_stat_activity \
             WHERE datname = current_database() AND query LIKE 'LISTEN %'",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        listening == ["the-direct-one"]
    })
    .await;
    node.register("web", "a", &minimal()).await;
    let direct: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'the-direct-one'",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(direct, 1, "everything else goes by the database URL");
}
