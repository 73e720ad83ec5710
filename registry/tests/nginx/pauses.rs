//! A node that is paused takes connections and never answers.

use registry_wire::ProblemType;
use testkit::wait_until;

use crate::support::{Client, LONGEST, SOON, keep, start, unscaled};

/// Clients at a time, and calls of each.
const READERS: usize = 8;
const EACH: usize = 100;

#[tokio::test]
async fn another_node_answers_for_one_that_is_paused() {
    let cluster = start(unscaled()).await;
    let client = Client::new(cluster.nginx.port());
    keep(&cluster, &client).await;
    cluster.nodes[1].pause().await;
    for _ in 0..3 {
        for (method, path, body, _) in Client::writes() {
            let reply = client.call(method, path, &body).await.unwrap();
            assert!((200..300).contains(&reply.status), "{reply:?}");
            assert!(reply.took < LONGEST, "{reply:?}");
        }
        let reply = client.get("/services/kept").await.unwrap();
        assert!(reply.lists("one") && reply.took < LONGEST, "{reply:?}");
        assert!(reply.age.unwrap() <= 3, "{reply:?}");
    }
    assert!(waited(&cluster.nginx.access_log()), "no call met the paused node");
    cluster.nodes[1].resume();
    cluster.nodes[1].ready().await;
    assert_eq!(client.beat("kept", "one").await.unwrap().status, 200);
}

/// Whether a call went to a node that did not answer, and then to another one.
fn waited(log: &[String]) -> bool {
    log.iter().any(|line| line.contains(r#""node_statuses":"504, 2"#))
}

#[tokio::test]
async fn few_calls_wait_at_a_paused_node() {
    let cluster = start(unscaled()).await;
    let client = Client::new(cluster.nginx.port());
    keep(&cluster, &client).await;
    cluster.nodes[0].pause().await;
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..EACH {
                    let reply = client.get("/services/kept").await.unwrap();
                    assert!(reply.lists("one") && reply.took < LONGEST, "{reply:?}");
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap();
    }
    let all = READERS * EACH;
    let reads = || cluster.nginx.access_log().into_iter().filter(|line| line.contains("/services/kept\""));
    wait_until(SOON, "every call is logged", async || reads().count() >= all).await;
    let waited = reads().filter(|line| line.contains("\"node_statuses\":\"504")).count();
    // By round robin it is a third.
    assert!((1..all / 10).contains(&waited), "{waited} of {all} calls met the paused node");
    cluster.nodes[0].resume();
}

#[tokio::test]
async fn when_all_are_paused_a_call_ends_in_time() {
    let cluster = start(unscaled()).await;
    let client = Client::new(cluster.nginx.port());
    for node in &cluster.nodes {
        node.pause().await;
    }
    let mut calls = Vec::new();
    for (method, path, body, _) in Client::writes().into_iter().chain([
        ("GET", "/services", serde_json::Value::Null, "list"),
        ("GET", "/services/kept", serde_json::Value::Null, "get"),
    ]) {
        let client = client.clone();
        calls.push(tokio::spawn(async move { client.call(method, path, &body).await.unwrap() }));
    }
    for call in calls {
        let reply = call.await.unwrap();
        reply.is_problem(ProblemType::Unavailable);
        assert!(reply.took < LONGEST, "{reply:?}");
    }
    for node in &cluster.nodes {
        node.resume();
    }
    cluster.ready().await;
    assert_eq!(client.get("/services").await.unwrap().status, 200);
}
