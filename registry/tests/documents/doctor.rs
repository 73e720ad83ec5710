//! What the guide says of `sidecar doctor` is what it prints.

use std::{collections::BTreeMap, process::Command};

use testkit::free_port;

use crate::{
    markdown::Document,
    support::{Node, program, run, stub},
};

const WRITE: &str = "7jY2mQ9rT4wX8kZ1";
const READ: &str = "5nB3vC6xL0pH8sD2";

/// Runs it, and gives the port of each thing that it talks to the number that the guide gives it.
async fn doctor(settings: &[(&str, &str)], ports: &[(u16, &str)]) -> Vec<String> {
    let mut env = BTreeMap::from([("SERVICE_NAME", "orders"), ("SERVICE_HOST", "127.0.0.1")]);
    env.extend(settings.iter().copied());
    let (_, mut text, errors) = run(Command::new(program("sidecar")).arg("doctor").envs(env)).await;
    assert_eq!(errors, "");
    for (port, shown) in ports {
        text = text.replace(&port.to_string(), shown);
    }
    // The words of the system's resolver differ between systems.
    text.lines().map(|line| without(line, "does not resolve: ", "; check")).collect()
}

/// What stands between the two is replaced by `…`.
fn without(line: &str, from: &str, to: &str) -> String {
    let Some((before, rest)) = line.split_once(from) else { return line.to_owned() };
    let Some((_, after)) = rest.split_once(to) else { return line.to_owned() };
    format!("{before}{from}…{to}{after}")
}

#[tokio::test]
async fn the_guide_shows_what_doctor_prints() {
    let node = Node::start(&[]).await;
    let locked = Node::start(&[("REGISTRY_AUTH_TOKEN", WRITE), ("REGISTRY_READ_TOKEN", READ)]).await;
    // It never loads: its store is not there.
    let blind = Node::answering(&[("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")]).await;
    let other = stub(Some("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
    let healthy = stub(Some("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"));
    let closed = free_port();
    let (service, away) = (healthy.to_string(), closed.to_string());
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let ports = |registry: u16| [(registry, "8888"), (healthy, "8080"), (closed, "8080"), (other, "8080")];

    let at = |url: String, more: &[(&str, &str)]| {
        let mut all = vec![("REGISTRY_URL".to_owned(), url), ("SERVICE_PORT".to_owned(), service.clone())];
        all.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        all
    };
    let cases = [
        (at(url(node.port()), &[]), node.port()),
        (at(String::new(), &[]), node.port()),
        (at(url(closed), &[]), closed),
        (at(url(blind.port()), &[]), blind.port()),
        (at(url(other), &[]), other),
        (at(url(locked.port()), &[]), locked.port()),
        (at(url(locked.port()), &[("REGISTRY_TOKEN", "one-that-is-wrong")]), locked.port()),
        (at(url(locked.port()), &[("REGISTRY_TOKEN", READ)]), locked.port()),
        (at(url(locked.port()), &[("REGISTRY_TOKEN", WRITE)]), locked.port()),
        (at(format!("https://127.0.0.1:{}", node.port()), &[]), node.port()),
        (at(url(node.port()), &[("SERVICE_PORT", &away)]), node.port()),
        (at(url(node.port()), &[("SERVICE_PORT", &other.to_string())]), node.port()),
        (at(url(node.port()), &[("SERVICE_HOST", "orders")]), node.port()),
        (at(url(node.port()), &[("SERVICE_PORT", "70000")]), node.port()),
    ];
    let mut printed = Vec::new();
    for (settings, registry) in cases {
        let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        printed.extend(doctor(&settings, &ports(registry)).await);
    }

    let guide = Document::read("INTEGRATION_GUIDE.md");
    let blocks = guide.blocks.iter().filter(|block| block.info == "text doctor");
    let shown: Vec<_> = blocks.flat_map(|block| block.text.lines()).map(str::to_owned).collect();
    let missing = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|line| !those.contains(line)).cloned().collect()
    };
    let never = missing(&shown, &printed);
    assert!(
        never.is_empty(),
        "the guide shows what is not printed:\n{}\n---\n{}",
        never.join("\n"),
        printed.join("\n")
    );
    let failures: Vec<_> = printed.into_iter().filter(|line| line.starts_with("failed")).collect();
    let untold = missing(&failures, &shown);
    assert!(untold.is_empty(), "the guide does not say what to do about:\n{}", untold.join("\n"));
}
