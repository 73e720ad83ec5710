use clap::{Command, FromArgMatches};

use super::*;

const GOOD_TOKEN: &str = "q7Jd0xWb52LmZr8K";

fn settings() -> Settings {
    Settings::default()
}

fn error(settings: &Settings) -> String {
    let error = settings.config().unwrap_err().to_string();
    assert!(!error.contains('\n'), "one line: {error}");
    error
}

#[test]
fn defaults_are_those_that_are_documented() {
    let config = settings().config().unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8888");
    assert_eq!(config.database_url.expose_secret(), "sqlite://registry.db");
    assert_eq!((config.default_ttl.seconds(), config.tick), (90, Duration::from_secs(1)));
    assert!(config.auth_token.is_none() && config.read_token.is_none());
    assert!(config.trusted_proxies.is_empty());
}

#[test]
fn bad_values_are_named_with_their_rule() {
    type Change = fn(&mut Settings);
    let cases: [(&str, Change); 14] = [
        ("REGISTRY_LISTEN", |s| s.listen = Some("127.0.0.1:70000".into())),
        ("REGISTRY_LISTEN", |s| s.listen = Some("8888".into())),
        ("REGISTRY_DEFAULT_TTL", |s| s.default_ttl = Some("2".into())),
        ("REGISTRY_DEFAULT_TTL", |s| s.default_ttl = Some("3601".into())),
        ("REGISTRY_TICK_MS", |s| s.tick_ms = Some("9".into())),
        ("REGISTRY_TRUSTED_PROXIES", |s| s.trusted_proxies = Some("10.0.0.0/33".into())),
        ("REGISTRY_ALLOW_ANONYMOUS", |s| s.allow_anonymous = Some("maybe".into())),
        ("DATABASE_URL", |s| s.database_url = Some("mysql://u:hidden-word@h/d".into())),
        ("DATABASE_LISTEN_URL", |s| s.database_listen_url = Some("sqlite://hidden-word".into())),
        ("REGISTRY_AUTH_TOKEN_FILE", |s| s.auth_token_file = Some("/does/not/exist".into())),
        ("REGISTRY_TOKEN_KEYS_FILE", |s| s.token_keys_file = Some("/does/not/exist".into())),
        ("REGISTRY_TOKEN_REVOKED_FILE", |s| s.token_revoked_file = Some("/does/not/exist".into())),
        ("REGISTRY_READS_CLOSED", |s| s.reads_closed = Some("maybe".into())),
        ("REGISTRY_READS_CLOSED", |s| s.reads_closed = Some("true".into())),
    ];
    for (name, change) in cases {
        let mut settings = settings();
        change(&mut settings);
        let error = error(&settings);
        assert!(error.starts_with(name), "{error}");
        assert!(!error.contains("hidden-word"), "a URL may hold a password: {error}");
    }
}

#[test]
fn a_node_that_others_can_reach_needs_a_token_or_a_word() {
    let reachable = Settings { listen: Some("0.0.0.0:8888".into()), ..settings() };
    assert!(error(&reachable).contains("REGISTRY_AUTH_TOKEN"));
    assert!(Settings { auth_token: Some(GOOD_TOKEN.into()), ..reachable.clone() }.config().is_ok());
    assert!(Settings { allow_anonymous: Some("true".into()), ..reachable.clone() }.config().is_ok());
    assert!(Settings { read_token: Some(GOOD_TOKEN.into()), ..reachable }.config().is_err());
}

#[test]
fn weak_tokens_are_refused_and_never_shown() {
    for weak in
        ["short", "fifteen-letters", "changeme-changeme", "aaaaaaaaaaaaaaaaaaaa", "with a space in it"]
    {
        let error = error(&Settings { auth_token: Some(weak.into()), ..settings() });
        assert!(error.starts_with("REGISTRY_AUTH_TOKEN ") && !error.contains(weak), "{error}");
    }
    assert!(Settings { auth_token: Some(GOOD_TOKEN[..16].into()), ..settings() }.config().is_ok());
}

#[test]
fn a_secret_comes_from_a_file_without_its_line_end_and_from_one_place_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, format!("{GOOD_TOKEN}\n")).unwrap();
    let file = Some(path.to_str().unwrap().to_owned());
    let config = Settings { auth_token_file: file.clone(), ..settings() }.config().unwrap();
    assert_eq!(config.auth_token.unwrap().expose_secret(), GOOD_TOKEN);
    let mounted_by_mistake = directory.path().to_str().map(str::to_owned);
    for (path, advice) in
        [(mounted_by_mistake, "Docker makes a directory"), (Some("/nowhere/token".into()), "make secrets")]
    {
        let line = error(&Settings { database_url_file: path, ..settings() });
        assert!(line.starts_with("DATABASE_URL_FILE: '/") && line.contains(advice), "{line}");
    }
    let both = Settings { auth_token_file: file.clone(), auth_token: Some(GOOD_TOKEN.into()), ..settings() };
    assert!(error(&both).contains("both set"));
    std::fs::write(&path, "\n").unwrap();
    assert!(error(&Settings { auth_token_file: file, ..settings() }).contains("is empty"));
}

#[test]
fn networks_hold_their_addresses() {
    let holds =
        |network: &str, address: &str| Network::parse(network).unwrap().contains(address.parse().unwrap());
    assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
    assert!(holds("10.0.0.1", "10.0.0.1") && !holds("10.0.0.1", "10.0.0.2"));
    assert!(holds("0.0.0.0/0", "192.0.2.1") && !holds("0.0.0.0/0", "2001:db8::1"));
    assert!(holds("10.0.0.0/8", "::ffff:10.0.0.1"));
    assert!(holds("fd00::/8", "fdff::1") && !holds("fd00::/8", "fe80::1"));
}

#[test]
fn secrets_do_not_show_when_settings_or_config_are_printed() {
    let settings = Settings {
        auth_token: Some(GOOD_TOKEN.into()),
        database_url: Some(format!("postgres://u:{GOOD_TOKEN}@h/d")),
        ..settings()
    };
    let printed = format!("{settings:?} {:?}", settings.config().unwrap());
    assert!(!printed.contains(GOOD_TOKEN), "{printed}");
}

#[test]
fn a_log_filter_names_levels() {
    let logging = |filter: &str| Settings { log: Some(filter.into()), ..settings() }.logging(true);
    for good in ["info", "WARN", "off", "info,registry=debug", "registry::flush=trace"] {
        assert_eq!(logging(good).unwrap().filter, good);
    }
    for bad in ["loud", "debgu", "info,registry", "registry=loud"] {
        assert!(logging(bad).unwrap_err().to_string().starts_with("REGISTRY_LOG "), "{bad}");
    }
    assert!(!settings().logging(true).unwrap().json && settings().logging(false).unwrap().json);
}

/// A setting: its variable, its flag, and the field that they set.
type Setting = (&'static str, &'static str, fn(&Settings) -> &Option<String>);

const SETTINGS: [Setting; 28] = [
    ("REGISTRY_LISTEN", "listen", |s| &s.listen),
    ("REGISTRY_TLS_CERT", "tls-cert", |s| &s.tls_cert),
    ("REGISTRY_TLS_KEY", "tls-key", |s| &s.tls_key),
    ("REGISTRY_TLS_CLIENT_CA", "tls-client-ca", |s| &s.tls_client_ca),
    ("DATABASE_URL", "database-url", |s| &s.database_url),
    ("DATABASE_URL_FILE", "database-url-file", |s| &s.database_url_file),
    ("DATABASE_LISTEN_URL", "database-listen-url", |s| &s.database_listen_url),
    ("REGISTRY_AUTH_TOKEN", "auth-token", |s| &s.auth_token),
    ("REGISTRY_AUTH_TOKEN_FILE", "auth-token-file", |s| &s.auth_token_file),
    ("REGISTRY_READ_TOKEN", "read-token", |s| &s.read_token),
    ("REGISTRY_READ_TOKEN_FILE", "read-token-file", |s| &s.read_token_file),
    ("REGISTRY_TOKEN_KEYS_FILE", "token-keys-file", |s| &s.token_keys_file),
    ("REGISTRY_TOKEN_REVOKED_FILE", "token-revoked-file", |s| &s.token_revoked_file),
    ("REGISTRY_READS_CLOSED", "reads-closed", |s| &s.reads_closed),
    ("REGISTRY_ALLOW_ANONYMOUS", "allow-anonymous", |s| &s.allow_anonymous),
    ("REGISTRY_NODE_ID", "node-id", |s| &s.node_id),
    ("REGISTRY_DEFAULT_TTL", "default-ttl", |s| &s.default_ttl),
    ("REGISTRY_TICK_MS", "tick-ms", |s| &s.tick_ms),
    ("REGISTRY_TRUSTED_PROXIES", "trusted-proxies", |s| &s.trusted_proxies),
    ("REGISTRY_MAX_INSTANCES", "max-instances", |s| &s.limits.max_instances),
    ("REGISTRY_MAX_SERVICES", "max-services", |s| &s.limits.max_services),
    ("REGISTRY_MAX_INSTANCES_PER_SERVICE", "max-instances-per-service", |s| {
        &s.limits.max_instances_per_service
    }),
    ("REGISTRY_MAX_CHANGES_PER_TOKEN", "max-changes-per-token", |s| &s.limits.max_changes_per_token),
    ("REGISTRY_MAX_CALLS_PER_ADDRESS", "max-calls-per-address", |s| &s.limits.max_calls_per_address),
    ("REGISTRY_MAX_CONNECTIONS", "max-connections", |s| &s.limits.max_connections),
    ("REGISTRY_MAX_CONNECTIONS_PER_ADDRESS", "max-connections-per-address", |s| {
        &s.limits.max_connections_per_address
    }),
    ("REGISTRY_LOG", "log", |s| &s.log),
    ("REGISTRY_LOG_FORMAT", "log-format", |s| &s.log_format),
];

#[test]
fn every_variable_is_also_a_flag_of_the_same_field() {
    let command = Settings::augment_args(Command::new("registry"));
    assert_eq!(command.get_arguments().count(), SETTINGS.len(), "the table above lists them all");
    for (variable, flag, field) in SETTINGS {
        // One argument has both names, so they set the same field.
        let argument = command.get_arguments().find(|argument| argument.get_long() == Some(flag));
        assert_eq!(argument.and_then(clap::Arg::get_env), Some(variable.as_ref()), "{flag}");
        // No variable of the tests' own environment takes part.
        let alone = command.clone().mut_args(|argument| argument.env(None::<&str>));
        let matches = alone.try_get_matches_from(["registry", &format!("--{flag}"), "value"]).unwrap();
        let settings = Settings::from_arg_matches(&matches).unwrap();
        for (_, other, get) in SETTINGS {
            let expected = (other == flag).then(|| "value".to_owned());
            assert_eq!(*get(&settings), expected, "--{flag} and {other}");
        }
        assert_eq!(field(&settings).as_deref(), Some("value"));
    }
}

#[test]
fn every_secret_may_come_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path.to_str().unwrap().to_owned())
    };
    let config = Settings {
        database_url_file: file("url", "postgres://u:p@h/d\n"),
        auth_token_file: file("write", &format!("{GOOD_TOKEN}-write\n")),
        read_token_file: file("read", &format!(" {GOOD_TOKEN}-read\r\n")),
        ..settings()
    };
    let config = config.config().unwrap();
    let exposed = |secret: Option<SecretString>| secret.unwrap().expose_secret().to_owned();
    assert_eq!(config.database_url.expose_secret(), "postgres://u:p@h/d");
    assert_eq!(exposed(config.auth_token), format!("{GOOD_TOKEN}-write"));
    assert_eq!(exposed(config.read_token), format!("{GOOD_TOKEN}-read"));
}

#[test]
fn a_node_without_a_name_gets_that_of_its_host_and_a_random_end() {
    let name = |settings: Settings| settings.config().unwrap().node_id;
    let (one, other) = (name(settings()), name(Settings { node_id: Some(String::new()), ..settings() }));
    assert_ne!(one, other);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for name in [one, other] {
        let (begin, end) = name.rsplit_once('-').unwrap();
        assert_eq!(begin, host.trim());
        assert!(
            end.len() == 6 && end.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()),
            "{name}"
        );
    }
    assert_eq!(name(Settings { node_id: Some("berlin-1".into()), ..settings() }), "berlin-1");
}

#[test]
fn each_limit_is_its_own_number() {
    let text = |number: u32| Some(number.to_string());
    let limits = LimitSettings {
        max_instances: text(1),
        max_services: text(2),
        max_instances_per_service: text(3),
        max_changes_per_token: text(4),
        max_calls_per_address: text(5),
        max_connections: text(6),
        max_connections_per_address: text(1_000_000_000),
    };
    let expected = Limits {
        instances: 1,
        services: 2,
        instances_per_service: 3,
        changes_per_token: 4,
        calls_per_address: 5,
        connections: 6,
        connections_per_address: 1_000_000_000,
    };
    assert_eq!(Settings { limits, ..settings() }.config().unwrap().limits, expected);
    assert_eq!(settings().config().unwrap().limits, Limits::default());
    for bad in ["0", "", "-1", "1000000001", "many", "1.5"] {
        let limits = LimitSettings { max_connections: Some(bad.into()), ..LimitSettings::default() };
        let error = Settings { limits, ..settings() }.config().unwrap_err().to_string();
        assert!(error.starts_with("REGISTRY_MAX_CONNECTIONS must be"), "{error}");
    }
}
