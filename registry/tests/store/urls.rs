use registry::store::{Store, StoreError, StoreUrl};

#[test]
fn postgres_and_sqlite_are_told_apart() {
    for url in ["postgres://u:p@h:5433/d", "postgresql://h/d", "postgres://"] {
        assert!(matches!(url.parse(), Ok(StoreUrl::Postgres(_))), "{url}");
    }
    for (url, hosts) in [
        ("postgres://u:p@a:5433,b/d", "a:5433,b:5432/d"),
        ("postgresql://a,[::1]:7/d?sslmode=disable&target_session_attrs=primary", "a:5432,[::1]:7/d"),
        ("postgres://a/d?target_session_attrs=any&application_name=x", "a:5432/d"),
    ] {
        assert_eq!(format!("{:?}", url.parse::<StoreUrl>().expect(url)), format!("Postgres({hosts})"));
    }
    for (url, writable) in [
        ("postgres://a/d", false),
        ("postgres://a/d?target_session_attrs=read-write", true),
        ("postgres://a,b/d", true),
        ("postgres://a,b/d?target_session_attrs=any", false),
    ] {
        let Ok(StoreUrl::Postgres(hosts)) = url.parse() else { panic!("{url}") };
        assert_eq!(hosts.writable(), writable, "{url}");
    }
    for (url, file) in [
        ("sqlite://registry.db", "registry.db"),
        ("sqlite:///var/lib/r.db", "/var/lib/r.db"),
        ("sqlite:r.db", "r.db"),
    ] {
        let Ok(StoreUrl::Sqlite(options)) = url.parse() else { panic!("{url}") };
        assert_eq!(options.get_filename().to_str(), Some(file), "{url}");
    }
}

#[tokio::test]
async fn what_is_no_store_is_refused_without_telling_the_password() {
    let wrong = [
        "",
        "registry.db",
        "mysql://root:hunter2@h/d",
        "hunter2:x",
        "postgres://u:hunter2@h:70000/d",
        "postgres://u:hunter2@h:port/d",
        "postgres://u:hunter2@h/d?sslmode=perhaps",
        "postgres://u:hunter2@a,/d",
        "postgres://u:hunter2@a,b,c,d,e/d",
        "postgres://u:hunter2@a,b:port/d",
        "postgres://u:hunter2@a,b/d?target_session_attrs=standby",
        // A slip that would make the password the name of a database, or a parameter, which logs show.
        "postgres:u:hunter2@h/d",
        "postgres:://u:hunter2@h/d",
        "postgres://u:1/hunter2@h/d",
        "postgres://u:1?hunter2@h/d",
        "postgres://u:1#hunter2@h/d",
        "sqlite://",
        "sqlite:",
        "sqlite::memory:",
        "sqlite://sqlite://",
        "sqlite://sqlite::memory:",
        "sqlite://x.db?mode=memory",
    ];
    for url in wrong {
        let error = url.parse::<StoreUrl>().expect_err(url);
        assert!(error.to_string().starts_with("the database URL"), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let Err(StoreError::Unusable(text)) = Store::open(url).await else { panic!("{url}") };
        assert_eq!(text, error.to_string());
    }
}

#[test]
fn debug_output_holds_no_password() {
    let url: StoreUrl = "postgres://u:hunter2@h:5433/d".parse().expect("valid");
    assert_eq!(format!("{url:?}"), "Postgres(h:5433/d)");
}

#[tokio::test]
async fn an_opened_store_does_not_show_its_password() {
    let store = Store::open("postgres://u:hunter2@127.0.0.1:1/d").await.expect("no I/O");
    assert!(!format!("{store:?}").contains("hunter2"));
    let error = store.migrate().await.expect_err("nobody listens there");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}
