//! The images themselves.

use std::{path::Path, process::Command};

use containers::{Container, docker, name, root, run, setting, try_docker};
use serde_json::Value;

const IMAGES: [&str; 2] = ["REGISTRY_IMAGE", "SIDECAR_IMAGE"];

async fn inspect(image: &str) -> Value {
    let all: Value = serde_json::from_str(&docker(&["image", "inspect", image]).await).unwrap();
    all[0].clone()
}

#[tokio::test]
async fn each_image_says_who_runs_what_and_how_it_is() {
    for (variable, program) in IMAGES.into_iter().zip(["/registry", "/sidecar"]) {
        let config = inspect(&setting(variable)).await["Config"].clone();
        assert_eq!(config["User"], "65532:65532");
        assert_eq!(config["Entrypoint"], serde_json::json!([program]));
        assert_eq!(config["Healthcheck"]["Test"], serde_json::json!(["CMD", program, "healthcheck"]));
        let labels = &config["Labels"];
        for label in ["title", "description", "licenses", "version", "revision"] {
            let value = labels[format!("org.opencontainers.image.{label}")].as_str().unwrap_or_default();
            assert!(!value.is_empty() && value != "dev", "{label}: {labels}");
        }
    }
}

#[tokio::test]
async fn an_image_holds_its_program_and_the_ca_roots_and_no_shell() {
    for (variable, program) in IMAGES.into_iter().zip(["registry", "sidecar"]) {
        let container = Container::named(name("files"));
        docker(&["create", "--name", container.name(), &setting(variable)]).await;
        let listing = Command::new("sh")
            .args(["-c", "docker export \"$1\" | tar --list --verbose", "sh", container.name()])
            .output()
            .unwrap();
        docker(&["rm", container.name()]).await;
        let listing = String::from_utf8(listing.stdout).unwrap();
        // What the engine itself puts into every container has no size.
        let mut files: Vec<_> = listing
            .lines()
            .filter(|line| line.starts_with('-'))
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|fields| fields[2] != "0")
            .map(|fields| fields[5])
            .collect();
        files.sort_unstable();
        assert_eq!(files, ["etc/ssl/certs/ca-certificates.crt", program]);
        let shell = try_docker(&["run", "--rm", "--entrypoint", "/bin/sh", &setting(variable)]).await;
        assert_eq!(shell.status, Some(127), "{shell:?}");
    }
}

#[tokio::test]
async fn the_size_of_each_image_is_bounded() {
    if setting("TEST_BINARIES") != "release" {
        eprintln!("SKIPPED: these are binaries for debugging; `RELEASE=1 make test-containers` measures");
        return;
    }
    for (variable, most) in IMAGES.into_iter().zip([15_000_000, 3_500_000]) {
        let size = inspect(&setting(variable)).await["Size"].as_u64().unwrap();
        assert!(size <= most, "{variable}: {size}");
    }
}

#[tokio::test]
async fn the_same_files_make_the_same_layers() {
    if try_docker(&["buildx", "version"]).await.good() {
        eprintln!(
            "SKIPPED: BuildKit gives directories the time of the build, unless it is told to rewrite them"
        );
        return;
    }
    let again = [("REGISTRY_IMAGE", name("again")), ("SIDECAR_IMAGE", name("again"))];
    let mut environment: Vec<_> =
        again.iter().map(|(variable, name)| ((*variable).to_owned(), name.clone())).collect();
    environment.push(("SOURCE_DATE_EPOCH".into(), setting("SOURCE_DATE_EPOCH")));
    let program =
        [root().join("scripts/images").into_os_string(), "--from".into(), setting("TEST_FROM").into()];
    let built = run(&program, Path::new("/"), &environment).await;
    assert!(built.good(), "{built:?}");
    for (variable, again) in again {
        let (first, second) = (inspect(&setting(variable)).await, inspect(&again).await);
        docker(&["rmi", &again]).await;
        assert_eq!(first["RootFS"]["Layers"], second["RootFS"]["Layers"], "{variable}");
    }
}
