//! The binaries as scripts/dist has made them: what they and the documents beside them say, against Cargo.lock and
//! against cargo's own account of what each needs.
//!
//! `DIST` names their directory; `make test` sets it to those for debugging, and without it nothing is looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use auditable_info::Limits;
use auditable_serde::{Source, VersionInfo};
use cargo_lock::Lockfile;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::root;

/// Name and package of each binary.
const SHIPPED: [(&str, &str); 2] = [("registry", "registry"), ("sidecar", "registry-sidecar")];

/// What is linked besides crates.
const NO_CRATES: [&str; 3] = ["glibc", "rust-std", "sqlite"];

fn dist() -> Option<PathBuf> {
    let dist = std::env::var_os("DIST").map(PathBuf::from);
    if dist.is_none() {
        eprintln!("SKIPPED: DIST does not name a directory of binaries, which scripts/dist makes");
    }
    dist
}

/// Name and version, as `name@version`.
type Crates = BTreeSet<String>;

fn inside(binary: &Path) -> VersionInfo {
    let limits = Limits { input_file_size: 1 << 30, decompressed_json_size: 1 << 20 };
    auditable_info::audit_info_from_file(binary, limits).unwrap()
}

fn document(binary: &Path) -> Value {
    let file = format!("{}.cdx.json", binary.display());
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

fn reference(component: &Value) -> String {
    component["bom-ref"].as_str().unwrap().to_owned()
}

/// What cargo says that a package needs at run time for the target of a document, with its features.
fn needed(package: &str, document: &Value) -> Crates {
    let properties = document["metadata"]["component"]["properties"].as_array().unwrap();
    let property = |name: &str| {
        let found = properties.iter().find(|property| property["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {properties:?}"))["value"].as_str().unwrap()
    };
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"])
        .args(["--package", package, "--target", property("cargo:target")])
        .args(["--no-default-features", "--features", property("cargo:features")])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.lines().map(|line| line.split(' '));
    words
        .by_ref()
        .map(|mut line| format!("{}@{}", line.next().unwrap(), &line.next().unwrap()[1..]))
        .collect()
}

#[test]
fn each_binary_says_inside_what_was_linked() {
    let Some(dist) = dist() else { return };
    let lock = Lockfile::load(root().join("Cargo.lock")).unwrap();
    for (name, package) in SHIPPED {
        let info = inside(&dist.join(name));
        let own: Vec<_> = info.packages.iter().filter(|one| one.root).map(|one| one.name.as_str()).collect();
        assert_eq!(own, [package]);
        for one in &info.packages {
            let locked = lock.packages.iter().find(|locked| {
                locked.name.as_str() == one.name && locked.version.to_string() == one.version.to_string()
            });
            let locked = locked.unwrap_or_else(|| panic!("{name}: {one:?} is not in Cargo.lock"));
            assert_eq!(locked.source.is_some(), one.source == Source::CratesIo, "{one:?}");
        }
        let said: Crates = info.packages.iter().map(|one| format!("{}@{}", one.name, one.version)).collect();
        assert_eq!(said, needed(package, &document(&dist.join(name))), "{name}");
        // It would carry to our log what libraries say by another way, which the tests of secrets do not listen to.
        assert!(info.packages.iter().all(|one| one.name != "tracing-log"), "{name}");
        // What its own crates call, directly or not, is all that there is.
        let mut reached = BTreeSet::new();
        let mut next: Vec<usize> = info.packages.iter().position(|one| one.root).into_iter().collect();
        while let Some(place) = next.pop() {
            if reached.insert(place) {
                next.extend(&info.packages[place].dependencies);
            }
        }
        assert_eq!(reached.len(), info.packages.len(), "{name}: {info:?}");
    }
}

#[test]
fn each_document_says_the_same_and_what_is_linked_besides_crates() {
    let Some(dist) = dist() else { return };
    let lock = Lockfile::load(root().join("Cargo.lock")).unwrap();
    for (name, package) in SHIPPED {
        let binary = dist.join(name);
        let document = document(&binary);
        assert_eq!((&document["bomFormat"], &document["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
        let about = &document["metadata"]["component"];
        assert_eq!(about["name"], name);
        assert_eq!(about["hashes"][0]["content"], digest(&binary), "{name}: of the binary as it lies there");
        let components = document["components"].as_array().unwrap();
        let mut all: Crates = components.iter().map(reference).collect();
        assert_eq!(all.len(), components.len(), "{name}: none stands there twice");
        all.insert(reference(about));
        for component in components.iter().filter(|component| component["purl"].is_string()) {
            if NO_CRATES.contains(&component["name"].as_str().unwrap()) {
                continue;
            }
            let reference = reference(component);
            let (name, version) = reference.split_once('@').unwrap();
            let locked = lock
                .packages
                .iter()
                .find(|locked| locked.name.as_str() == name && locked.version.to_string() == version);
            let checksum = locked.unwrap().checksum.as_ref().unwrap().to_string();
            assert_eq!(component["hashes"][0]["content"], checksum, "{reference}");
            assert_eq!(component["purl"], format!("pkg:cargo/{reference}"));
            assert!(component["licenses"][0]["expression"].is_string(), "{component}");
        }
        // Whatever is named as a dependency is there.
        for dependency in document["dependencies"].as_array().unwrap() {
            for on in dependency["dependsOn"].as_array().unwrap() {
                assert!(all.contains(on.as_str().unwrap()), "{name}: {on}");
            }
        }
        let (crates, others): (Crates, Crates) =
            all.into_iter().partition(|one| !NO_CRATES.contains(&one.split('@').next().unwrap()));
        assert_eq!(crates, needed(package, &document), "{name}");
        let others: Vec<_> = others.iter().map(|one| one.split_once('@').unwrap()).collect();
        let names: Vec<_> = others.iter().map(|(name, _)| *name).collect();
        let expected: &[_] = if name == "registry" { &NO_CRATES } else { &NO_CRATES[..2] };
        assert_eq!(names, expected, "{name}");
        if let Some((_, version)) = others.iter().find(|(name, _)| *name == "sqlite") {
            let program = fs::read(&binary).unwrap();
            let found = program.windows(version.len()).any(|bytes| bytes == version.as_bytes());
            assert!(found, "SQLite {version} says its version in the binary");
        }
    }
}

fn digest(file: &Path) -> String {
    format!("{:x}", Sha256::digest(fs::read(file).unwrap()))
}

#[test]
fn the_checksums_are_of_everything_there() {
    let Some(dist) = dist() else { return };
    let sums = fs::read_to_string(dist.join("SHA256SUMS")).unwrap();
    let said: BTreeMap<_, _> =
        sums.lines().map(|line| line.split_once("  ").unwrap()).map(|(sum, name)| (name, sum)).collect();
    let mut there: Vec<_> =
        fs::read_dir(&dist).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    there.retain(|name| name != "SHA256SUMS");
    there.sort_unstable();
    assert!(said.keys().eq(&there), "{sums}\n{there:?}");
    for name in there {
        assert_eq!(digest(&dist.join(&name)), said[name.as_str()], "{name}");
    }
}
