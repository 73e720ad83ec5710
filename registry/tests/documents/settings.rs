//! The tables of settings say what the programs say.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use crate::{
    markdown::{Document, code},
    support::{REGISTRY, program, run},
};

/// What `--help` prints.
async fn help(command: &mut Command) -> String {
    let (code, text, _) = run(command.arg("--help")).await;
    assert_eq!(code, 0);
    text
}

/// The variables of a sidecar, and what its help says of each.
async fn sidecar_help() -> BTreeMap<String, String> {
    let text = help(&mut Command::new(program("sidecar"))).await;
    let (_, list) = text.split_once("Environment:\n").unwrap();
    let lines = list.lines().take_while(|line| line.starts_with("  "));
    let pairs = lines.map(|line| line.trim().split_once("  ").unwrap());
    pairs.map(|(name, about)| (name.to_owned(), about.trim().to_owned())).collect()
}

/// The names in a cell: `X` and `X, _FILE` are names, and so is every other word in backquotes.
fn names(cell: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for word in code(cell) {
        let name = if word == "_FILE" { format!("{}_FILE", names.last().unwrap()) } else { word };
        names.push(name);
    }
    names
}

/// Every name of the sidecar that may stand in an environment.
pub(crate) async fn sidecar_names() -> BTreeSet<String> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for (name, about) in sidecar_help().await {
        let also =
            about.split([' ', ',', ';']).filter(|word| word.contains("REGISTRY_") && !word.contains(':'));
        let all: Vec<_> = std::iter::once(name.as_str()).chain(also).map(str::to_owned).collect();
        if about.contains("_FILE") {
            names.extend(all.iter().map(|name| format!("{name}_FILE")));
        }
        names.extend(all);
    }
    names
}

#[tokio::test]
async fn the_guide_lists_the_settings_of_the_sidecar_with_their_defaults() {
    let help = sidecar_help().await;
    assert!(help.len() >= 18, "{help:?}");
    let guide = Document::read("INTEGRATION_GUIDE.md");
    let table = guide.table("Every setting of the sidecar", "variable");
    let mut listed = BTreeSet::new();
    for row in &table.rows {
        let names = names(&row[0]);
        let about = help.get(&names[0]).unwrap_or_else(|| panic!("the sidecar has no {}", names[0]));
        let default = row[1].replace('`', "");
        let rest = about.strip_prefix(&default);
        let whole = rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()));
        assert!(whole, "{}: the guide says '{default}', and the help '{about}'", names[0]);
        for name in names {
            assert!(listed.insert(name.clone()), "{name} is listed twice");
        }
    }
    assert_eq!(listed, sidecar_names().await, "left: the guide; right: sidecar --help");
}

/// The line that a wrong value prints stands in the table, and is printed.
#[tokio::test]
async fn the_guide_quotes_what_a_wrong_value_is_answered_with() {
    let guide = Document::read("INTEGRATION_GUIDE.md");
    let table = guide.table("Every setting of the sidecar", "variable");
    assert_eq!(table.head[3], "a wrong value ends it with 64 and this line");
    let mut quoted = 0;
    for row in &table.rows {
        let lines = code(&row[3]);
        assert!(!lines.is_empty() || row[3].starts_with("none"), "{}: no line", row[0]);
        for line in lines {
            let name = line.split(' ').next().unwrap();
            let mut env = BTreeMap::from([
                ("SERVICE_NAME", "orders"),
                ("SERVICE_HOST", "orders"),
                ("SIDECAR_LOG", "off"),
            ]);
            if line.starts_with(&format!("{name} is not set")) {
                env.remove(name);
            } else if let Some((_, rest)) = line.split_once(" is '") {
                env.insert(name, rest.split_once('\'').unwrap().0);
            } else if line.contains(" holds nothing") {
                env.insert(name, " ");
            } else {
                panic!("what makes this line? {line}");
            }
            let (code, _, printed) = run(Command::new(program("sidecar")).envs(env)).await;
            assert_eq!(code, 64, "{line}");
            let printed = printed.trim_end().strip_prefix("sidecar: ").unwrap();
            let same = match line.strip_suffix('…') {
                Some(beginning) => printed.starts_with(beginning),
                None => printed == line,
            };
            assert!(same, "the guide says\n{line}\nand the sidecar\n{printed}");
            quoted += 1;
        }
    }
    assert!(quoted >= 18, "only {quoted} lines are quoted");
}

#[tokio::test]
async fn the_readme_lists_the_settings_of_the_registry_with_their_defaults() {
    let text = help(Command::new(REGISTRY).arg("serve")).await;
    let of_program: BTreeSet<_> =
        text.split("[env: ").skip(1).map(|rest| rest.split(['=', ']']).next().unwrap().to_owned()).collect();
    let readme = Document::read("README.md");
    let table = readme.table("Settings of the registry", "variable");
    let mut listed = BTreeSet::new();
    for row in &table.rows {
        for name in names(&row[0]) {
            assert!(listed.insert(name.clone()), "{name} is listed twice");
        }
        let name = &names(&row[0])[0];
        // `NAME=` with the value, or `NAME` alone where that would be a secret.
        let ends = [format!("[env: {name}="), format!("[env: {name}]")];
        let about = &text[..ends.iter().find_map(|end| text.find(end.as_str())).unwrap()];
        let about = about.rsplit("\n      --").next().unwrap();
        let default =
            about.rsplit_once("[default: ").map_or("none", |(_, rest)| rest.split(']').next().unwrap());
        let plain = |text: &str| text.replace('`', "").replace("the database URL", "DATABASE_URL");
        assert_eq!(plain(&row[1]), plain(default), "{name}: left: README; right: registry serve --help");
    }
    assert_eq!(listed, of_program, "left: README; right: registry serve --help");
}
