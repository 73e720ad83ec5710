use std::{collections::HashMap, ffi::OsString, io::Write, time::Duration};

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::{Config, Scheme, Source};
use crate::Host;

const NAMES: &[&str] = &[
    "SERVICE_NAME",
    "SERVICE_HOST",
    "SERVICE_PORT",
    "SERVICE_SCHEME",
    "SERVICE_HEALTH_ENDPOINT",
    "REGISTRY_URL",
    "REGISTRY_TOKEN",
    "REGISTRY_TOKEN_FILE",
    "REGISTRY_CA_FILE",
    "REGISTRY_CLIENT_CERT_FILE",
    "REGISTRY_CLIENT_KEY_FILE",
    "HEARTBEAT_INTERVAL",
    "INITIAL_WAIT_TIMEOUT",
    "HEALTH_INTERVAL",
    "HEALTH_FAILURES",
    "INSTANCE_ID",
    "SERVICE_METADATA",
    "SERVICE_TTL",
    "DRAIN_SECONDS",
    "SIDECAR_LISTEN",
];

fn read(variables: &[(&str, &str)]) -> Result<Config, String> {
    let mut map: HashMap<&str, &str> =
        HashMap::from([("SERVICE_NAME", "osint"), ("SERVICE_HOST", "osint-host")]);
    map.extend(variables.iter().copied());
    let lookup = |name: &str| map.get(name).map(OsString::from);
    Config::from_source(&Source::new(&lookup)).map_err(|error| error.to_string())
}

fn good(variables: &[(&str, &str)]) -> Config {
    read(variables).unwrap_or_else(|error| panic!("{variables:?}: {error}"))
}

fn bad(variables: &[(&str, &str)]) -> String {
    match read(variables) {
        Ok(config) => panic!("{variables:?} made {config:?}"),
        Err(line) => line,
    }
}

#[test]
fn two_variables_are_enough_and_the_rest_is_as_documented() {
    let config = good(&[]);
    assert_eq!(config.port, 8080);
    assert_eq!(config.scheme, Scheme::Http);
    assert_eq!(config.health_endpoint.as_str(), "/health");
    assert_eq!(config.registries, ["http://vertice-register-lb:8888".parse().unwrap()]);
    assert_eq!(config.instance, None);
    assert!(config.token.is_none() && config.listen.is_none());
    let settings = config.settings;
    assert_eq!(settings.interval, Duration::from_secs(30));
    assert_eq!(settings.ttl.seconds(), 90);
    assert_eq!(settings.initial_wait, Duration::from_mins(1));
    assert_eq!(settings.health_interval, Duration::from_secs(10));
    assert_eq!(settings.health_failures, 3);
    assert_eq!(settings.drain, Duration::ZERO);
}

#[test]
fn what_is_missing_or_empty_is_named() {
    for name in ["SERVICE_NAME", "SERVICE_HOST"] {
        let line = bad(&[(name, "")]);
        assert!(line.starts_with(&format!("{name} is not set")), "{line}");
    }
    assert_eq!(good(&[("SERVICE_PORT", ""), ("REGISTRY_URL", "")]).port, 8080);
}

#[test]
fn a_value_of_the_template_that_was_not_replaced_is_named() {
    for name in NAMES {
        for value in ["CHANGE_ME", "CHANGE_ME_canary", " CHANGE_ME_canary"] {
            let line = bad(&[(name, value)]);
            assert!(line.starts_with(&format!("{name} still begins with CHANGE_ME")), "{line}");
            assert!(line.contains("replace it") && !line.contains("canary"), "{line}");
        }
    }
    assert_eq!(good(&[("SERVICE_NAME", "not-CHANGE_ME")]).service.as_str(), "not-CHANGE_ME");
}

#[test]
fn every_value_out_of_bounds_is_one_line_that_names_variable_and_value() {
    let table = [
        ("SERVICE_NAME", "no spaces"),
        ("SERVICE_NAME", "-x"),
        ("SERVICE_HOST", "bad host"),
        ("SERVICE_HOST", "http://osint"),
        ("SERVICE_HOST", "a/b"),
        ("SERVICE_PORT", "70000"),
        ("SERVICE_PORT", "0"),
        ("SERVICE_PORT", "http"),
        ("SERVICE_PORT", "-1"),
        ("SERVICE_SCHEME", "ftp"),
        ("SERVICE_HEALTH_ENDPOINT", "health"),
        ("SERVICE_HEALTH_ENDPOINT", "/a b"),
        ("REGISTRY_URL", "registry:8888"),
        ("REGISTRY_URL", "ftp://registry"),
        ("REGISTRY_URL", "http://"),
        ("REGISTRY_URL", "http://a?x=1"),
        ("REGISTRY_URL", "http://a:0"),
        ("REGISTRY_URL", ","),
        ("HEARTBEAT_INTERVAL", "0"),
        ("HEARTBEAT_INTERVAL", "0.5"),
        ("HEARTBEAT_INTERVAL", "30s"),
        ("HEARTBEAT_INTERVAL", "1201"),
        ("INITIAL_WAIT_TIMEOUT", "-1"),
        ("HEALTH_INTERVAL", "0"),
        ("HEALTH_FAILURES", "0"),
        ("INSTANCE_ID", "a/b"),
        ("SERVICE_METADATA", "novalue"),
        ("SERVICE_METADATA", "bad key=1"),
        ("SERVICE_METADATA", "=1"),
        ("SERVICE_TTL", "2"),
        ("SERVICE_TTL", "3601"),
        ("SERVICE_TTL", "90s"),
        ("DRAIN_SECONDS", "soon"),
        ("SIDECAR_LISTEN", "9901"),
        ("SIDECAR_LISTEN", "localhost:9901"),
    ];
    for (name, value) in table {
        let line = bad(&[(name, value)]);
        assert!(line.starts_with(name), "{line}");
        assert!(line.contains(value), "{value}: {line}");
        assert!(!line.contains('\n') && line.len() < 400, "{line}");
    }
}

#[test]
fn the_lease_is_three_beats_unless_it_is_said() {
    assert_eq!(good(&[("HEARTBEAT_INTERVAL", "1")]).settings.ttl.seconds(), 3);
    assert_eq!(good(&[("HEARTBEAT_INTERVAL", "1200")]).settings.ttl.seconds(), 3600);
    let slow = good(&[("HEARTBEAT_INTERVAL", "1201"), ("SERVICE_TTL", "3600")]);
    assert_eq!(slow.settings.interval, Duration::from_secs(1201));
    for ttl in ["3", "3600"] {
        assert_eq!(good(&[("SERVICE_TTL", ttl)]).settings.ttl.seconds().to_string(), ttl);
    }
}

#[test]
fn registries_are_a_list() {
    let config = good(&[("REGISTRY_URL", " http://a:1 ,http://b/prefix/,")]);
    let urls: Vec<_> = config.registries.iter().map(url::Url::as_str).collect();
    assert_eq!(urls, ["http://a:1/", "http://b/prefix/"]);
}

#[test]
fn https_needs_a_build_with_tls() {
    let tls = cfg!(feature = "tls");
    assert_eq!(read(&[("REGISTRY_URL", "https://a")]).is_ok(), tls);
    assert_eq!(read(&[("SERVICE_SCHEME", "https")]).is_ok(), tls);
}

#[test]
fn metadata_is_a_list_of_pairs() {
    let config = good(&[("SERVICE_METADATA", " zone = b , note=a=b,, empty= ")]);
    let pairs: Vec<_> = config.settings.metadata.iter().collect();
    assert_eq!(pairs, [("empty", ""), ("note", "a=b"), ("zone", "b")]);
    let line = bad(&[("SERVICE_METADATA", "a=1,a=2")]);
    assert_eq!(line, "SERVICE_METADATA names 'a' twice: name it once");
}

#[test]
fn the_first_token_that_is_set_counts_and_may_come_from_a_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "from-a-file-0123456789").unwrap();
    let path = file.path().to_str().unwrap();
    let token = |variables: &[(&str, &str)]| {
        let token = good(variables).token.unwrap();
        token.expose_secret().to_owned()
    };
    assert_eq!(token(&[("REGISTRY_AUTH_TOKEN", "c"), ("REGISTRY_TOKEN", "a")]), "a");
    assert_eq!(token(&[("REGISTRY_AUTH_TOKEN", "c"), ("VERTICE_REGISTRY_TOKEN", "b")]), "b");
    assert_eq!(token(&[("REGISTRY_AUTH_TOKEN_FILE", path)]), "from-a-file-0123456789");
    assert_eq!(
        token(&[("REGISTRY_TOKEN_FILE", path), ("VERTICE_REGISTRY_TOKEN", "b")]),
        "from-a-file-0123456789"
    );
    let file = |variables: &[(&str, &str)]| good(variables).token_file;
    assert_eq!(file(&[("REGISTRY_AUTH_TOKEN_FILE", path)]).as_deref(), Some(path.as_ref()));
    assert_eq!(file(&[("REGISTRY_TOKEN", "a"), ("REGISTRY_AUTH_TOKEN_FILE", path)]), None);
    let both = bad(&[("REGISTRY_TOKEN", "a"), ("REGISTRY_TOKEN_FILE", path)]);
    assert_eq!(both, "REGISTRY_TOKEN and REGISTRY_TOKEN_FILE are both set: set one of them");
    let gone = bad(&[("REGISTRY_TOKEN_FILE", "/nowhere/token")]);
    assert!(gone.starts_with("REGISTRY_TOKEN_FILE is '/nowhere/token'"), "{gone}");
    let directory = tempfile::tempdir().unwrap();
    let line = bad(&[("REGISTRY_TOKEN_FILE", directory.path().to_str().unwrap())]);
    assert!(line.contains("directory where the file to mount is missing"), "{line}");
    let empty = tempfile::NamedTempFile::new().unwrap();
    let line = bad(&[("REGISTRY_TOKEN_FILE", empty.path().to_str().unwrap())]);
    assert!(line.contains("holds nothing"), "{line}");
}

#[test]
fn no_secret_is_ever_shown() {
    let secret = "canary-0123456789\u{7}";
    let lines = [
        bad(&[("REGISTRY_TOKEN", secret)]),
        bad(&[("REGISTRY_URL", "http://user:canary-0123456789@a")]),
        bad(&[("REGISTRY_URL", "http://user:canary-0123456789@a:port")]),
        format!("{:?}", good(&[("REGISTRY_TOKEN", "canary-0123456789")])),
    ];
    for line in lines {
        assert!(!line.contains("canary"), "{line}");
    }
}

#[test]
fn the_name_of_a_sidecar_is_known_before_its_address() {
    assert_eq!(good(&[]).name(), "osint/osint-host:8080");
    assert_eq!(good(&[("INSTANCE_ID", "one")]).name(), "osint/one");
    let auto = good(&[("SERVICE_HOST", "auto"), ("SERVICE_PORT", "81")]);
    assert_eq!(auto.host, Host::Auto);
    assert_eq!(auto.name(), "osint/auto:81");
}

proptest! {
    #[test]
    fn no_value_makes_it_panic(which in 0..NAMES.len(), value: String) {
        if let Err(line) = read(&[(NAMES[which], &value)]) {
            prop_assert!(!line.contains(char::is_control), "{line:?}");
        }
    }
}

#[cfg(feature = "tls")]
fn pair<'a>(cert: &'a str, key: &'a str) -> [(&'static str, &'a str); 2] {
    [("REGISTRY_CLIENT_CERT_FILE", cert), ("REGISTRY_CLIENT_KEY_FILE", key)]
}

#[cfg(feature = "tls")]
#[test]
fn files_of_tls_are_read_at_the_start_and_named_with_their_fault() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (ours, other) = (testkit::Ca::new().issue(&["a"]), testkit::Ca::new().issue(&["b"]));
    let (ca, cert) = (file("ca", testkit::Ca::new().pem()), file("cert", &ours.certificate));
    let (key, other_key, empty) = (file("key", &ours.key), file("other", &other.key), file("empty", ""));
    let cut = file("cut", &ours.certificate[..200]);
    let directory = dir.path().to_str().unwrap().to_owned();

    // Or the system's would be needed.
    let trusted = ("REGISTRY_CA_FILE", ca.as_str());
    let config = good(&[trusted, pair(&cert, &key)[0], pair(&cert, &key)[1]]);
    assert_eq!(config.registry_tls.ca.as_deref(), Some(std::path::Path::new(&ca)));
    assert!(config.registry_tls.client.is_some());

    for (settings, parts) in [
        (
            vec![("REGISTRY_CA_FILE", "/nowhere/ca.pem")],
            ["REGISTRY_CA_FILE is '/nowhere/ca.pem'", "mount the file"],
        ),
        (vec![("REGISTRY_CA_FILE", directory.as_str())], ["REGISTRY_CA_FILE", "cannot be read"]),
        (vec![("REGISTRY_CA_FILE", empty.as_str())], ["REGISTRY_CA_FILE", "holds no certificate in PEM"]),
        (vec![("REGISTRY_CA_FILE", key.as_str())], ["REGISTRY_CA_FILE", "holds no certificate in PEM"]),
        (vec![("REGISTRY_CA_FILE", cut.as_str())], ["REGISTRY_CA_FILE", "no good PEM"]),
        (vec![pair(&cert, &key)[0]], ["REGISTRY_CLIENT_CERT_FILE is", "REGISTRY_CLIENT_KEY_FILE is not set"]),
        (vec![pair(&cert, &key)[1]], ["REGISTRY_CLIENT_KEY_FILE is", "REGISTRY_CLIENT_CERT_FILE is not set"]),
        (
            pair(&cert, &cert).to_vec(),
            ["REGISTRY_CLIENT_KEY_FILE", "holds no unencrypted private key in PEM"],
        ),
        (pair(&empty, &key).to_vec(), ["REGISTRY_CLIENT_CERT_FILE", "holds no certificate in PEM"]),
        (pair(&cert, &other_key).to_vec(), ["REGISTRY_CLIENT_KEY_FILE", "which is not the key of"]),
    ] {
        let line = bad(&[&settings[..], &[trusted][..usize::from(settings.len() > 1)]].concat());
        assert!(parts.iter().all(|part| line.contains(part)) && !line.contains('\n'), "{settings:?}: {line}");
        assert!(!line.contains(ours.key.lines().nth(1).unwrap()), "{line}");
    }
}
