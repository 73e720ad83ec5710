//! Docker's DNS, asked by programs in images that have nothing but themselves.

use containers::{Container, docker, name, setting};

use crate::support::{SOON, Stack, alone, wait};

/// Takes a container away and gives its address on a network to others. Gives those: they are to be removed.
async fn move_away(stack: &Stack, service: &str, network: &str) -> Vec<Container> {
    let container = stack.container(service).await;
    let old = container.address(network).await;
    docker(&["rm", "--force", container.name()]).await;
    let mut squatters = Vec::new();
    // The engine gives the lowest free address, or the next one: one of a few is the one that was given back.
    while squatters.len() < 16 {
        let squatter = Container::named(name("squatter"));
        let image = setting("REGISTRY_IMAGE");
        // Nobody is to be answered by it.
        let quiet = ["--env", "REGISTRY_LISTEN=127.0.0.1:8080", &image, "sample"];
        docker(&[&["run", "--detach", "--name", squatter.name(), "--network", network], &quiet[..]].concat())
            .await;
        let found = squatter.address(network).await == old;
        squatters.push(squatter);
        if found {
            return squatters;
        }
    }
    panic!("the address {old} of {service} was given to none of {squatters:?}");
}

#[tokio::test]
async fn names_are_followed_when_containers_get_new_addresses() {
    let (stack, _turn) = alone().await;
    let sidecar = stack.container("example-sidecar").await;
    let before = sidecar.restarts().await;
    let nodes = format!("{}_nodes", stack.project.name());
    let store = format!("{}_store", stack.project.name());
    let places = [
        ("vertice-register-lb", stack.network.as_str()),
        ("registry-1", nodes.as_str()),
        ("postgres", store.as_str()),
    ];
    let beat = async || {
        let answer = stack.get("/services/example").await;
        answer.filter(|(status, _)| *status == 200).and_then(|(_, body)| body["last_heartbeat"].as_f64())
    };
    for (service, network) in places {
        let old = stack.container(service).await.address(network).await;
        let squatters = move_away(stack, service, network).await;
        stack.project.up().await;
        let new = stack.container(service).await.address(network).await;
        assert_ne!(old, new, "{service}");
        // Healthy is not enough: a beat must have come through.
        wait(SOON, &format!("the example is listed again after {service} moved"), async || {
            beat().await.is_some()
        })
        .await;
        let last = beat().await;
        wait(SOON, &format!("beats arrive after {service} moved from {old} to {new}"), async || {
            beat().await > last
        })
        .await;
        for squatter in squatters {
            docker(&["rm", "--force", squatter.name()]).await;
        }
    }
    // The balancer follows the node that moved as well: each node answers some of its calls.
    let moved = stack.container("registry-1").await.address(&nodes).await;
    let balancer = stack.container("vertice-register-lb").await;
    wait(SOON, "the balancer asks the node at its new address", async || {
        stack.get("/services").await;
        balancer.logs().await.contains(&format!("\"nodes\":\"{moved}:8888\""))
    })
    .await;
    assert_eq!(sidecar.restarts().await, before);
    assert!(sidecar.is_running().await);
    stack.healthy().await;
}
