//! `docker stop`, and what a container needs while it runs.

use std::time::Duration;

use containers::docker;

use crate::support::{NODES, alone, calm};

#[tokio::test]
async fn docker_stop_ends_each_container_in_order_well_inside_its_grace_period() {
    let (stack, _turn) = alone().await;
    // A node serves on for 1.5 s; the rest is for a machine that has other things to do.
    let cases =
        [("example-sidecar", 5), ("example", 5), (NODES[0], 7), ("vertice-register-lb", 7), ("postgres", 15)];
    for (service, seconds) in cases {
        let container = stack.container(service).await;
        let took = container.stop().await;
        assert_eq!(container.exit_status().await, 0, "{service}: {}", container.logs().await);
        assert!(took < Duration::from_secs(seconds), "{service} took {took:?}");
        let grace = container.inspect().await["Config"]["StopTimeout"].as_u64().unwrap_or(10);
        assert!(grace > seconds, "{service}: a grace period of {grace} s");
        container.start().await;
    }
    stack.healthy().await;
}

#[tokio::test]
async fn a_sidecar_needs_five_megabytes_at_most() {
    let (stack, _turn) = calm().await;
    let sidecar = stack.container("example-sidecar").await;
    let text = docker(&["stats", "--no-stream", "--format", "{{.MemUsage}}", sidecar.name()]).await;
    let used = text.split('/').next().unwrap().trim();
    let (number, unit) = used.split_at(used.find(|c: char| c.is_ascii_alphabetic()).unwrap());
    let bytes = number.parse::<f64>().unwrap()
        * match unit {
            "B" => 1.0,
            "KiB" => 1024.0,
            "MiB" => 1024.0 * 1024.0,
            _ => panic!("{text}"),
        };
    if containers::setting("TEST_BINARIES") == "release" {
        assert!(bytes <= 5e6, "{text}");
    } else {
        eprintln!(
            "SKIPPED: a binary for debugging, which uses {used}; `RELEASE=1 make test-containers` measures"
        );
    }
}
