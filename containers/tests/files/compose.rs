use std::{path::PathBuf, process::Command};

use serde_json::Value;

use crate::{read, tracked, yaml};

const STACK: &str = "docker-compose.yml";
const TEMPLATE: &str = "docker-compose.sidecar-template.yml";

/// Every compose file of this tree.
fn compose_files() -> Vec<String> {
    let is_compose = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let yaml = path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml");
        yaml && (name.starts_with("docker-compose") || name.starts_with("compose"))
    };
    let found = tracked().into_iter().filter(is_compose);
    let mut found: Vec<_> = found.filter_map(|path| path.to_str().map(str::to_owned)).collect();
    found.sort_unstable();
    found
}

/// The services of a file, by name.
fn services(path: &str) -> Vec<(String, Value)> {
    let file = yaml(path);
    let services = file["services"].as_object().unwrap_or_else(|| panic!("{path} has no services"));
    services.iter().map(|(name, service)| (name.clone(), service.clone())).collect()
}

#[test]
fn every_compose_file_is_one() {
    let files = compose_files();
    assert!(files.contains(&STACK.to_owned()) && files.contains(&TEMPLATE.to_owned()), "{files:?}");
    for file in &files {
        assert!(!services(file).is_empty(), "{file}");
        // Compose 1.29 refuses it, and Compose v2 does without.
        assert!(yaml(file)["name"].is_null(), "{file} names its project");
    }
    let mut asked = 0;
    for compose in [&["docker", "compose"][..], &["docker-compose"][..]] {
        let there = Command::new(compose[0]).args(&compose[1..]).arg("version").output();
        if !there.is_ok_and(|output| output.status.success()) {
            continue;
        }
        asked += 1;
        for file in &files {
            let output = Command::new(compose[0])
                .args(&compose[1..])
                .args(["-f", file, "--profile", "monitoring", "config", "--quiet"])
                .current_dir(containers::root())
                .output()
                .unwrap();
            assert!(output.status.success(), "{compose:?} {file}: {output:?}");
        }
    }
    if asked == 0 {
        eprintln!("no compose here: the files were read as YAML alone");
    }
}

#[test]
fn every_container_is_hardened_and_bounded() {
    for file in [STACK, TEMPLATE] {
        for (name, service) in services(file) {
            let what = format!("{file}: {name}");
            assert_eq!(service["read_only"], true, "{what}");
            assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{what}");
            assert_eq!(service["security_opt"], serde_json::json!(["no-new-privileges:true"]), "{what}");
            assert_eq!(service["restart"], "unless-stopped", "{what}");
            for limit in ["mem_limit", "cpus", "pids_limit", "stop_grace_period"] {
                assert!(!service[limit].is_null(), "{what}: {limit}");
            }
            for option in ["max-size", "max-file"] {
                assert!(service["logging"]["options"][option].is_string(), "{what}: {option}");
            }
            for dangerous in ["privileged", "cap_add", "network_mode", "pid", "ipc", "container_name"] {
                assert!(service[dangerous].is_null(), "{what}: {dangerous}");
            }
            // Ours carry theirs in the image.
            let image = service["image"].as_str().unwrap();
            assert!(image.starts_with("${"), "{what}: {image} cannot be replaced");
            let ours = image.contains("vertice-registry");
            assert!(
                ours || service["healthcheck"]["test"][0] == "CMD",
                "{what}: no health check without a shell"
            );
            assert!(
                ours || service["user"].as_str().is_some_and(|user| !user.starts_with('0')),
                "{what}: root"
            );
            // A health that somebody waits for would let one fault keep the whole from starting.
            let depends = &service["depends_on"];
            assert!(depends.is_null() || depends.is_array(), "{what}: {depends}");
            for port in service["ports"].as_array().into_iter().flatten() {
                assert!(port.as_str().unwrap().contains("_BIND:-127.0.0.1}:"), "{what}: {port}");
            }
        }
    }
}

#[test]
fn no_secret_is_an_environment_variable_and_each_is_one_that_make_secrets_makes() {
    let file = yaml(STACK);
    let made = read("scripts/secrets");
    for (name, secret) in file["secrets"].as_object().unwrap() {
        assert_eq!(secret["file"], format!("./secrets/{name}"));
        assert!(made.contains(&format!("keep {name}\n")), "{name}");
    }
    for (name, service) in services(STACK).into_iter().chain(services(TEMPLATE)) {
        for (variable, value) in service["environment"].as_object().into_iter().flatten() {
            let secret = ["PASSWORD", "TOKEN", "DATABASE_URL"].iter().any(|word| variable.contains(word));
            assert!(!secret || variable.ends_with("_FILE"), "{name}: {variable} is {value}");
        }
    }
}

#[test]
fn every_line_of_the_template_says_what_it_is_for() {
    let text = read(TEMPLATE);
    // A comment stands above each key of a service or of its environment, or above the first of three at most.
    let mut commented = 0_u32;
    for line in text.lines().skip_while(|line| *line != "  sidecar:").skip(1) {
        let trimmed = line.trim_start();
        if trimmed.starts_with('#') {
            commented = 3;
        } else if trimmed.is_empty() || line.starts_with(char::is_alphabetic) || trimmed == "environment:" {
            commented = 0;
        } else if line.starts_with("    ") && !line.starts_with("        ") {
            assert!(commented > 0, "no word about: {line}");
            commented -= 1;
        }
    }
}

#[test]
fn the_template_has_three_values_to_replace_and_the_rest_can_be_given_from_outside() {
    let text = read(TEMPLATE);
    let environment = services(TEMPLATE)[0].1["environment"].clone();
    let values: Vec<_> = environment
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, value)| value.as_str().unwrap().starts_with("CHANGE_ME_"))
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(values, ["SERVICE_HOST", "SERVICE_NAME", "SERVICE_PORT"]);
    assert_eq!(text.matches("CHANGE_ME_").count(), 3);
    for (name, value) in environment.as_object().unwrap() {
        let value = value.as_str().unwrap();
        let fixed = value.starts_with("CHANGE_ME_") || name == "REGISTRY_TOKEN_FILE";
        assert!(fixed || value.starts_with(&format!("${{{name}:-")), "{name}: {value}");
    }
}

#[test]
fn every_variable_of_the_template_is_one_that_the_sidecar_knows_with_the_default_that_it_has() {
    let help = read("sidecar/src/cli.rs");
    let environment = services(TEMPLATE)[0].1["environment"].clone();
    for (name, value) in environment.as_object().unwrap() {
        let known = help.lines().find(|line| line.trim_start().starts_with(name.trim_end_matches("_FILE")));
        let known = known.unwrap_or_else(|| panic!("{name} is no setting of the sidecar"));
        let default = value.as_str().unwrap().split_once(":-").map(|(_, rest)| rest.trim_end_matches('}'));
        if let Some(default) = default.filter(|default| !default.is_empty()) {
            assert!(known.contains(default), "{name}: {default} is not the default: {known}");
        }
    }
}
