//! Sessions and drains.

use registry_wire::ProblemType;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, SqliteConnection};
use testkit::Postgres;

use crate::harness::{Answer, Node, Store, minimal, path};

both!(
    registered_at_belongs_to_the_session,
    an_ended_session_changes_nothing,
    every_session_that_ended_is_remembered,
    a_deregistered_session_stays_ended,
    an_ended_session_is_forgotten_after_an_hour,
    a_session_that_never_was_is_unknown,
    calls_without_a_session_act_on_what_is_there,
    an_operators_drain_survives_registrations,
    a_sessions_drain_ends_with_it,
    two_drains_end_one_by_one,
    draining_what_is_not_there,
);

fn of(session: &str) -> Value {
    json!({"endpoint": format!("http://{session}:1"), "session": session})
}

/// The calls that name this session, each with an answer.
async fn calls(node: &Node, service: &str, instance: &str, session: &str) -> Vec<(&'static str, Answer)> {
    let at = path(service, instance);
    let drain = format!("{at}/drain");
    vec![
        ("put", node.put(&at, &of(session)).await),
        ("delete", node.delete(&format!("{at}?session={session}")).await),
        ("drain", node.put(&drain, &json!({"reason": "r", "session": session})).await),
        ("undrain", node.delete(&format!("{drain}?session={session}")).await),
        ("beat", node.beat(service, instance, &json!({"session": session})).await),
        ("status", node.beat(service, instance, &json!({"session": session, "status": "critical"})).await),
    ]
}

async fn registered_at_belongs_to_the_session(store: Store) {
    let node = store.node().await;
    let first = node.register("web", "a", &of("s1")).await;
    let put =
        async |session: &str| node.put(&path("web", "a"), &of(session)).await.ok()["registered_at"].clone();
    assert_eq!(put("s1").await, first["registered_at"]);
    assert_eq!(node.get(&path("web", "a")).await.ok()["registered_at"], first["registered_at"]);
    let second = put("s2").await;
    assert!(second.as_f64() > first["registered_at"].as_f64(), "{second} after {first}");
    assert_eq!(put("s2").await, second);
    // None is another one too.
    let without = node.put(&path("web", "a"), &minimal()).await.ok()["registered_at"].clone();
    assert!(without.as_f64() > second.as_f64(), "{without} after {second}");
}

async fn an_ended_session_changes_nothing(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &of("old")).await;
    node.put(&path("web", "a"), &of("new")).await.ok();
    let before = node.state().await;
    for (call, answer) in calls(&node, "web", "a", "old").await {
        let detail = answer.problem(ProblemType::Superseded)["detail"].as_str().unwrap();
        assert!(detail.contains("'a'") && detail.contains("'web'"), "{call}: {detail}");
        assert_eq!(node.state().await, before, "{call}");
    }
    // The new one goes on.
    node.beat("web", "a", &json!({"session": "new"})).await.ok();
    // A session ends for its instance, not for others.
    node.register("web", "b", &of("old")).await;
}

async fn every_session_that_ended_is_remembered(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &of("s0")).await;
    for number in 1..10 {
        node.put(&path("web", "a"), &of(&format!("s{number}"))).await.ok();
    }
    // Also by one without a session.
    node.put(&path("web", "a"), &minimal()).await.ok();
    let before = node.state().await;
    for number in 0..10 {
        let session = format!("s{number}");
        node.put(&path("web", "a"), &of(&session)).await.problem(ProblemType::Superseded);
        node.beat("web", "a", &json!({"session": session})).await.problem(ProblemType::Superseded);
    }
    assert_eq!(node.state().await, before);
}

async fn a_deregistered_session_stays_ended(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &of("s")).await;
    assert_eq!(node.delete(&format!("{}?session=s", path("web", "a"))).await.status, 204);
    for (call, answer) in calls(&node, "web", "a", "s").await {
        // A heartbeat where nothing is: "register again", which makes a new session.
        let expected = if matches!(call, "beat" | "status") {
            ProblemType::UnknownInstance
        } else {
            ProblemType::Superseded
        };
        assert_eq!(answer.body["type"], expected.path(), "{call}: {answer:?}");
        answer.problem(expected);
        assert_eq!(node.get("/services").await.ok(), &json!([]), "{call}");
    }
    node.register("web", "a", &of("t")).await;
    node.beat("web", "a", &json!({"session": "s"})).await.problem(ProblemType::Superseded);
    // Deregistered by somebody else: the session ends all the same.
    assert_eq!(node.delete(&path("web", "a")).await.status, 204);
    node.put(&path("web", "a"), &of("t")).await.problem(ProblemType::Superseded);
    node.beat("web", "a", &json!({"session": "t"})).await.problem(ProblemType::UnknownInstance);
    node.register("web", "a", &of("u")).await;
}

async fn an_ended_session_is_forgotten_after_an_hour(store: Store) {
    let dir = testkit::memory_dir();
    let url = match store {
        Store::Sqlite => format!("sqlite://{}/registry.db", dir.path().display()),
        Store::Postgres => Postgres::shared().fresh_database().await,
    };
    let node = Node::start(url.clone(), None, |_| {}).await;
    node.register("web", "a", &of("old")).await;
    node.put(&path("web", "a"), &of("new")).await.ok();
    node.end().await;
    // An hour passes while no node runs.
    match store {
        Store::Sqlite => {
            let mut connection = SqliteConnection::connect(&url).await.unwrap();
            let sql = "UPDATE ended_sessions SET at = at - 61 * 60";
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        Store::Postgres => {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let sql = "UPDATE ended_sessions SET at = at - interval '61 minutes'";
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        }
    }
    let node = Node::start(url, None, |_| {}).await;
    let at = path("web", "a");
    node.beat("web", "a", &json!({"session": "old"})).await.problem(ProblemType::UnknownInstance);
    let drain = json!({"reason": "r", "session": "old"});
    node.put(&format!("{at}/drain"), &drain).await.problem(ProblemType::UnknownInstance);
    node.delete(&format!("{at}?session=old")).await.problem(ProblemType::UnknownInstance);
    // It may register, and all its calls count.
    node.put(&at, &of("old")).await.ok();
    node.beat("web", "a", &json!({"session": "new"})).await.problem(ProblemType::Superseded);
    node.put(&format!("{at}/drain"), &drain).await.ok();
    assert_eq!(node.delete(&format!("{at}?session=old")).await.status, 204);
    // It has ended again, and is remembered again.
    node.put(&at, &of("old")).await.problem(ProblemType::Superseded);
    node.register("web", "a", &of("next")).await;
    for (call, answer) in calls(&node, "web", "a", "old").await {
        assert_eq!(answer.status, 409, "{call}: {answer:?}");
    }
}

async fn a_session_that_never_was_is_unknown(store: Store) {
    let node = store.node().await;
    for (call, answer) in [
        ("beat", node.beat("web", "b", &json!({"session": "x"})).await),
        ("delete", node.delete(&format!("{}?session=x", path("web", "b"))).await),
    ] {
        answer.problem(ProblemType::UnknownInstance);
        assert!(answer.body["detail"].as_str().unwrap().contains("'b'"), "{call}");
    }
    node.register("web", "c", &of("s")).await;
    let before = node.state().await;
    let at = path("web", "c");
    node.delete(&format!("{at}?session=x")).await.problem(ProblemType::UnknownInstance);
    node.beat("web", "c", &json!({"session": "x"})).await.problem(ProblemType::UnknownInstance);
    let status = json!({"session": "x", "status": "critical"});
    node.beat("web", "c", &status).await.problem(ProblemType::UnknownInstance);
    let drain = json!({"session": "x", "reason": "r"});
    node.put(&format!("{at}/drain"), &drain).await.problem(ProblemType::UnknownInstance);
    node.delete(&format!("{at}/drain?session=x")).await.problem(ProblemType::UnknownInstance);
    assert_eq!(node.state().await, before);
}

async fn calls_without_a_session_act_on_what_is_there(store: Store) {
    let node = store.node().await;
    node.register("web", "a", &of("s")).await;
    node.beat("web", "a", &json!({"status": "warning"})).await.ok();
    // That did not end the session.
    node.beat("web", "a", &json!({"session": "s", "status": "passing"})).await.ok();
    assert_eq!(node.get(&path("web", "a")).await.ok()["status"], "passing");
    assert_eq!(node.delete(&path("web", "a")).await.status, 204);
}

async fn an_operators_drain_survives_registrations(store: Store) {
    let node = store.node().await;
    let (at, drain) = (path("web", "a"), format!("{}/drain", path("web", "a")));
    node.register("web", "a", &of("s1")).await;
    let drained = node.put(&drain, &json!({"reason": " disk swap "})).await;
    assert_eq!(drained.ok()["draining"], true);
    assert_eq!(drained.body["drain_reason"], "disk swap");
    node.get("/services/web").await.problem(ProblemType::NoUsableInstance);
    for body in [of("s1"), of("s2"), minimal()] {
        assert_eq!(node.put(&at, &body).await.ok()["draining"], true);
        assert_eq!(node.get(&at).await.ok()["drain_reason"], "disk swap");
    }
    // It goes on beating.
    node.beat("web", "a", &json!({})).await.ok();
    // A second one says something else; ending it twice is no error.
    node.put(&drain, &json!({"reason": "other"})).await.ok();
    assert_eq!(node.get(&at).await.ok()["drain_reason"], "other");
    for _ in 0..2 {
        let undrained = node.delete(&drain).await;
        assert_eq!((undrained.status, undrained.text.as_str()), (204, ""), "{undrained:?}");
    }
    let back = node.get("/services/web").await;
    assert_eq!(back.ok()["instances"][0]["draining"], false);
    assert_eq!(back.body["instances"][0].get("drain_reason"), None);
    // Or with the entry.
    node.put(&drain, &json!({"reason": "r"})).await.ok();
    assert_eq!(node.delete(&at).await.status, 204);
    assert_eq!(node.register("web", "a", &of("s3")).await["draining"], false);
}

async fn a_sessions_drain_ends_with_it(store: Store) {
    let node = store.node().await;
    let (at, drain) = (path("web", "a"), format!("{}/drain", path("web", "a")));
    node.register("web", "a", &of("s1")).await;
    let own = json!({"reason": "SIGTERM", "session": "s1"});
    assert_eq!(node.put(&drain, &own).await.ok()["drain_reason"], "SIGTERM");
    node.get("/services/web").await.problem(ProblemType::NoUsableInstance);
    node.beat("web", "a", &json!({"session": "s1"})).await.ok();
    assert_eq!(node.put(&at, &of("s1")).await.ok()["draining"], true);
    // The next process starts without it.
    assert_eq!(node.put(&at, &of("s2")).await.ok()["draining"], false);
    assert_eq!(node.get("/services/web").await.ok()["instances"][0]["draining"], false);
    // Its own way back.
    node.put(&drain, &json!({"reason": "r", "session": "s2"})).await.ok();
    assert_eq!(node.delete(&format!("{drain}?session=s2")).await.status, 204);
    assert_eq!(node.get(&at).await.ok()["draining"], false);
}

async fn two_drains_end_one_by_one(store: Store) {
    let node = store.node().await;
    let (at, drain) = (path("web", "a"), format!("{}/drain", path("web", "a")));
    node.register("web", "a", &of("s1")).await;
    node.put(&drain, &json!({"reason": "own", "session": "s1"})).await.ok();
    node.put(&drain, &json!({"reason": "operator's"})).await.ok();
    assert_eq!(node.get(&at).await.ok()["drain_reason"], "operator's");
    assert_eq!(node.put(&at, &of("s2")).await.ok()["drain_reason"], "operator's");
    // A process does not end the operator's drain.
    assert_eq!(node.delete(&format!("{drain}?session=s2")).await.status, 204);
    assert_eq!(node.get(&at).await.ok()["draining"], true);
    assert_eq!(node.delete(&drain).await.status, 204);
    assert_eq!(node.get(&at).await.ok()["draining"], false);
}

async fn draining_what_is_not_there(store: Store) {
    let node = store.node().await;
    let drain = format!("{}/drain", path("web", "a"));
    node.put(&drain, &json!({"reason": "r"})).await.problem(ProblemType::UnknownInstance);
    node.delete(&drain).await.problem(ProblemType::UnknownInstance);
    node.register("web", "a", &minimal()).await;
    for body in [json!({}), json!({"reason": null}), json!({"reason": 3}), json!({"reason": "x".repeat(257)})]
    {
        node.put(&drain, &body).await.blames(ProblemType::Invalid, "reason");
    }
    let empty = Answer::sure(|| node.request("PUT", &drain)).await;
    empty.blames(ProblemType::Invalid, "reason");
    assert_eq!(node.get(&path("web", "a")).await.ok()["draining"], false);
    node.put(&drain, &json!({"reason": "x".repeat(256)})).await.ok();
}
