//! What is wrong is said in one line of the log, and nothing restarts in a loop for what is elsewhere.

use std::{fs, os::unix::fs::PermissionsExt};

use containers::{Container, Project, docker, name, setting};

use crate::support::{Filled, SOON, Stack, calm, environment, wait};

/// The good values of the template, for the stack's own example.
const GOOD: [&str; 3] = ["wrong", "example", "8080"];

/// Waits for a line with all of these.
async fn says(container: &Container, parts: &[&str]) {
    let mut logs = String::new();
    let said = async || {
        logs = container.logs().await;
        logs.lines().any(|line| parts.iter().all(|part| line.contains(part)))
    };
    let what = format!("a line of {} with {parts:?}", container.name());
    wait(SOON, &what, said).await;
}

/// Starts the template with a fault that is elsewhere: one line says so, and the container goes on.
async fn goes_on(stack: &Stack, values: [&str; 3], settings: &[(&str, &str)], parts: &[&str]) {
    let filled = Filled::new(stack, values, settings);
    let container = filled.up().await;
    says(&container, parts).await;
    assert!(container.is_running().await, "{parts:?}");
    assert_eq!(container.restarts().await, 0, "{parts:?}");
}

#[tokio::test]
async fn a_value_that_was_not_replaced_is_named() {
    let (stack, _turn) = calm().await;
    let placeholders = ["CHANGE_ME_NAME", "CHANGE_ME_HOST", "CHANGE_ME_PORT"];
    let names = ["SERVICE_NAME", "SERVICE_HOST", "SERVICE_PORT"];
    for (index, placeholder) in placeholders.into_iter().enumerate() {
        let mut values = GOOD;
        values[index] = placeholder;
        let filled = Filled::new(stack, values, &[]);
        let container = filled.up().await;
        says(&container, &[names[index], "still begins with CHANGE_ME", "replace it"]).await;
        wait(SOON, "it ended with 64", async || container.exit_status().await == 64).await;
    }
}

#[tokio::test]
async fn a_missing_secret_is_named_before_anything_starts() {
    let (stack, _turn) = calm().await;
    let filled = Filled::new(stack, GOOD, &[]);
    fs::remove_file(filled.token()).unwrap();
    let up = filled.project.try_compose(&["up", "-d"]).await;
    assert!(!up.good(), "{up:?}");
    assert!(
        up.stderr.contains("path does not exist") && up.stderr.contains("secrets/registry_auth_token"),
        "{up:?}"
    );

    let other = stack.project.directory().with_file_name("without-secrets");
    fs::create_dir_all(&other).unwrap();
    fs::copy(stack.project.directory().join("docker-compose.yml"), other.join("docker-compose.yml")).unwrap();
    let mut environment = environment(&name("net"));
    environment.push(("REGISTRY_PORT".into(), "0".into()));
    let whole = Project::new(name("stack"), &other.join("docker-compose.yml"), environment);
    let up = whole.try_compose(&["up", "-d", "--no-build", "postgres"]).await;
    assert!(!up.good() && up.stderr.contains("secrets/postgres_password"), "{up:?}");
}

#[tokio::test]
async fn a_directory_in_place_of_a_secret_is_named() {
    let (stack, _turn) = calm().await;
    let filled = Filled::new(stack, GOOD, &[]);
    fs::remove_file(filled.token()).unwrap();
    fs::create_dir(filled.token()).unwrap();
    let container = filled.up().await;
    says(&container, &["REGISTRY_TOKEN_FILE", "Docker makes a directory where the file to mount is missing"])
        .await;
    wait(SOON, "it ended with 64", async || container.exit_status().await == 64).await;
}

#[tokio::test]
async fn a_secret_that_the_process_may_not_read_is_named() {
    let (stack, _turn) = calm().await;
    let filled = Filled::new(stack, GOOD, &[]);
    fs::set_permissions(filled.token(), PermissionsExt::from_mode(0o600)).unwrap();
    let container = filled.up().await;
    says(&container, &["REGISTRY_TOKEN_FILE", "let the user of this process read it"]).await;
}

#[tokio::test]
async fn a_wrong_token_is_named_and_waited_for() {
    let (stack, _turn) = calm().await;
    let filled = Filled::new(stack, GOOD, &[]);
    fs::set_permissions(filled.token(), PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(filled.token(), "0f0f0f0f1e1e1e1e2d2d2d2d3c3c3c3c").unwrap();
    let container = filled.up().await;
    says(
        &container,
        &["HTTP 401", "set REGISTRY_TOKEN or REGISTRY_TOKEN_FILE to the registry's write token"],
    )
    .await;
    assert!(container.is_running().await);
    assert_eq!(container.restarts().await, 0);
}

#[tokio::test]
async fn a_service_that_never_becomes_healthy_is_named_and_listed_as_critical() {
    let (stack, _turn) = calm().await;
    let settings = [("SERVICE_HEALTH_ENDPOINT", "/not-there"), ("INITIAL_WAIT_TIMEOUT", "3")];
    let filled = Filled::new(stack, ["never", "example", "8080"], &settings);
    let container = filled.up().await;
    says(&container, &["not healthy within 3 s: HTTP 404", "SERVICE_HEALTH_ENDPOINT"]).await;
    wait(SOON, "it is listed as critical", async || {
        let answer = stack.get("/services/never?all=true").await;
        answer.is_some_and(|(_, body)| body["instances"][0]["status"] == "critical")
    })
    .await;
    assert_eq!(container.restarts().await, 0);
    assert!(container.is_running().await);
    container.stop().await;
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_named_and_waited_for() {
    let (stack, _turn) = calm().await;
    let advice = "check that the registry runs, and REGISTRY_URL";
    goes_on(stack, GOOD, &[("REGISTRY_URL", "http://example:9")], &["connection refused", advice]).await;
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_named_and_waited_for() {
    let (stack, _turn) = calm().await;
    let url = [("REGISTRY_URL", "http://nowhere:8888")];
    goes_on(stack, GOOD, &url, &["'nowhere' does not resolve", "check the name in REGISTRY_URL", "network"])
        .await;
    let wait = [("INITIAL_WAIT_TIMEOUT", "3")];
    let host = ["nobody", "nowhere", "8080"];
    goes_on(
        stack,
        host,
        &wait,
        &["'nowhere' does not resolve", "check that the service runs", "SERVICE_HOST"],
    )
    .await;
}

#[tokio::test]
async fn a_node_without_a_store_says_so_and_goes_on() {
    let (_stack, _turn) = calm().await;
    let node = Container::named(name("node"));
    let image = setting("REGISTRY_IMAGE");
    let url = "DATABASE_URL=postgres://registry:hidden-word@nowhere:5432/registry";
    let settings =
        ["--env", url, "--env", "REGISTRY_AUTH_TOKEN=4f7a9c0e2b6d8135", "--restart", "unless-stopped"];
    docker(&[&["run", "--detach", "--name", node.name()], &settings[..], &[&image]].concat()).await;
    says(&node, &["the store", "failed to lookup address information"]).await;
    wait(SOON, "it is healthy", async || node.health().await == "healthy").await;
    assert_eq!(node.restarts().await, 0);
    assert!(!node.logs().await.contains("hidden-word"));
    docker(&["rm", "--force", node.name()]).await;
}
