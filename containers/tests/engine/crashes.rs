//! Nodes and the database are killed under load: the verdict is the same as without containers.

use std::{path::PathBuf, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{
    process::Command,
    time::{sleep, timeout},
};

use crate::support::{NODES, SOON, alone, wait};

/// The program that loads a registry and judges it.
fn fleet() -> PathBuf {
    PathBuf::from(containers::setting("TEST_FLEET"))
}

#[tokio::test]
async fn a_process_that_crashes_is_started_again_by_docker() {
    let (stack, _turn) = alone().await;
    for service in [NODES[1], "example-sidecar"] {
        let container = stack.container(service).await;
        let before = container.restarts().await;
        let pid = container.inspect().await["State"]["Pid"].to_string();
        // Not `docker kill`, after which a container stays as it is.
        assert!(Command::new("kill").args(["-s", "KILL", &pid]).status().await.unwrap().success());
        wait(SOON, "it is started again", async || {
            container.is_running().await && container.restarts().await == before + 1
        })
        .await;
    }
    stack.healthy().await;
}

#[tokio::test]
async fn killing_nodes_and_the_database_under_load_breaks_no_promise() {
    const SECONDS: u64 = 50;
    let (stack, _turn) = alone().await;
    let fleet = Command::new(fleet())
        .args(["run", "--json", "--services", "100", "--instances", "2", "--ttl", "9", "--interval", "3"])
        .args(["--reads-per-second", "50", "--duration", &format!("{SECONDS}s"), "--registry", &stack.url()])
        .arg("--token-file")
        .arg(stack.token())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let harm = async {
        wait(SOON, "every service of the load is listed", async || {
            let list = stack.get("/services").await;
            list.is_some_and(|(_, names)| names.as_array().is_some_and(|names| names.len() >= 100))
        })
        .await;
        // One at a time, then two, then the database, then all nodes but one.
        for group in [&NODES[..1], &NODES[1..3], &["postgres"], &NODES[1..]] {
            for service in group {
                stack.container(service).await.kill().await;
            }
            // The time that it is away is the harm; a condition to wait for there is none.
            sleep(Duration::from_secs(4)).await;
            for service in group {
                stack.container(service).await.start().await;
            }
            wait(SOON, "writes are taken again", async || {
                stack.get("/readyz").await.is_some_and(|(status, _)| status == 200)
            })
            .await;
        }
    };
    let limit = Duration::from_secs(SECONDS + 60);
    let (output, ()) = tokio::join!(timeout(limit, fleet.wait_with_output()), harm);
    let output = output.expect("fleet did not end").unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let told: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(told["innocent"], true, "{told:#}");
    assert_eq!(output.status.code(), Some(0), "{told:#}");
    // Else it would have had nothing to judge.
    let operations = told["figures"]["operations"].as_u64().unwrap_or(0);
    assert!(operations > 3000, "{operations} calls in {SECONDS} s: {told:#}");
    stack.healthy().await;
}
