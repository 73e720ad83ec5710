//! Compose files, Dockerfiles and what belongs to them, read without a Docker engine.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod compose;
mod dockerfiles;
mod monitoring;
mod secrets;

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;

/// A file of this tree.
fn read(path: &str) -> String {
    fs::read_to_string(containers::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A YAML file of this tree, with anchors and merge keys resolved.
fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file that git would keep, as paths from the root of the tree.
fn tracked() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(containers::root())
        .output()
        .unwrap();
    assert!(listed.status.success(), "{listed:?}");
    String::from_utf8(listed.stdout).unwrap().lines().map(PathBuf::from).collect()
}
