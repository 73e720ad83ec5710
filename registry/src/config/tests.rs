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
    let cases: [(&str, Change); 10] = [
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
