//! Nodes die, stop and come back.

use std::time::Duration;

use registry_wire::ProblemType;
use serde_json::Value;
use testkit::{Signal, Stopwatch};
use tokio::time::Instant;

use crate::support::{Client, LONGEST, Traffic, keep, start, unscaled};

#[tokio::test]
async fn ten_kills_of_nodes_are_seen_by_no_client() {
    let cluster = start(unscaled()).await;
    let traffic = Traffic::start(&cluster, 8).await;
    let begun = Instant::now();
    for round in 0..10 {
        let node = &cluster.nodes[round % 3];
        traffic.flows(100).await;
        node.kill_9().await;
        traffic.flows(100).await;
        node.start();
        node.ready().await;
    }
    traffic.flows(100).await;
    let calls = traffic.finish().await;
    eprintln!("{calls} calls in {:?}", begun.elapsed());
    assert!(calls > 2000, "only {calls} calls");
}

#[tokio::test]
async fn a_rolling_restart_is_seen_by_no_client() {
    let cluster = start(unscaled()).await;
    let traffic = Traffic::start(&cluster, 8).await;
    for node in &cluster.nodes {
        traffic.flows(100).await;
        let asked = Stopwatch::start();
        assert!(node.stop().await.success());
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        node.start();
        node.ready().await;
    }
    traffic.flows(100).await;
    traffic.finish().await;
}

#[tokio::test]
async fn after_all_nodes_died_together_the_next_call_works() {
    let cluster = start(unscaled()).await;
    let client = Client::new(cluster.nginx.port());
    keep(&cluster, &client).await;
    for round in 0..3 {
        for node in &cluster.nodes {
            node.kill_9().await;
        }
        // Each kind of call, and so each node several times.
        for (method, path, body, _) in Client::writes() {
            client.call(method, path, &body).await.unwrap().is_problem(ProblemType::Unavailable);
        }
        for path in ["/services/kept", "/services", "/readyz", "/livez", "/events", "/"] {
            let reply = client.get(path).await.unwrap();
            reply.is_problem(ProblemType::Unavailable);
            assert!(reply.took < LONGEST, "{path} {reply:?}");
        }
        for node in &cluster.nodes {
            node.start();
        }
        cluster.ready().await;
        // At once and every time: no node is held to be dead for what it was a moment ago.
        for _ in 0..6 {
            assert_eq!(client.beat("kept", "one").await.unwrap().status, 200, "round {round}");
            let reply = client.call("POST", "/register", &Client::writes()[2].2).await.unwrap();
            assert_eq!(reply.status, 201, "round {round}");
            assert!(client.get("/services/kept").await.unwrap().lists("one"), "round {round}");
        }
    }
}

#[tokio::test]
async fn one_node_of_five_is_enough() {
    let cluster = start(unscaled().nodes(5)).await;
    let client = Client::new(cluster.nginx.port());
    keep(&cluster, &client).await;
    for node in &cluster.nodes[1..] {
        node.kill_9().await;
    }
    for _ in 0..10 {
        for (method, path, body, _) in Client::writes() {
            let reply = client.call(method, path, &body).await.unwrap();
            assert!((200..300).contains(&reply.status), "{reply:?}");
        }
        assert!(client.get("/services/kept").await.unwrap().lists("one"));
    }
}

#[tokio::test]
async fn nginx_ends_in_order_and_answers_on_both_ports() {
    let cluster = start(unscaled()).await;
    for port in [cluster.nginx.port(), cluster.nginx.other_port()] {
        let reply = Client::new(port).call("GET", "/services", &Value::Null).await.unwrap();
        assert_eq!((reply.status, reply.body), (200, serde_json::json!([])));
    }
    cluster.nginx.process().signal(Signal::QUIT);
    assert!(cluster.nginx.process().wait(Duration::from_secs(15)).await.success());
}
