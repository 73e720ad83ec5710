//! What Prometheus keeps for a node does not hang on what strangers send to it.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use bench::{
    generator::{Outcome, Plan, run},
    lab::call,
};

use crate::lab;

/// Names, paths and methods that nobody ever saw.
const MADE_UP: u32 = 100_000;

/// The names of the series with their labels.
async fn series(port: u16) -> BTreeSet<String> {
    let text = call(port, "GET", "/metrics", "").await.expect("an answer").body;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').expect("a value").0.to_owned()).collect()
}

fn made_up(turn: u64, out: &mut Vec<u8>) {
    let (method, path) = match turn % 10 {
        0 => (format!("M{turn}"), "/services".to_owned()),
        1 => (format!("M{turn}"), format!("/path-{turn}")),
        2 => ("PUT".into(), format!("/services/s{turn}/instances/i{turn}/heartbeat")),
        3 => ("DELETE".into(), format!("/deregister/s{turn}?instance_id=i{turn}")),
        4 => ("PUT".into(), format!("/services/s{turn}/instances/i{turn}")),
        5 => ("GET".into(), format!("/instances?service=s{turn}&meta.k{turn}=v")),
        6 => ("POST".into(), format!("/path-{turn}/{turn}")),
        7 => ("GET".into(), format!("/services/s{turn}/instances/i{turn}")),
        _ => ("GET".into(), format!("/services/s{turn}")),
    };
    let body = if turn % 10 == 4 { format!("{{\"field-{turn}\":1}}") } else { String::new() };
    let length = body.len();
    out.extend_from_slice(
        format!(
            "{method} {path} HTTP/1.1\r\nHost: h{turn}\r\nX-Name-{turn}: v\r\nX-Forwarded-For: 198.51.100.{}\r\n\
             Content-Length: {length}\r\n\r\n{body}",
            turn % 256
        )
        .as_bytes(),
    );
}

/// Sends so many, as fast as they are answered.
async fn send(port: u16, count: u32) -> Outcome {
    let plan = Plan {
        address: (Ipv4Addr::LOCALHOST, port).into(),
        connections: 64,
        rate: count,
        duration: Duration::from_secs(1),
    };
    tokio::task::spawn_blocking(move || run(&plan, made_up)).await.expect("sent").expect("sent")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_made_up_names_add_no_series() {
    let (_alone, lab) = lab().await;
    let database = format!("sqlite://{}/series.db", lab.dir().display());
    let settings = [("REGISTRY_TRUSTED_PROXIES", "127.0.0.1"), ("REGISTRY_MAX_CALLS_PER_ADDRESS", "1")];
    let node = lab.node(&database, &settings).await.expect("a node");
    let port = node.port();
    // A kind of call of the store is there once it was made.
    send(port, 1_000).await;
    let before = series(port).await;
    assert!(before.len() > 100, "{before:?}");
    let sent = send(port, MADE_UP).await;
    assert_eq!(sent.sent, u64::from(MADE_UP));
    for status in [404, 405, 422, 429] {
        assert!(sent.bad.contains_key(&status), "{status}: {:?}", sent.bad);
    }
    assert!(!sent.bad.contains_key(&0), "each was answered: {:?}", sent.bad);
    let after = series(port).await;
    let added: Vec<_> = after.difference(&before).collect();
    assert!(added.is_empty() && after.len() == before.len(), "{added:?}");
}
