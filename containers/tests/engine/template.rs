//! The template for a sidecar, filled in as its comments say.

use std::time::Duration;

use containers::{Project, name, setting};
use tokio::time::{Instant, sleep};

use crate::support::{Filled, NODES, SOON, Stack, alone, calm, environment, wait};

/// A service as users have them: a compose file of its own on the network, which knows nothing of a sidecar.
fn service(stack: &Stack, host: &str) -> Project {
    let file = std::path::Path::new(&setting("TEST_DIR")).join(format!("{host}.yml"));
    let text = format!(
        "services:\n  {host}:\n    image: ${{EXAMPLE_IMAGE}}\n    command: [sample]\n    environment: {{ REGISTRY_LISTEN: \
         \"0.0.0.0:9000\" }}\n    networks: [there]\nnetworks:\n  there: {{ external: true, name: \
         \"${{REGISTRY_NETWORK}}\" }}\n"
    );
    std::fs::write(&file, text).unwrap();
    Project::new(name("service"), &file, environment(&stack.network))
}

/// Sooner than by default, so that the test is short: all by the environment, as the template offers.
const QUICK: [(&str, &str); 3] =
    [("HEALTH_INTERVAL", "1"), ("HEALTH_FAILURES", "2"), ("HEARTBEAT_INTERVAL", "2")];

#[tokio::test]
async fn a_filled_in_template_outlives_everything_but_its_own_end() {
    let (stack, turn) = calm().await;
    let sidecar = Filled::new(stack, ["orders", "orders-app", "9000"], &QUICK);
    let container = sidecar.up().await;

    // The service comes 20 s after its sidecar.
    let service = service(stack, "orders-app");
    sleep(Duration::from_secs(20)).await;
    assert_eq!(
        stack.get("/services/orders").await.unwrap().0,
        404,
        "nothing is registered before it answers"
    );
    service.up().await;
    wait(SOON, "it is registered", async || stack.usable("orders").await).await;
    let (_, body) = stack.get("/services/orders").await.unwrap();
    assert_eq!(body["endpoint"], "http://orders-app:9000");
    assert_eq!(body["instances"].as_array().map(Vec::len), Some(1));

    // Killed, it is critical and handed out to nobody, and comes back.
    let app = service.container("orders-app").await;
    app.kill().await;
    wait(SOON, "it is handed out to nobody", async || {
        stack.get("/services/orders").await.is_some_and(|(status, _)| status == 404)
    })
    .await;
    let (status, body) = stack.get("/services/orders?all=true").await.unwrap();
    assert_eq!((status, body["instances"][0]["status"].as_str()), (200, Some("critical")), "{body}");
    app.start().await;
    wait(SOON, "it is handed out again", async || stack.usable("orders").await).await;

    // Scaled, it is one entry behind one name.
    for scale in ["3", "1"] {
        service.compose(&["up", "-d", "--scale", &format!("orders-app={scale}")]).await;
        assert_eq!(service.of("orders-app").await.len().to_string(), scale);
        wait(SOON, "it is handed out", async || stack.usable("orders").await).await;
        let (_, body) = stack.get("/services/orders?all=true").await.unwrap();
        assert_eq!(body["instances"].as_array().map(Vec::len), Some(1), "{body}");
    }

    // Everything that the registry is made of is restarted.
    drop(turn);
    let (_, turn) = alone().await;
    for service in NODES.into_iter().chain(["vertice-register-lb", "postgres"]) {
        stack.container(service).await.restart().await;
        let answer = stack.get("/services/orders").await;
        assert!(answer.is_none_or(|(status, _)| status != 404), "{service}: it is never denied");
    }
    stack.healthy().await;
    wait(SOON, "a beat arrived since", async || {
        let answer = stack.get("/services/orders").await;
        answer.is_some_and(|(status, body)| status == 200 && body["ttl_remaining"].as_u64() > Some(3))
    })
    .await;
    drop(turn);

    assert_eq!(container.restarts().await, 0);
    let (_, turn) = calm().await;
    let start = Instant::now();
    let (took, gone) = tokio::join!(container.stop(), async {
        wait(SOON, "it is deregistered", async || {
            stack.get("/services/orders?all=true").await.is_some_and(|(status, _)| status == 404)
        })
        .await;
        start.elapsed()
    });
    assert!(gone <= Duration::from_secs(2), "deregistered after {gone:?}");
    assert_eq!(container.exit_status().await, 0, "after {took:?}");
    drop(turn);
}
