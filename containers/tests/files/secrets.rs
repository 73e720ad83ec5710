use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

/// `make secrets` in a directory of its own.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("scripts")).unwrap();
        fs::copy(containers::root().join("scripts/secrets"), tree.path().join("scripts/secrets")).unwrap();
        Self(tree)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join("secrets").join(name)
    }

    fn run(&self) -> Output {
        Command::new(self.0.path().join("scripts/secrets")).output().unwrap()
    }

    fn values(&self) -> BTreeMap<String, String> {
        let files = fs::read_dir(self.0.path().join("secrets")).unwrap();
        let value = |path: &Path| fs::read_to_string(path).unwrap();
        files
            .map(|file| file.unwrap())
            .map(|file| (file.file_name().into_string().unwrap(), value(&file.path())))
            .collect()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn secrets_are_made_once_and_their_values_are_not_printed() {
    let tree = Tree::new();
    let made = tree.run();
    assert!(made.status.success(), "{made:?}");
    let values = tree.values();
    let names: Vec<_> = values.keys().map(String::as_str).collect();
    assert_eq!(names, ["database_url", "postgres_password", "registry_auth_token"]);
    for name in ["postgres_password", "registry_auth_token"] {
        let value = &values[name];
        assert!(value.len() == 64 && value.chars().all(|c| c.is_ascii_hexdigit()), "32 bytes: {value}");
    }
    assert_ne!(values["postgres_password"], values["registry_auth_token"]);
    let url = format!("postgres://registry:{}@postgres:5432/registry", values["postgres_password"]);
    assert_eq!(values["database_url"], url);

    let again = tree.run();
    assert!(again.status.success(), "{again:?}");
    assert_eq!(tree.values(), values, "what is there is kept");
    for output in [made, again] {
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(names.iter().all(|name| text.contains(name)), "{text}");
        assert!(!values.values().any(|value| text.contains(value.as_str())), "{text}");
    }
}

#[test]
fn every_container_reads_a_secret_and_nobody_else_comes_to_it() {
    let tree = Tree::new();
    assert!(tree.run().status.success());
    assert_eq!(mode(&tree.path("")), 0o700);
    for name in tree.values().keys() {
        assert_eq!(mode(&tree.path(name)), 0o444, "{name}");
    }
}

#[test]
fn what_is_there_is_not_made_to_fit_what_is_missing() {
    let tree = Tree::new();
    assert!(tree.run().status.success());
    // A new password would not be the one that the database has, and that the URL holds.
    fs::remove_file(tree.path("postgres_password")).unwrap();
    let refused = tree.run();
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
    assert!(!tree.path("postgres_password").exists());

    // A new URL is made of the password that is there.
    let tree = Tree::new();
    assert!(tree.run().status.success());
    let before = tree.values();
    fs::remove_file(tree.path("database_url")).unwrap();
    // Docker makes a directory where a file to mount is missing.
    fs::create_dir(tree.path("database_url")).unwrap();
    assert!(tree.run().status.success());
    assert_eq!(tree.values(), before);
}
