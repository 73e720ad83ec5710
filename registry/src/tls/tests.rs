use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use testkit::Ca;

use super::*;

fn files(dir: &Path) -> TlsFiles {
    TlsFiles { certificate: dir.join("node.pem"), key: dir.join("node.key"), client_ca: None }
}

fn error(paths: TlsFiles) -> String {
    let error = Tls::open(paths).unwrap_err().to_string();
    assert!(!error.contains('\n'), "one line: {error}");
    error
}

#[test]
fn each_fault_names_its_setting_its_file_and_itself() {
    let dir = tempfile::tempdir().unwrap();
    let paths = files(dir.path());
    let missing = error(paths.clone());
    assert!(missing.contains("REGISTRY_TLS_CERT: '") && missing.contains("mount"), "{missing}");
    let (good, other) = (Ca::new().issue(&["a"]), Ca::new().issue(&["b"]));
    good.write(dir.path(), "node");
    Tls::open(paths.clone()).unwrap();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let cut = &good.key[..good.key.len() / 2];
    let (key, certificate) = (good.key.as_str(), good.certificate.as_str());
    for (certificate, key, setting, part) in [
        ("", key, "CERT", "holds no certificate"),
        (key, key, "CERT", "holds no certificate"),
        ("\u{0}\u{1}no PEM", key, "CERT", "holds no certificate"),
        (&certificate[..200], key, "CERT", "END line"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", key, "CERT", "cannot be used"),
        (certificate, "", "KEY", "no private key"),
        (certificate, certificate, "KEY", "no private key"),
        (certificate, encrypted, "KEY", "encrypted"),
        (certificate, cut, "KEY", "END line"),
        (
            certificate,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "KEY",
            "no key of a kind",
        ),
        (certificate, &other.key, "KEY", "not the key of the first certificate"),
        // In the wrong order.
        (&format!("{}{certificate}", Ca::new().pem()), key, "KEY", "not the key of the first certificate"),
    ] {
        fs::write(&paths.certificate, certificate).unwrap();
        fs::write(&paths.key, key).unwrap();
        let error = error(paths.clone());
        assert!(error.starts_with(&format!("REGISTRY_TLS_{setting}: '")) && error.contains(part), "{error}");
        assert!(!error.contains(key.lines().nth(1).unwrap_or("no key")), "{error}");
    }
    good.write(dir.path(), "node");
    for (text, part) in [("", "holds no certificate"), (key, "holds no certificate")] {
        let client_ca = Some(dir.path().join("clients.pem"));
        fs::write(client_ca.as_ref().unwrap(), text).unwrap();
        let error = error(TlsFiles { client_ca, ..paths.clone() });
        assert!(error.starts_with("REGISTRY_TLS_CLIENT_CA: '") && error.contains(part), "{error}");
    }
    let error = error(TlsFiles { key: dir.path().to_owned(), ..paths });
    assert!(error.starts_with("REGISTRY_TLS_KEY: '") && error.contains("not a file"), "{error}");
}

#[test]
fn what_clients_will_refuse_is_said_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (paths, ca) = (files(dir.path()), Ca::new());
    let remarks = |now: u64| Tls::open(paths.clone()).unwrap().pair().remarks(&paths, now);
    let now = 1_800_000_000;
    ca.issue(&["a"]).write(dir.path(), "node");
    assert_eq!(remarks(now), Vec::<String>::new());
    fs::set_permissions(&paths.key, PermissionsExt::from_mode(0o644)).unwrap();
    let open = remarks(now);
    assert!(open.len() == 1 && open[0].contains("every user"), "{open:?}");
    ca.issue_until(&["a"], 2020).write(dir.path(), "node");
    let expired = remarks(now);
    assert!(expired.len() == 1 && expired[0].contains("has expired"), "{expired:?}");
    assert_eq!(Tls::open(paths.clone()).unwrap().pair().expires, 1_577_836_800);
    ca.issue(&[]).write(dir.path(), "node");
    let nameless = remarks(now);
    assert!(nameless.len() == 1 && nameless[0].contains("names no host"), "{nameless:?}");
    ca.issue_ca(&["a"]).write(dir.path(), "node");
    let authority = remarks(now);
    assert!(authority.len() == 1 && authority[0].contains("certificate of a CA"), "{authority:?}");
    // As rcgen has it, a certificate is valid from 1975.
    ca.issue(&["a"]).write(dir.path(), "node");
    assert!(remarks(0)[0].contains("not valid yet"));
}

#[test]
fn a_certificate_says_whom_it_is_for() {
    let dir = tempfile::tempdir().unwrap();
    Ca::new().issue(&["localhost", "10.0.0.7"]).write(dir.path(), "node");
    let tls = Tls::open(files(dir.path())).unwrap();
    for (host, expected) in [("localhost", true), ("10.0.0.7", true), ("127.0.0.1", false), ("", false)] {
        assert_eq!(tls.is_for(host), expected, "{host}");
    }
}

#[test]
fn a_pair_that_is_half_replaced_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    ca.issue(&["a"]).write(dir.path(), "node");
    let tls = Tls::open(files(dir.path())).unwrap();
    let next = ca.issue(&["b"]);
    fs::write(&tls.paths.certificate, &next.certificate).unwrap();
    for at_once in [false, true, false] {
        tls.refresh(at_once);
        assert!(tls.is_for("a"));
    }
    assert!(!tls.files.lock().good());
    fs::write(&tls.paths.key, &next.key).unwrap();
    tls.refresh(false);
    assert!(tls.is_for("a"), "it may be half-written");
    tls.refresh(false);
    assert!(tls.is_for("b") && tls.files.lock().good());
    // What lay there before the fault is in order again without being new.
    fs::remove_file(&tls.paths.key).unwrap();
    tls.refresh(true);
    assert!(!tls.files.lock().good());
    fs::write(&tls.paths.key, &next.key).unwrap();
    tls.refresh(false);
    assert!(tls.files.lock().good());
}
