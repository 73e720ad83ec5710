//! Nodes that cannot see their store: fresh answers if any node can give one, stale ones if none can.

use std::{collections::BTreeSet, time::Duration};

use registry_wire::ProblemType;
use testkit::{ProxyMode, Stopwatch};
use tokio::time::{Instant, sleep};

use crate::support::{Client, LONGEST, Reply, SOON, blind, keep, scaled, start, unscaled};

#[tokio::test]
async fn others_answer_for_a_blind_node() {
    let cluster = start(unscaled()).await;
    let client = Client::new(cluster.nginx.port());
    keep(&cluster, &client).await;
    blind(&cluster, &[0]).await;
    for _ in 0..30 {
        let reply = client.get("/services/kept").await.unwrap();
        assert!(reply.lists("one") && reply.age.unwrap() <= 3, "{reply:?}");
        assert_eq!(client.beat("kept", "one").await.unwrap().status, 200);
        for (method, path, body, _) in Client::writes() {
            let reply = client.call(method, path, &body).await.unwrap();
            assert!((200..300).contains(&reply.status), "{reply:?}");
        }
        assert_eq!(client.get("/readyz").await.unwrap().status, 200);
        assert_eq!(client.get("/services/never-heard-of").await.unwrap().status, 404);
    }
    let asked = cluster.nodes[0].metric(r#"registry_operations_total{operation="heartbeat",status="error"}"#);
    assert!(asked.await > 0.0, "no beat met the blind node");
}

#[tokio::test]
async fn a_beat_goes_on_while_a_node_becomes_blind_and_sees_again() {
    let cluster = start(unscaled()).await;
    let client = Client::new(cluster.nginx.port());
    keep(&cluster, &client).await;
    for mode in [ProxyMode::Refuse, ProxyMode::BlackHole, ProxyMode::Reset] {
        let begun = Instant::now();
        cluster.nodes[2].store().set(mode);
        let mut seen_blind = false;
        while !seen_blind || begun.elapsed() < Duration::from_secs(2) {
            assert_eq!(client.beat("kept", "one").await.unwrap().status, 200, "{mode:?}");
            let reply = client.get("/services/kept").await.unwrap();
            assert!(reply.lists("one") && reply.age.unwrap() <= 3, "{mode:?} {reply:?}");
            seen_blind |= !cluster.nodes[2].is_ready().await;
            assert!(begun.elapsed() < SOON, "{mode:?}: never blind");
        }
        cluster.nodes[2].store().set(ProxyMode::Pass);
        cluster.nodes[2].ready().await;
    }
}

#[tokio::test]
async fn when_all_are_blind_reads_are_stale_and_writes_refused_once_by_each() {
    let cluster = start(scaled()).await;
    let client = Client::new(cluster.nginx.port());
    keep(&cluster, &client).await;
    let short = serde_json::json!({"endpoint": "http://127.0.0.1:9", "ttl_seconds": 3});
    client.call("PUT", "/services/short/instances/one", &short).await.unwrap();
    blind(&cluster, &[0, 1, 2]).await;

    let stale = |reply: Reply| {
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(reply.age.unwrap() >= 4, "{reply:?}");
        reply
    };
    for _ in 0..10 {
        assert!(stale(client.get("/services/kept").await.unwrap()).lists("one"));
        // Its lease would have ended long ago.
        assert!(stale(client.get("/services/short").await.unwrap()).lists("one"));
        assert!(stale(client.get("/instances").await.unwrap()).lists("one"));
        stale(client.get("/services").await.unwrap());
        let head = client.call("HEAD", "/services/kept", &serde_json::Value::Null).await.unwrap();
        stale(head);
    }
    // What a client asks for does not count: it would make a refusal of a stale answer.
    for value in ["max-age=1", "no-cache", "max-age=0", "no-store, max-age=2"] {
        let request = client.request(reqwest::Method::GET, "/services/kept").header("cache-control", value);
        assert!(stale(Reply::of(request).await.unwrap()).lists("one"), "{value}");
    }

    for (method, path, body, operation) in Client::writes() {
        let sample = format!(r#"registry_operations_total{{operation="{operation}",status="error"}}"#);
        let mut before = Vec::new();
        for node in &cluster.nodes {
            before.push(node.metric(&sample).await);
        }
        let reply = client.call(method, path, &body).await.unwrap();
        reply.is_problem(ProblemType::Unavailable);
        assert!(reply.took < LONGEST, "{reply:?}");
        assert!(reply.body["detail"].as_str().unwrap().starts_with("Cannot say: this node"), "{reply:?}");
        for (node, before) in cluster.nodes.iter().zip(before) {
            let calls = node.metric(&sample).await - before;
            assert!((calls - 1.0).abs() < 0.1, "{method} {path} went to a node {calls} times");
        }
    }
    // A blind node does not say 404, and neither does nginx for it.
    client.get("/services/never-heard-of").await.unwrap().is_problem(ProblemType::Unavailable);
    client.get("/readyz").await.unwrap().is_problem(ProblemType::Unavailable);
    assert_eq!(client.get("/readyz?stale=ok").await.unwrap().status, 200);
    assert_eq!(client.get("/livez").await.unwrap().status, 200);

    for node in &cluster.nodes {
        node.store().set(ProxyMode::Pass);
    }
    cluster.ready().await;
    assert_eq!(client.beat("kept", "one").await.unwrap().status, 200);
    assert!(client.get("/services/kept").await.unwrap().age.unwrap() <= 3);
}

#[tokio::test]
async fn two_blind_and_one_dead_still_give_the_stale_list() {
    let cluster = start(scaled()).await;
    let client = Client::new(cluster.nginx.port());
    keep(&cluster, &client).await;
    blind(&cluster, &[0, 1]).await;
    cluster.nodes[2].kill_9().await;
    // In every order: until the dead one was tried first, second and last.
    let dead = cluster.nodes[2].port().to_string();
    let mut round = 0;
    testkit::wait_until(SOON, "each place of the dead node in a first pass", async || {
        let reply = client.get("/services/kept").await.unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(reply.lists("one") && reply.age.unwrap() >= 4, "{reply:?}");
        let (method, path, body, _) = &Client::writes()[1];
        client.call(method, path, body).await.unwrap().is_problem(ProblemType::Unavailable);
        // So that the next call begins at another node.
        for _ in 0..round % 4 {
            assert_eq!(client.get("/livez").await.unwrap().status, 200);
        }
        round += 1;
        let log = cluster.nginx.access_log();
        let places: BTreeSet<_> = log.iter().filter_map(|line| place_in_first_pass(line, &dead)).collect();
        places.len() == 3
    })
    .await;
}

/// Where in the first pass of a read a node was tried, by a line of the access log.
fn place_in_first_pass(line: &str, node: &str) -> Option<usize> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    (line["path"] == "/services/kept" && line["method"] == "GET").then_some(())?;
    // "A, B, C : D": a colon between spaces is where the second pass begins.
    let (first, _) = line["nodes"].as_str()?.split_once(" : ")?;
    first.split(", ").position(|tried| tried.ends_with(&format!(":{node}")))
}

#[tokio::test]
async fn one_blind_one_paused_and_one_well_give_a_fresh_list() {
    let cluster = start(unscaled()).await;
    let client = Client::new(cluster.nginx.port());
    keep(&cluster, &client).await;
    blind(&cluster, &[0]).await;
    cluster.nodes[1].pause().await;
    for _ in 0..6 {
        let reply = client.get("/services/kept").await.unwrap();
        assert!(reply.lists("one") && reply.age.unwrap() <= 3, "{reply:?}");
        assert!(reply.took < LONGEST, "{reply:?}");
        assert_eq!(client.beat("kept", "one").await.unwrap().status, 200);
        sleep(Duration::from_millis(10)).await;
    }
    cluster.nodes[1].resume();
}

#[tokio::test]
async fn nodes_that_restart_without_a_store_say_nothing_until_they_know() {
    let cluster = start(scaled()).await;
    let client = Client::new(cluster.nginx.port());
    keep(&cluster, &client).await;
    for node in &cluster.nodes {
        node.store().set(ProxyMode::Refuse);
        node.kill_9().await;
        node.start();
    }
    for node in &cluster.nodes {
        node.blind().await;
    }
    for path in ["/services", "/services/kept", "/instances", "/services/kept/instances/one", "/readyz"] {
        client.get(path).await.unwrap().is_problem(ProblemType::Unavailable);
    }
    for (method, path, body, _) in Client::writes() {
        client.call(method, path, &body).await.unwrap().is_problem(ProblemType::Unavailable);
    }
    for node in &cluster.nodes {
        node.store().set(ProxyMode::Pass);
    }
    let back = Stopwatch::start();
    // Never a 404 and never an empty list on the way.
    testkit::wait_until(SOON, "listed again", async || {
        let reply = client.get("/services/kept").await.unwrap();
        let names = client.get("/services").await.unwrap();
        assert!(names.status == 503 || names.body == serde_json::json!(["kept"]), "{names:?}");
        assert!(reply.status == 503 || reply.lists("one"), "{reply:?}");
        reply.status == 200
    })
    .await;
    assert!(back.elapsed() < Duration::from_secs(5), "listed again after {:?}", back.elapsed());
    cluster.ready().await;
    assert_eq!(client.beat("kept", "one").await.unwrap().status, 200);
}
