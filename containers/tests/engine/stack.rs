//! The whole stack, as `make images secrets` and one command bring it up.

use std::{fs, io, process::Command};

use serde_json::Value;

use crate::support::{NODES, SOON, calm};
use containers::Container;

/// Every service that is there without a profile.
fn services() -> Vec<&'static str> {
    let others = ["postgres", "vertice-register-lb", "example", "example-sidecar"];
    NODES.into_iter().chain(others).collect()
}

#[tokio::test]
async fn one_command_brings_up_every_container_and_none_is_started_twice() {
    let (stack, _turn) = calm().await;
    let mut started: Vec<_> = stack.started.iter().map(|(service, _)| service.as_str()).collect();
    let mut expected = services();
    started.sort_unstable();
    expected.sort_unstable();
    assert_eq!(started, expected, "all were healthy when it had come up");
    for (service, restarts) in &stack.started {
        assert_eq!(*restarts, 0, "{service} was started again before it was healthy");
    }
}

#[tokio::test]
async fn curl_by_the_published_port_prints_the_example_in_the_documented_shape() {
    let (stack, _turn) = calm().await;
    let url = format!("{}/services/example", stack.url());
    let output = Command::new("curl").args(["--silent", "--fail", &url]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let body: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(body["service_name"], "example");
    assert_eq!(body["endpoint"], "http://example:8080");
    assert_eq!(body["health_endpoint"], "/health");
    assert!(body["ttl_remaining"].is_u64() && body["last_heartbeat"].is_f64(), "{body}");
    let instances = body["instances"].as_array().unwrap();
    assert_eq!(instances.len(), 1, "{body}");
    assert_eq!(instances[0]["instance_id"], "example:8080");
    assert_eq!(instances[0]["status"], "passing");
    // The sidecar's own address and not the balancer's: the nodes believe the balancer.
    let sidecar = stack.container("example-sidecar").await.address(&stack.network).await;
    assert_eq!(instances[0]["observed_address"].as_str(), Some(sidecar.as_str()));
}

#[tokio::test]
async fn only_this_machine_reaches_the_published_port() {
    let (stack, _turn) = calm().await;
    let mut published = Vec::new();
    for container in stack.project.containers().await {
        let inspected = container.inspect().await;
        let ports = inspected["NetworkSettings"]["Ports"].as_object().unwrap().clone();
        for binding in ports.values().filter_map(Value::as_array).flatten() {
            published.push((container.name().to_owned(), binding["HostIp"].clone()));
        }
    }
    let balancer = stack.container("vertice-register-lb").await;
    assert_eq!(published, [(balancer.name().to_owned(), Value::from("127.0.0.1"))]);
}

#[tokio::test]
async fn no_process_is_root_holds_a_capability_or_can_gain_one() {
    let (stack, _turn) = calm().await;
    for service in services() {
        let status = stack.container(service).await.proc("status").await;
        let value = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(value(set), ["0000000000000000"], "{service}: {set}");
        }
        assert_eq!(value("NoNewPrivs:"), ["1"], "{service}");
        // 2: a filter of system calls.
        assert_eq!(value("Seccomp:"), ["2"], "{service}");
        let user = match service {
            "postgres" => "999",
            "vertice-register-lb" => "101",
            _ => "65532",
        };
        assert_eq!(value("Uid:"), [user; 4], "{service}");
        assert_eq!(value("Gid:"), [user; 4], "{service}");
    }
}

#[tokio::test]
async fn nothing_can_be_written_inside() {
    let (stack, _turn) = calm().await;
    for service in services() {
        let container = stack.container(service).await;
        let pid = container.inspect().await["State"]["Pid"].as_u64().unwrap();
        for directory in ["", "etc/"] {
            // By root of this machine, so that nothing but the mount itself refuses it.
            let refused = fs::write(format!("/proc/{pid}/root/{directory}probe"), "x").unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem, "{service}: /{directory}");
        }
    }
}

#[tokio::test]
async fn every_container_has_limits_and_bounded_logs() {
    let (stack, _turn) = calm().await;
    for service in services() {
        let host = stack.container(service).await.inspect().await["HostConfig"].clone();
        for limit in ["Memory", "NanoCpus", "PidsLimit"] {
            assert!(host[limit].as_i64().unwrap_or(0) > 0, "{service}: {limit}: {}", host[limit]);
        }
        assert!(host["LogConfig"]["Config"]["max-size"].is_string(), "{service}");
        assert_eq!(host["RestartPolicy"]["Name"], "unless-stopped", "{service}");
    }
}

#[tokio::test]
async fn who_joins_the_network_reaches_the_balancer_and_neither_node_nor_database() {
    let (stack, _turn) = calm().await;
    for name in ["registry-1", "postgres"] {
        let sidecar = Container::named(containers::name("stranger"));
        let url = format!("REGISTRY_URL=http://{name}:8888");
        let image = containers::setting("SIDECAR_IMAGE");
        let arguments = ["run", "--detach", "--name", sidecar.name(), "--network", &stack.network];
        let settings =
            ["--env", "SERVICE_NAME=stranger", "--env", "SERVICE_HOST=example", "--env", &url, &image];
        containers::docker(&[&arguments[..], &settings[..]].concat()).await;
        sidecar.wait_log(&format!("the name '{name}' does not resolve"), SOON).await;
        containers::docker(&["rm", "--force", sidecar.name()]).await;
    }
}

#[tokio::test]
async fn no_secret_is_shown_by_inspect_or_in_a_log() {
    let (stack, _turn) = calm().await;
    let secrets: Vec<_> = fs::read_dir(stack.project.directory().join("secrets"))
        .unwrap()
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    assert_eq!(secrets.len(), 3);
    for container in stack.project.containers().await {
        let shown = format!("{}{}", container.inspect().await, container.logs().await);
        for secret in &secrets {
            assert!(!shown.contains(secret.as_str()), "{} shows a secret", container.name());
        }
    }
}
