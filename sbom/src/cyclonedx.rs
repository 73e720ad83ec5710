//! The document beside the binary: CycloneDX 1.5, JSON. <https://cyclonedx.org/docs/1.5/json/>

use std::{error::Error, process::Command};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::linked::{Linked, Part, sqlite};

pub(crate) fn document(linked: &Linked, name: &str, program: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    for (place, part) in linked.parts.iter().enumerate() {
        if place != linked.root {
            components.push(component(part));
        }
        let mut needs: Vec<String> = part.needs.iter().map(|&needed| id(&linked.parts[needed])).collect();
        if let Some(version) = sqlite(part) {
            let sqlite = generic("sqlite", &version);
            needs.push(reference(&sqlite));
            components.push(sqlite);
        }
        if place == linked.root {
            for below in below_cargo(&linked.target)? {
                needs.push(reference(&below));
                components.push(below);
            }
        }
        dependencies.push(json!({"ref": id(part), "dependsOn": needs}));
    }
    components.sort_by_key(reference);
    let root = &linked.parts[linked.root];
    let mut about = component(root);
    about["type"] = json!("application");
    about["name"] = json!(name);
    about["hashes"] = json!([{"alg": "SHA-256", "content": format!("{:x}", Sha256::digest(program))}]);
    about["properties"] = json!([
        {"name": "cargo:features", "value": root.features.join(",")},
        {"name": "cargo:package", "value": root.package.name},
        {"name": "cargo:target", "value": linked.target},
    ]);
    let document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": about},
        "components": components,
        "dependencies": dependencies,
    });
    let mut bytes = serde_json::to_vec_pretty(&document)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn id(part: &Part) -> String {
    format!("{}@{}", part.package.name, part.package.version)
}

fn component(part: &Part) -> Value {
    let package = &part.package;
    let mut component = json!({
        "type": "library",
        "bom-ref": id(part),
        "name": package.name,
        "version": package.version,
        "scope": "required",
    });
    // The old way to write "or".
    if let Some(license) = &package.license {
        component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
    }
    if let Some(checksum) = &part.checksum {
        component["purl"] = json!(format!("pkg:cargo/{}", id(part)));
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    component
}

/// What is linked besides crates: Rust's own library, and in a static binary the C library of the machine that built it.
fn below_cargo(target: &str) -> Result<Vec<Value>, Box<dyn Error>> {
    let rustc = said("rustc", &["--version"])?;
    let mut all = vec![generic("rust-std", rustc.split(' ').nth(1).ok_or("rustc does not say its version")?)];
    if target.ends_with("-gnu") {
        // "glibc 2.36"
        let libc = said("getconf", &["GNU_LIBC_VERSION"])?;
        all.push(generic(
            "glibc",
            libc.split(' ').nth(1).ok_or("getconf does not say the version of glibc")?,
        ));
    }
    Ok(all)
}

fn said(program: &str, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program} {}: {error}", arguments.join(" ")))?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn generic(name: &str, version: &str) -> Value {
    json!({
        "type": "library",
        "bom-ref": format!("{name}@{version}"),
        "name": name,
        "version": version,
        "scope": "required",
        "purl": format!("pkg:generic/{name}@{version}"),
    })
}

fn reference(component: &Value) -> String {
    component["bom-ref"].as_str().unwrap_or_default().to_owned()
}
