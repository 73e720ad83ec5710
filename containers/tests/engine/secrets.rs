//! What lies about where an image is built is not in the image: not in a layer, not in its settings, not in its history.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use containers::{docker, name, root, run, setting};

/// In every secret that is planted, and nowhere else.
const CANARY: &str = "canary-4e1b7f90c2d8";

/// A tree as somebody has it who has run the stack, with secrets in every place where they come to lie.
fn tree(directory: &str) -> PathBuf {
    let tree = Path::new(&setting("TEST_DIR")).join(directory);
    let copy = |from: &str| {
        let to = tree.join(from);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(root().join(from), to).unwrap();
    };
    for file in [
        "Cargo.toml",
        ".dockerignore",
        "scripts/images",
        "registry/Dockerfile",
        "sidecar/Dockerfile",
        "wire/src/lib.rs",
    ] {
        copy(file);
    }
    for file in [
        "secrets/registry_auth_token",
        "registry/secrets/database_url",
        "sidecar/secrets/registry_auth_token",
        "wire/registry.db",
        "wire/registry.db-wal",
        "wire/tokens/keys",
        "wire/.env",
        "tokens/keys",
        ".env",
        ".git/config",
        "registry.db",
        "target/release/registry.d",
    ] {
        let path = tree.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{CANARY} {file}\n")).unwrap();
    }
    tree
}

/// The files of `docker save`, layers unpacked, that hold a text.
async fn holding(image: &str, text: &str) -> Vec<String> {
    let dir = tempfile::tempdir_in(setting("TEST_DIR")).unwrap();
    let archive = dir.path().join("image.tar");
    docker(&["save", "--output", archive.to_str().unwrap(), image]).await;
    // Some engines keep layers packed. What is no archive is left as it is.
    let script = "mkdir image && tar -xf image.tar -C image && rm image.tar
        find image -type f | while read -r file; do
            if gzip --test \"$file\" 2>/dev/null; then gzip --decompress --stdout \"$file\" >\"$file.unpacked\"; fi
        done
        grep --recursive --files-with-matches --text --fixed-strings -e \"$1\" image || true";
    let found =
        Command::new("sh").args(["-ec", script, "sh", text]).current_dir(dir.path()).output().unwrap();
    assert!(found.status.success(), "{found:?}");
    String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn no_image_holds_a_secret_of_the_place_where_it_was_built() {
    let tree = tree("images");
    let images = [("REGISTRY_IMAGE", name("canary-registry")), ("SIDECAR_IMAGE", name("canary-sidecar"))];
    let mut environment: Vec<_> =
        images.iter().map(|(variable, name)| ((*variable).to_owned(), name.clone())).collect();
    for variable in
        ["REGISTRY_AUTH_TOKEN", "REGISTRY_READ_TOKEN", "REGISTRY_TOKEN", "DATABASE_URL", "POSTGRES_PASSWORD"]
    {
        environment.push((variable.to_owned(), format!("{CANARY}-{variable}")));
    }
    let script = tree.join("scripts/images").into_os_string();
    let built = run(&[script, "--from".into(), setting("TEST_FROM").into()], &tree, &environment).await;
    assert!(built.good(), "{built:?}");
    for (_, image) in images {
        let shown = holding(&image, CANARY).await;
        // What is there is seen, in a layer and in the settings.
        let (layer, settings) = (
            holding(&image, "BEGIN CERTIFICATE").await,
            holding(&image, "org.opencontainers.image.title").await,
        );
        docker(&["rmi", &image]).await;
        assert_eq!(shown, Vec::<String>::new(), "{image}");
        assert!(!layer.is_empty() && !settings.is_empty(), "{image}: {layer:?} {settings:?}");
    }
}

/// A build from source copies its whole context into its first stage.
#[tokio::test]
async fn no_secret_is_in_the_context_of_a_build_from_source() {
    let tree = tree("context");
    let image = name("canary-context");
    fs::write(tree.join("sidecar/Dockerfile"), "FROM scratch\nCOPY . .\n").unwrap();
    let (file, context) = (tree.join("sidecar/Dockerfile"), tree.to_str().unwrap());
    docker(&["build", "--quiet", "--no-cache", "--tag", &image, "--file", file.to_str().unwrap(), context])
        .await;
    let (shown, source) = (holding(&image, CANARY).await, holding(&image, "wire/src/lib.rs").await);
    docker(&["rmi", &image]).await;
    assert!(!source.is_empty(), "it holds the source");
    assert_eq!(shown, Vec::<String>::new());
}
