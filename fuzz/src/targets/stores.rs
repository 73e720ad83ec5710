//! `DATABASE_URL`: what it means, and that no password gets into an error or a log.

use registry::store::StoreUrl;

use super::text;

/// Stands for a password in the corpus.
const SECRET: &str = "hunter2";

pub(super) fn run(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let parsed = text.parse::<StoreUrl>();
    let shown = match &parsed {
        Ok(url) => format!("{url:?}"),
        Err(error) => format!("{error} {error:?}"),
    };
    if is_password(text) {
        assert!(!shown.contains(SECRET), "{shown}");
    }
    match parsed {
        Ok(StoreUrl::Postgres(hosts)) => {
            assert!(text.starts_with("postgres"), "{text:?}");
            assert!((1..=4).contains(&hosts.options().len()), "{text:?}");
        }
        Ok(StoreUrl::Sqlite(options)) => {
            assert!(text.starts_with("sqlite:"), "{text:?}");
            assert!(!options.get_filename().as_os_str().is_empty(), "{text:?}");
        }
        Err(error) => assert!(error.to_string().contains("database URL"), "{error}"),
    }
}

/// Whether the marked text stands where a password does, and nowhere else: before the `@` of the hosts. The URL library
/// would make it of others too, of which it leaves characters out or decodes them.
fn is_password(text: &str) -> bool {
    text.starts_with("postgres")
        && text.matches(SECRET).count() == 1
        && text.contains(&format!(":{SECRET}@"))
        && !text.contains(|c: char| c.is_control() || c == '%')
}
