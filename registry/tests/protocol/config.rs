//! Bad configuration: one clear line on standard error, 64 or 69, never a panic.

use std::{fs, net::TcpListener, process::Command};

use crate::program::{Program, command};

/// Runs the program to its end. Returns its exit status and the one line that it left.
fn ends(arguments: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let dir = testkit::memory_dir();
    let mut command: Command = command(dir.path());
    // So that a setting that is taken by mistake does not keep the test waiting on a port that is not ours.
    command.env("REGISTRY_LISTEN", "127.0.0.1:0").env("REGISTRY_LOG", "error");
    let output = command.args(arguments).envs(settings.iter().copied());
    let output = Program::run_to_its_end(output);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.stdout.is_empty(), "{settings:?}: {}", String::from_utf8_lossy(&output.stdout));
    (output.status.code(), error)
}

#[track_caller]
fn one_line(error: &str, context: &str) {
    assert_eq!(error.lines().count(), 1, "{context}: {error}");
    assert!(error.starts_with("registry: ") && error.ends_with('\n'), "{context}: {error}");
    for bad in ["panicked", "backtrace", "RUST_BACKTRACE", "Err(", "unwrap"] {
        assert!(!error.contains(bad), "{context}: {error}");
    }
}

#[test]
fn settings_that_cannot_be_used_are_64() {
    let dir = testkit::memory_dir();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (empty, short, good) =
        (file("empty", " \n"), file("short", "short\n"), file("good", "9f8e7d6c5b4a32100123\n"));
    let missing = dir.path().join("missing").to_str().unwrap().to_owned();
    let long = "x".repeat(10_000);
    let key = "k 3d1f7c9a5be204688f0e1d2c3b4a59687766554433221100ffeeddccbbaa9988\n";
    let (keys, weak_key) = (file("keys", key), file("weak", &key[..60]));
    let (same_byte, phrase) =
        (file("same", &format!("k {}", "5a".repeat(32))), file("phrase", "k hidden-word-hidden-word"));
    let (two_ids, not_ids) = (file("two", &key.repeat(2)), file("ids", "hidden word\n"));
    let directory = dir.path().to_str().unwrap().to_owned();
    for (settings, named) in [
        ([("REGISTRY_LISTEN", "127.0.0.1:70000")].as_slice(), "REGISTRY_LISTEN"),
        (&[("REGISTRY_LISTEN", "localhost")], "REGISTRY_LISTEN"),
        (&[("REGISTRY_LISTEN", "")], "REGISTRY_LISTEN"),
        (&[("REGISTRY_LISTEN", "127.0.0.1:80\n80")], "REGISTRY_LISTEN"),
        (&[("REGISTRY_LISTEN", &long)], "REGISTRY_LISTEN"),
        // Whoever can reach it could write.
        (&[("REGISTRY_LISTEN", "0.0.0.0:0")], "REGISTRY_AUTH_TOKEN"),
        (&[("REGISTRY_LISTEN", "[::]:0")], "REGISTRY_AUTH_TOKEN"),
        (
            &[("REGISTRY_LISTEN", "192.0.2.1:0"), ("REGISTRY_READ_TOKEN", "9f8e7d6c5b4a3210")],
            "REGISTRY_AUTH_TOKEN",
        ),
        (&[("REGISTRY_LISTEN", "0.0.0.0:0"), ("REGISTRY_ALLOW_ANONYMOUS", "false")], "REGISTRY_AUTH_TOKEN"),
        (&[("REGISTRY_ALLOW_ANONYMOUS", "yes please")], "REGISTRY_ALLOW_ANONYMOUS"),
        (&[("REGISTRY_AUTH_TOKEN", "short")], "REGISTRY_AUTH_TOKEN"),
        (&[("REGISTRY_AUTH_TOKEN", "fifteen-chars-x")], "REGISTRY_AUTH_TOKEN"),
        (&[("REGISTRY_AUTH_TOKEN", "changemechangeme")], "REGISTRY_AUTH_TOKEN"),
        (&[("REGISTRY_AUTH_TOKEN", "aaaaaaaaaaaaaaaaaaaa")], "REGISTRY_AUTH_TOKEN"),
        (&[("REGISTRY_AUTH_TOKEN", "with spaces in the token")], "REGISTRY_AUTH_TOKEN"),
        (&[("REGISTRY_AUTH_TOKEN_FILE", &missing)], "REGISTRY_AUTH_TOKEN_FILE"),
        (&[("REGISTRY_AUTH_TOKEN_FILE", &empty)], "REGISTRY_AUTH_TOKEN_FILE"),
        (&[("REGISTRY_AUTH_TOKEN_FILE", &short)], "REGISTRY_AUTH_TOKEN"),
        (
            &[("REGISTRY_AUTH_TOKEN_FILE", &good), ("REGISTRY_AUTH_TOKEN", "9f8e7d6c5b4a3210")],
            "REGISTRY_AUTH_TOKEN_FILE",
        ),
        (&[("REGISTRY_READ_TOKEN", "short")], "REGISTRY_READ_TOKEN"),
        (&[("REGISTRY_READ_TOKEN_FILE", &missing)], "REGISTRY_READ_TOKEN_FILE"),
        (&[("REGISTRY_TOKEN_KEYS_FILE", &missing)], "REGISTRY_TOKEN_KEYS_FILE"),
        (&[("REGISTRY_TOKEN_KEYS_FILE", &directory)], "REGISTRY_TOKEN_KEYS_FILE"),
        (&[("REGISTRY_TOKEN_KEYS_FILE", &empty)], "REGISTRY_TOKEN_KEYS_FILE"),
        (&[("REGISTRY_TOKEN_KEYS_FILE", &weak_key)], "REGISTRY_TOKEN_KEYS_FILE"),
        (&[("REGISTRY_TOKEN_KEYS_FILE", &same_byte)], "REGISTRY_TOKEN_KEYS_FILE"),
        (&[("REGISTRY_TOKEN_KEYS_FILE", &phrase)], "REGISTRY_TOKEN_KEYS_FILE"),
        (&[("REGISTRY_TOKEN_KEYS_FILE", &two_ids)], "REGISTRY_TOKEN_KEYS_FILE"),
        (
            &[("REGISTRY_TOKEN_KEYS_FILE", &keys), ("REGISTRY_TOKEN_REVOKED_FILE", &missing)],
            "REGISTRY_TOKEN_REVOKED_FILE",
        ),
        (
            &[("REGISTRY_TOKEN_KEYS_FILE", &keys), ("REGISTRY_TOKEN_REVOKED_FILE", &not_ids)],
            "REGISTRY_TOKEN_REVOKED_FILE",
        ),
        (&[("REGISTRY_TOKEN_REVOKED_FILE", &empty)], "REGISTRY_TOKEN_KEYS_FILE"),
        (&[("REGISTRY_READS_CLOSED", "true")], "REGISTRY_READS_CLOSED"),
        (&[("REGISTRY_READS_CLOSED", "perhaps")], "REGISTRY_READS_CLOSED"),
        (&[("DATABASE_URL", "mysql://h/d")], "DATABASE_URL"),
        (&[("DATABASE_URL", "registry.db")], "DATABASE_URL"),
        (&[("DATABASE_URL", "postgres://u:hidden-word@h:x/d")], "DATABASE_URL"),
        (&[("DATABASE_URL", "sqlite:")], "DATABASE_URL"),
        (&[("DATABASE_URL_FILE", &missing)], "DATABASE_URL_FILE"),
        (&[("DATABASE_LISTEN_URL", "sqlite://x")], "DATABASE_LISTEN_URL"),
        (&[("REGISTRY_DEFAULT_TTL", "2")], "REGISTRY_DEFAULT_TTL"),
        (&[("REGISTRY_DEFAULT_TTL", "3601")], "REGISTRY_DEFAULT_TTL"),
        (&[("REGISTRY_DEFAULT_TTL", "1m")], "REGISTRY_DEFAULT_TTL"),
        (&[("REGISTRY_TICK_MS", "0")], "REGISTRY_TICK_MS"),
        (&[("REGISTRY_TICK_MS", "60001")], "REGISTRY_TICK_MS"),
        (&[("REGISTRY_TICK_MS", "fast")], "REGISTRY_TICK_MS"),
        (&[("REGISTRY_TRUSTED_PROXIES", "10.0.0.0/33")], "REGISTRY_TRUSTED_PROXIES"),
        (&[("REGISTRY_TRUSTED_PROXIES", "10.0.0.1,nginx")], "REGISTRY_TRUSTED_PROXIES"),
        (&[("REGISTRY_MAX_INSTANCES", "0")], "REGISTRY_MAX_INSTANCES"),
        (&[("REGISTRY_MAX_CHANGES_PER_TOKEN", "fast")], "REGISTRY_MAX_CHANGES_PER_TOKEN"),
        (&[("REGISTRY_MAX_CONNECTIONS", "1000000001")], "REGISTRY_MAX_CONNECTIONS"),
        (&[("REGISTRY_LOG", "registry=loud")], "REGISTRY_LOG"),
        (&[("REGISTRY_LOG_FORMAT", "xml")], "REGISTRY_LOG_FORMAT"),
    ] {
        let (status, error) = ends(&[], settings);
        let shown: Vec<_> =
            settings.iter().map(|(name, value)| (name, &value[..value.len().min(60)])).collect();
        assert_eq!(status, Some(64), "{shown:?}: {error}");
        one_line(&error, &format!("{shown:?}"));
        assert!(error.contains(named) && error.len() < 600, "{shown:?}: {error}");
        // What may be secret is not shown.
        for secret in ["hidden", "changemechangeme", "fifteen-chars-x", "9f8e7d6c", "3d1f7c9a"] {
            assert!(!error.contains(secret), "{error}");
        }
    }
    for arguments in
        [["--nonsense"].as_slice(), &["serve", "extra"], &["--tick-ms"], &["--listen", "nowhere"], &["reign"]]
    {
        let (status, error) = ends(arguments, &[]);
        assert_eq!(status, Some(64), "{arguments:?}: {error}");
        one_line(&error, &format!("{arguments:?}"));
    }
}

#[test]
fn files_of_tls_that_cannot_be_used_are_64() {
    let dir = testkit::memory_dir();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let missing = dir.path().join("missing").to_str().unwrap().to_owned();
    let (issued, other) = (testkit::Ca::new().issue(&["a"]), testkit::Ca::new().issue(&["b"]));
    let (certificate, key_of_it) = (file("node.pem", &issued.certificate), file("node.key", &issued.key));
    let other_key = file("other.key", &other.key);
    // A key of tokens is none of a certificate.
    let keys = file("keys", "k 3d1f7c9a5be204688f0e1d2c3b4a59687766554433221100ffeeddccbbaa9988\n");
    for (settings, named) in [
        ([("REGISTRY_TLS_CERT", keys.as_str())].as_slice(), "REGISTRY_TLS_KEY is not"),
        (&[("REGISTRY_TLS_KEY", &keys)], "REGISTRY_TLS_CERT is not"),
        (&[("REGISTRY_TLS_CLIENT_CA", &keys)], "REGISTRY_TLS_CERT is not"),
        (&[("REGISTRY_TLS_CERT", &missing), ("REGISTRY_TLS_KEY", &keys)], "REGISTRY_TLS_CERT"),
        (&[("REGISTRY_TLS_CERT", &certificate), ("REGISTRY_TLS_KEY", &missing)], "REGISTRY_TLS_KEY"),
        (&[("REGISTRY_TLS_CERT", &certificate), ("REGISTRY_TLS_KEY", &keys)], "REGISTRY_TLS_KEY"),
        (&[("REGISTRY_TLS_CERT", &certificate), ("REGISTRY_TLS_KEY", &other_key)], "REGISTRY_TLS_KEY"),
        (
            &[
                ("REGISTRY_TLS_CERT", &certificate),
                ("REGISTRY_TLS_KEY", &key_of_it),
                ("REGISTRY_TLS_CLIENT_CA", &keys),
            ],
            "REGISTRY_TLS_CLIENT_CA",
        ),
        // TLS tells nobody apart who may write.
        (
            &[
                ("REGISTRY_TLS_CERT", &certificate),
                ("REGISTRY_TLS_KEY", &key_of_it),
                ("REGISTRY_LISTEN", "0.0.0.0:0"),
            ],
            "REGISTRY_AUTH_TOKEN",
        ),
    ] {
        let (status, error) = ends(&[], settings);
        assert_eq!(status, Some(64), "{settings:?}: {error}");
        one_line(&error, &format!("{settings:?}"));
        assert!(error.contains(named) && error.len() < 600, "{settings:?}: {error}");
        for secret in ["3d1f7c9a", issued.key.lines().nth(1).unwrap()] {
            assert!(!error.contains(secret), "{error}");
        }
    }
}

#[test]
fn what_is_not_there_is_69() {
    let dir = testkit::memory_dir();
    let no_database = dir.path().join("text.db");
    fs::write(&no_database, "this is no database, but long enough to have a header. ".repeat(100)).unwrap();
    let no_database = no_database.to_str().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (name, value) in [
        ("REGISTRY_LISTEN", taken.as_str()),
        // Below a file, where nobody can write, root included; and where the kernel lets nobody.
        ("DATABASE_URL", &format!("sqlite://{no_database}/registry.db")),
        ("DATABASE_URL", "sqlite:///proc/registry.db"),
        ("DATABASE_URL", &format!("sqlite://{}/missing/registry.db", dir.path().display())),
        ("DATABASE_URL", &format!("sqlite://{}", dir.path().display())),
        ("DATABASE_URL", &format!("sqlite://{no_database}")),
    ] {
        let (status, error) = ends(&[], &[(name, value)]);
        assert_eq!(status, Some(69), "{name}={value}: {error}");
        one_line(&error, &format!("{name}={value}"));
    }
    assert!(fs::read_to_string(no_database).unwrap().starts_with("this is no database"), "left as it was");
}

#[tokio::test]
async fn a_second_process_on_the_same_file_is_69() {
    let dir = testkit::memory_dir();
    let url = format!("sqlite://{}/registry.db", dir.path().display());
    let first = Program::start(&[("DATABASE_URL", &url)]).await;
    let (status, error) = ends(&[], &[("DATABASE_URL", &url)]);
    assert_eq!(status, Some(69), "{error}");
    one_line(&error, &url);
    assert_eq!(first.get("/readyz").await.status, 200, "the first goes on");
    assert_eq!(first.terminate().await, Some(0));
    // Then there is room.
    let second = Program::start(&[("DATABASE_URL", &url)]).await;
    assert_eq!(second.terminate().await, Some(0));
}

/// Each variable beside the flag of the same meaning.
const SETTINGS: [(&str, &str); 28] = [
    ("REGISTRY_LISTEN", "--listen"),
    ("REGISTRY_TLS_CERT", "--tls-cert"),
    ("REGISTRY_TLS_KEY", "--tls-key"),
    ("REGISTRY_TLS_CLIENT_CA", "--tls-client-ca"),
    ("DATABASE_URL", "--database-url"),
    ("DATABASE_URL_FILE", "--database-url-file"),
    ("DATABASE_LISTEN_URL", "--database-listen-url"),
    ("REGISTRY_AUTH_TOKEN", "--auth-token"),
    ("REGISTRY_AUTH_TOKEN_FILE", "--auth-token-file"),
    ("REGISTRY_READ_TOKEN", "--read-token"),
    ("REGISTRY_READ_TOKEN_FILE", "--read-token-file"),
    ("REGISTRY_TOKEN_KEYS_FILE", "--token-keys-file"),
    ("REGISTRY_TOKEN_REVOKED_FILE", "--token-revoked-file"),
    ("REGISTRY_READS_CLOSED", "--reads-closed"),
    ("REGISTRY_ALLOW_ANONYMOUS", "--allow-anonymous"),
    ("REGISTRY_NODE_ID", "--node-id"),
    ("REGISTRY_DEFAULT_TTL", "--default-ttl"),
    ("REGISTRY_TICK_MS", "--tick-ms"),
    ("REGISTRY_TRUSTED_PROXIES", "--trusted-proxies"),
    ("REGISTRY_MAX_INSTANCES", "--max-instances"),
    ("REGISTRY_MAX_SERVICES", "--max-services"),
    ("REGISTRY_MAX_INSTANCES_PER_SERVICE", "--max-instances-per-service"),
    ("REGISTRY_MAX_CHANGES_PER_TOKEN", "--max-changes-per-token"),
    ("REGISTRY_MAX_CALLS_PER_ADDRESS", "--max-calls-per-address"),
    ("REGISTRY_MAX_CONNECTIONS", "--max-connections"),
    ("REGISTRY_MAX_CONNECTIONS_PER_ADDRESS", "--max-connections-per-address"),
    ("REGISTRY_LOG", "--log"),
    ("REGISTRY_LOG_FORMAT", "--log-format"),
];

#[test]
fn help_shows_every_setting_as_a_flag_and_as_a_variable() {
    let dir = testkit::memory_dir();
    let output = Program::run_to_its_end(command(dir.path()).args(["serve", "--help"]));
    let help = String::from_utf8(output.stdout).unwrap();
    for (variable, flag) in SETTINGS {
        assert!(help.contains(&format!("{flag} <")), "{flag}: {help}");
        assert!(help.contains(&format!("[env: {variable}")), "{variable}: {help}");
    }
    assert_eq!(help.matches("[env: ").count(), SETTINGS.len(), "the table above lists them all: {help}");
}

/// The same bad value, said in the same words.
#[test]
fn a_flag_means_what_its_variable_means() {
    for (variable, value) in [
        ("REGISTRY_LISTEN", "nowhere"),
        ("DATABASE_URL", "mysql://h/d"),
        ("DATABASE_URL_FILE", "/does/not/exist"),
        ("DATABASE_LISTEN_URL", "sqlite://x"),
        ("REGISTRY_AUTH_TOKEN", "short"),
        ("REGISTRY_AUTH_TOKEN_FILE", "/does/not/exist"),
        ("REGISTRY_READ_TOKEN", "short"),
        ("REGISTRY_READ_TOKEN_FILE", "/does/not/exist"),
        ("REGISTRY_ALLOW_ANONYMOUS", "perhaps"),
        ("REGISTRY_DEFAULT_TTL", "2"),
        ("REGISTRY_TICK_MS", "9"),
        ("REGISTRY_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("REGISTRY_MAX_SERVICES", "no"),
        ("REGISTRY_LOG", "loud"),
        ("REGISTRY_LOG_FORMAT", "xml"),
    ] {
        let (_, flag) = SETTINGS.into_iter().find(|(name, _)| *name == variable).unwrap();
        let by_variable = ends(&["serve"], &[(variable, value)]);
        assert_eq!(by_variable.0, Some(64), "{by_variable:?}");
        assert_eq!(ends(&["serve", flag, value], &[]), by_variable);
        assert_eq!(ends(&[&format!("{flag}={value}"), "serve"], &[]), by_variable, "before the command");
    }
}

#[tokio::test]
async fn secrets_are_read_from_files() {
    let dir = testkit::memory_dir();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let database = dir.path().join("named-by-a-file.db");
    let program = Program::start(&[
        ("DATABASE_URL_FILE", &file("url", &format!("sqlite://{}\n", database.display()))),
        ("REGISTRY_AUTH_TOKEN_FILE", &file("write", "write-9f8e7d6c5b4a3210\n")),
        ("REGISTRY_READ_TOKEN_FILE", &file("read", "read-0f1e2d3c4b5a6978\n")),
        ("REGISTRY_NODE_ID", "berlin-1"),
    ])
    .await;
    assert!(database.exists());
    assert_eq!(program.get("/health").await.ok()["node"], "berlin-1");
    for (method, path, token, status) in [
        ("GET", "/services", "", 401),
        ("GET", "/services", "read-0f1e2d3c4b5a6978", 200),
        ("DELETE", "/deregister/web", "read-0f1e2d3c4b5a6978", 403),
        ("DELETE", "/deregister/web", "write-9f8e7d6c5b4a3210", 404),
    ] {
        assert_eq!(program.with_token(method, path, token).await.status, status, "{method} {path} {token}");
    }
    assert_eq!(program.terminate().await, Some(0));
}

#[test]
fn help_and_version_are_no_errors() {
    let dir = testkit::memory_dir();
    for (arguments, part) in [
        (["--help"].as_slice(), "serve"),
        (&["serve", "--help"], "DATABASE_URL"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let output = Program::run_to_its_end(command(dir.path()).args(arguments));
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(String::from_utf8(output.stdout).unwrap().contains(part), "{arguments:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}");
    }
}
