//! What `cargo deny check bans licenses sources` checks of deny.toml, as far as it matters, without that program: it is
//! not on every machine, and these lists hold on every one. Advisories need it, and the network.

use std::process::Command;

use cargo_metadata::{Metadata, MetadataCommand, Package};
use spdx::{Expression, ParseMode};
use toml::{Table, Value};

use crate::root;

fn deny() -> Table {
    std::fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap()
}

/// Everything that Cargo.lock holds for this machine, with what it is for tests alone.
fn resolved() -> Vec<u8> {
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let mut command = MetadataCommand::new();
    command.current_dir(root()).features(cargo_metadata::CargoOpt::AllFeatures);
    command.other_options(["--locked", "--filter-platform", host].map(str::to_owned));
    let output = command.cargo_command().output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn words<'a>(table: &'a Table, section: &str, key: &str) -> Vec<&'a str> {
    let values = table[section][key].as_array().unwrap();
    values.iter().map(|value| value.get("name").unwrap_or(value)).filter_map(Value::as_str).collect()
}

/// The licences that one crate may have beside those that all may.
fn exceptions<'a>(table: &'a Table, package: &str) -> Vec<&'a str> {
    let all = table["licenses"].get("exceptions").and_then(Value::as_array).into_iter().flatten();
    let of_it = all.filter(|one| one["crate"].as_str() == Some(package));
    of_it.filter_map(|one| one["allow"].as_array()).flatten().filter_map(Value::as_str).collect()
}

fn license(package: &Package, allowed: &[&str]) -> Result<(), String> {
    let text = package.license.as_deref().ok_or("says no licence")?;
    let expression = Expression::parse_mode(text, ParseMode::LAX).map_err(|error| error.to_string())?;
    let good = expression.evaluate(|requirement| allowed.contains(&requirement.to_string().as_str()));
    if good { Ok(()) } else { Err(format!("has the licence {text}")) }
}

/// What deny.toml does not allow, a line each.
fn complaints(metadata: &Metadata, deny: &Table) -> Vec<String> {
    let (licenses, banned) = (words(deny, "licenses", "allow"), words(deny, "bans", "deny"));
    let sources = words(deny, "sources", "allow-registry");
    let used = metadata.resolve.as_ref().unwrap();
    let mut found = Vec::new();
    for package in metadata.packages.iter().filter(|one| used.nodes.iter().any(|node| node.id == one.id)) {
        let mut say = |what: String| found.push(format!("{} {} {what}", package.name, package.version));
        if banned.contains(&package.name.as_str()) {
            say("is banned".into());
        }
        let allowed = [licenses.clone(), exceptions(deny, &package.name)].concat();
        if let Err(what) = license(package, &allowed) {
            say(what);
        }
        match &package.source {
            Some(source) if !sources.iter().any(|known| source.repr == format!("registry+{known}")) => {
                say(format!("comes from {source}"));
            }
            Some(_) => {}
            None => {
                let open = package
                    .dependencies
                    .iter()
                    .filter(|needed| needed.path.is_none() && needed.req.to_string() == "*");
                open.for_each(|needed| say(format!("takes any version of {}", needed.name)));
            }
        }
    }
    found
}

#[test]
fn licences_bans_and_sources_are_as_deny_toml_says() {
    let metadata = serde_json::from_slice(&resolved()).unwrap();
    assert_eq!(complaints(&metadata, &deny()), Vec::<String>::new());
}

#[test]
fn each_of_these_is_seen_where_it_is_broken() {
    let good = String::from_utf8(resolved()).unwrap();
    let deny = deny();
    for (from, to, what) in [
        (r#""license":"MIT OR Apache-2.0""#, r#""license":"GPL-3.0-only""#, "has the licence GPL-3.0-only"),
        (
            r#""license":"MIT OR Apache-2.0""#,
            r#""license":"MIT AND SSPL-1.0""#,
            "has the licence MIT AND SSPL-1.0",
        ),
        (r#""license":"MIT OR Apache-2.0""#, r#""license":null"#, "says no licence"),
        (r#""name":"ring","version""#, r#""name":"openssl-sys","version""#, "is banned"),
        (
            r#""source":"registry+https://github.com/rust-lang/crates.io-index""#,
            r#""source":"git+https://example.com/a""#,
            "comes from git+https://example.com/a",
        ),
        (r#""req":"^1.12""#, r#""req":"*""#, "takes any version of "),
    ] {
        assert!(good.contains(from), "{from}");
        let bad = serde_json::from_str(&good.replace(from, to)).unwrap();
        let found = complaints(&bad, &deny);
        assert!(!found.is_empty() && found.iter().all(|line| line.contains(what)), "{what}: {found:?}");
    }
}
