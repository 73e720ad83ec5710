use serde_json::Value;

use crate::{read, yaml};

/// The names of metrics that an expression asks for.
fn metrics(expression: &str) -> Vec<String> {
    expression
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("registry_"))
        .map(|word| word.trim_end_matches("_bucket").to_owned())
        .collect()
}

#[test]
fn the_dashboard_asks_for_metrics_that_a_node_has() {
    let board: Value = serde_json::from_str(&read("monitoring/grafana/dashboards/registry.json")).unwrap();
    let known = read("registry/src/metrics.rs");
    let mut asked = Vec::new();
    for panel in board["panels"].as_array().unwrap() {
        assert_eq!(panel["datasource"]["uid"], "prometheus");
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            asked.extend(metrics(expression));
            assert!(expression.contains("job=\"registry\""), "{expression}");
        }
    }
    assert!(asked.len() > 10, "{asked:?}");
    for name in asked {
        assert!(known.contains(&format!("\"{name}\"")), "no node has {name}");
    }
}

#[test]
fn prometheus_asks_every_node_and_grafana_asks_prometheus() {
    let config = yaml("monitoring/prometheus.yml");
    let jobs = config["scrape_configs"].as_array().unwrap();
    let registry = jobs.iter().find(|job| job["job_name"] == "registry").unwrap();
    let targets = registry["static_configs"][0]["targets"].as_array().unwrap();
    let stack = yaml("docker-compose.yml");
    let nodes = stack["services"].as_object().unwrap().keys().filter(|name| name.starts_with("registry-"));
    let nodes: Vec<_> = nodes.map(|name| Value::from(format!("{name}:8888"))).collect();
    assert_eq!(*targets, nodes);
    let balanced =
        stack["services"]["vertice-register-lb"]["environment"]["REGISTRY_NODES"].as_str().unwrap();
    assert_eq!(balanced.split(' ').map(Value::from).collect::<Vec<_>>(), nodes);

    let source = yaml("monitoring/grafana/provisioning/datasources/prometheus.yml");
    assert_eq!(source["datasources"][0]["uid"], "prometheus");
    assert_eq!(source["datasources"][0]["url"], "http://prometheus:9090");
    let boards = yaml("monitoring/grafana/provisioning/dashboards/registry.yml");
    let path = boards["providers"][0]["options"]["path"].as_str().unwrap();
    let mounts = stack["services"]["grafana"]["volumes"].as_array().unwrap();
    let mounted = format!("./monitoring/grafana/dashboards:{path}:ro");
    assert!(mounts.contains(&Value::from(mounted)), "{mounts:?}");
}
