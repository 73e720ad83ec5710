mod hosts;

use std::{fmt, str::FromStr};

use sqlx::sqlite::SqliteConnectOptions;

pub use self::hosts::Hosts;

/// Where a store is, as `DATABASE_URL` says it.
#[derive(Clone)]
pub enum StoreUrl {
    /// `postgres://…` or `postgresql://…`, of one or several hosts.
    Postgres(Hosts),
    /// `sqlite://path`, or `sqlite:path`.
    Sqlite(Box<SqliteConnectOptions>),
}

/// A URL that names no store. Its text holds neither the URL nor a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(String);

impl FromStr for StoreUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        const EXPECTED: &str = "must be postgres://user@host/database or sqlite://path";
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err(UrlError(format!("the database URL {EXPECTED}")));
        };
        let invalid = |error: sqlx::Error| UrlError(format!("the database URL is not valid: {error}"));
        match scheme {
            "postgres" | "postgresql" => Ok(Self::Postgres(Hosts::parse(url)?)),
            "sqlite" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                // A scheme that stands twice would be taken off twice, and what is left name no file, or memory.
                if path.is_empty() || path.starts_with('?') || path.starts_with("sqlite:") {
                    return Err(UrlError("the database URL names no file: sqlite://path".into()));
                }
                if path.starts_with(":memory:") || path.contains("mode=memory") {
                    return Err(UrlError(
                        "the database URL must name a file: what is only in memory is lost at a restart"
                            .into(),
                    ));
                }
                Ok(Self::Sqlite(Box::new(url.parse().map_err(invalid)?)))
            }
            _ => {
                // A password may stand where a scheme should be.
                let plain =
                    scheme.len() <= 16 && scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+');
                let seen = if plain && rest.starts_with("//") {
                    format!(", not {scheme}://")
                } else {
                    String::new()
                };
                Err(UrlError(format!("the database URL {EXPECTED}{seen}")))
            }
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(hosts) => write!(f, "Postgres({hosts:?})"),
            Self::Sqlite(options) => write!(f, "Sqlite({})", options.get_filename().display()),
        }
    }
}
