//! P20: late calls of an ended session, and two sidecars with one id.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use testkit::{Sql, wait_until};
use tokio::time::sleep;

use crate::support::{Plan, Service, Sidecar, scenario};

const PATH: &str = "/services/p20-late/instances/one";

/// For what takes no time but the machine's.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p20_an_ended_session_changes_nothing_and_the_newest_wins() {
    scenario(Plan::new("P20", Duration::from_secs(1200)), async |mut stage| {
        let mut wrong = Vec::new();
        let nginx = stage.nginx();
        let register = |port: u16, session: &str| {
            json!({ "endpoint": format!("http://chaos.invalid:{port}"), "session": session, "ttl_seconds": 3600 })
        };
        for (port, session) in [(1001, "first"), (1002, "second")] {
            let reply = nginx.patient(Method::PUT, PATH, Some(&register(port, session))).await;
            assert!(matches!(reply.status, 200 | 201), "{reply:?}");
        }
        let (beat, drain) = (format!("{PATH}/heartbeat"), format!("{PATH}/drain"));
        let delete = format!("{PATH}?session=first");
        let late = [
            (Method::PUT, beat.as_str(), Some(json!({ "session": "first", "status": "critical" }))),
            (Method::PUT, PATH, Some(register(1001, "first"))),
            (Method::PUT, drain.as_str(), Some(json!({ "session": "first", "reason": "late" }))),
            (Method::DELETE, delete.as_str(), None),
        ];
        for round in 0..stage.scale.pick(3, 20) {
            for node in stage.nodes() {
                let client = stage.direct(node);
                for (method, path, body) in &late {
                    let reply = client.call(method.clone(), path, body.as_ref()).await.unwrap();
                    // A node that cannot see for a moment does not know.
                    if reply.status != 409 && reply.status != 503 {
                        wrong.push(format!("round {round}, node {node}: {method} {path}: {}", reply.status));
                    }
                }
                let found = client.get(PATH).await.unwrap();
                let right = found.body["endpoint"] == "http://chaos.invalid:1002"
                    && found.body["status"] == "passing"
                    && found.body["draining"] == false;
                if found.status != 503 && !right {
                    wrong.push(format!("round {round}, node {node}: {:?}", found.body));
                }
            }
        }

        let (old, new) = (Service::start().await, Service::start().await);
        let url = stage.cluster.nginx.url();
        let start = |service| Sidecar::start(&stage.scale, &url, "p20-twins", "one", service);
        let path = "/services/p20-twins/instances/one";
        let shown = async || Some(nginx.get(path).await?.body["endpoint"].as_str()?.to_owned());
        let first = start(&old);
        wait_until(SOON, "the first is listed", async || shown().await.is_some()).await;
        let one = shown().await;
        let second = start(&new);
        // At every node: another one may learn of it a moment later.
        for node in stage.nodes() {
            let client = stage.direct(node);
            wait_until(SOON, "the second took the place", async || {
                let reply = client.get(path).await;
                let now = reply.and_then(|reply| Some(reply.body["endpoint"].as_str()?.to_owned()));
                now.is_some() && now != one
            })
            .await;
        }
        let two = shown().await;
        // Each beats several times.
        for _ in 0..20 {
            sleep(stage.scale.interval / 4).await;
            let now = shown().await;
            if now != two {
                wrong.push(format!("the entry went from {two:?} to {now:?}"));
            }
        }
        let mut sql = Sql::open(&stage.cluster.database).await;
        let kinds = "SELECT count(*) FROM changes WHERE service = 'p20-twins' AND kind";
        let replaced = sql.number(&format!("{kinds} = 'replace'")).await;
        let other = sql.number(&format!("{kinds} NOT IN ('register', 'replace')")).await;
        let said = first.process.stdout() + &first.process.stderr();
        drop((first, second));

        stage.others = 1;
        let gone = async || nginx.get(path).await.is_some_and(|reply| reply.status == 404);
        wait_until(stage.scale.ttl() * 2 + SOON, "the twins are gone", gone).await;
        let mut outcome = stage.end("late calls of an ended session; two sidecars with one id").await;
        outcome.figure(format!("{} wrong answers", wrong.len()));
        outcome.expect(wrong.is_empty(), || format!("{wrong:#?}"));
        outcome.figure(format!("{replaced} replace event of the twins"));
        outcome.expect(replaced == 1 && other == 0, || {
            format!("the log has {replaced} replacements and {other} other changes of the twins")
        });
        outcome.expect(said.contains("another process has registered"), || format!("the older sidecar says nothing of it:\n{said}"));
        outcome
    })
    .await;
}
