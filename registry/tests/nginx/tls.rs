//! What nginx/README.md says of nodes with TLS, done with real nginx and real nodes.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use tempfile::TempDir;
use testkit::{Ca, Process, free_port, wait_until};

use crate::support::{Client, SOON};

/// The directory of the shipped configuration.
fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("nginx")
}

/// The block of the document, with files of a test's own.
fn block(dir: &Path) -> String {
    let readme = fs::read_to_string(shipped().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("```nginx\n").expect("the block is there");
    let (block, _) = rest.split_once("```").unwrap();
    block.replace("/etc/registry", dir.to_str().unwrap())
}

/// Copies the directory as the document says.
fn copy(dir: &Path) -> PathBuf {
    let copy = dir.join("nginx");
    fs::create_dir(&copy).unwrap();
    for name in ["run", "render"] {
        fs::copy(shipped().join(name), copy.join(name)).unwrap();
    }
    let template = fs::read_to_string(shipped().join("nginx.conf.template")).unwrap();
    let template = template.replace("proxy_pass http://registry;", "proxy_pass https://registry;");
    let (above, below) = template.split_once("    proxy_http_version 1.1;").unwrap();
    let template = format!("{above}{}\n    proxy_http_version 1.1;{below}", block(dir));
    fs::write(copy.join("nginx.conf.template"), template).unwrap();
    copy
}

/// A node of its own whose certificate is of this CA, and its port.
fn node(dir: &Path, name: &str, ca: &Ca) -> (Process, u16) {
    let (home, port) = (dir.join(name), free_port());
    fs::create_dir(&home).unwrap();
    let [certificate, key] = ca.issue(&["registry.internal", "localhost"]).write(&home, "node");
    let mut command = Command::new(env!("CARGO_BIN_EXE_registry"));
    command
        .env("REGISTRY_LISTEN", format!("127.0.0.1:{port}"))
        .env("REGISTRY_TLS_CERT", certificate)
        .env("REGISTRY_TLS_KEY", key)
        .env("REGISTRY_TLS_CLIENT_CA", dir.join("ca.pem"))
        .current_dir(&home);
    (Process::start("registry", &home, &mut command), port)
}

fn directory() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    // Run by root, nginx has workers of another user.
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    dir
}

#[tokio::test]
async fn nodes_with_tls_are_checked_and_one_that_proves_nothing_gets_no_call() {
    let (dir, ca, stranger) = (directory(), Ca::new(), Ca::new());
    fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
    let shown = ca.issue(&["nginx"]);
    shown.write(dir.path(), "nginx");
    let (_good, good) = node(dir.path(), "good", &ca);
    let (_false_one, false_one) = node(dir.path(), "false", &stranger);
    for (ca, port) in [(&ca, good), (&stranger, false_one)] {
        wait_until(SOON, "the node is ready", async || {
            ca.get(port, "/readyz", Some(&shown)).await.is_some_and(|(status, _)| status == 200)
        })
        .await;
    }
    let ports = [free_port(), free_port()];
    let mut command = Command::new(copy(dir.path()).join("run"));
    command
        .env("REGISTRY_NODES", format!("127.0.0.1:{false_one} 127.0.0.1:{good}"))
        .env("REGISTRY_NGINX_LISTEN", format!("127.0.0.1:{} 127.0.0.1:{}", ports[0], ports[1]))
        .env("REGISTRY_NGINX_DIR", dir.path().join("run"));
    let nginx = Process::start("nginx", dir.path(), &mut command);
    let client = Client::new(ports[0]);
    wait_until(SOON, "nginx answers", async || {
        assert!(nginx.ended().is_none(), "{}", nginx.stderr());
        client.get("/livez").await.is_ok_and(|reply| reply.status == 200)
    })
    .await;
    // Whichever is tried first.
    for number in 0..10 {
        let path = format!("/services/web/instances/{number}");
        let reply = client.call("PUT", &path, &json!({"endpoint": "http://127.0.0.1:9"})).await.unwrap();
        assert_eq!(reply.status, 201, "{reply:?}");
        assert_eq!(client.get(&path).await.unwrap().status, 200);
    }
    let list = stranger.get(false_one, "/services", Some(&shown)).await.unwrap();
    assert_eq!(list, (200, "[]".to_owned()), "the false one was asked");
}
