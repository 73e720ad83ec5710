use std::fmt;

use sqlx::postgres::PgConnectOptions;

use super::UrlError;

/// The most hosts: each is given a moment before the next is tried, within the deadline of one call.
const HOSTS_MAX: usize = 4;

/// The parameter of libpq that says which of several servers is meant.
const ATTRIBUTES: &str = "target_session_attrs";

/// One Postgres, at one or several addresses: a primary and its standbys, of which one at a time can be written.
#[derive(Clone)]
pub struct Hosts {
    options: Vec<PgConnectOptions>,
    writable: bool,
}

impl Hosts {
    /// Parses `postgres://user:password@host:port,host:port/database?…`, as libpq does.
    pub(super) fn parse(url: &str) -> Result<Self, UrlError> {
        let (start, rest) = url
            .split_once(':')
            .and_then(|(scheme, rest)| Some((&url[..=scheme.len()], rest.strip_prefix("//")?)))
            .ok_or_else(|| UrlError("the database URL must have '//' after its scheme".into()))?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        // Else a password would be taken for the name of a database, or for a parameter, and shown in logs.
        if tail.contains('@') {
            return Err(UrlError(
                "the database URL has an '@' behind its hosts: in a password write '/', '?' and '#' as %2F, %3F and %23, \
                 elsewhere '@' as %40"
                    .into(),
            ));
        }
        let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
        let at = if user.is_empty() { "" } else { "@" };
        let hosts: Vec<&str> = hosts.split(',').collect();
        if hosts.len() > HOSTS_MAX {
            return Err(UrlError(format!("the database URL names more than {HOSTS_MAX} hosts")));
        }
        if hosts.len() > 1 && hosts.iter().any(|host| host.is_empty()) {
            return Err(UrlError("the database URL names a host without a name".into()));
        }
        let (tail, attributes) = without_attributes(tail);
        let writable = match attributes.as_deref() {
            // A registry can do nothing with a server that cannot be written.
            None => hosts.len() > 1,
            Some("any") => false,
            Some("read-write" | "primary") => true,
            Some(_) => {
                return Err(UrlError(format!("the database URL: {ATTRIBUTES} must be read-write or any")));
            }
        };
        let parse = |host: &&str| {
            format!("{start}//{user}{at}{host}{tail}")
                .parse::<PgConnectOptions>()
                .map_err(|error| UrlError(format!("the database URL is not valid: {error}")))
        };
        Ok(Self { options: hosts.iter().map(parse).collect::<Result<_, _>>()?, writable })
    }

    /// How to connect to each, in the order given: one at least.
    pub fn options(&self) -> &[PgConnectOptions] {
        &self.options
    }

    /// Whether a server that can only be read is to be left for another.
    pub const fn writable(&self) -> bool {
        self.writable
    }

    /// The same, each changed.
    pub(in crate::store) fn map(&self, change: impl Fn(PgConnectOptions) -> PgConnectOptions) -> Self {
        Self { options: self.options.iter().cloned().map(change).collect(), writable: self.writable }
    }
}

/// Takes the parameter that sqlx does not know out of what follows the hosts.
fn without_attributes(tail: &str) -> (String, Option<String>) {
    let Some((path, query)) = tail.split_once('?') else { return (tail.to_owned(), None) };
    let mut attributes = None;
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| match pair.split_once('=') {
            Some((ATTRIBUTES, value)) => {
                attributes = Some(value.to_owned());
                false
            }
            _ => true,
        })
        .collect();
    (format!("{path}?{}", kept.join("&")), attributes)
}

impl fmt::Debug for Hosts {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, options) in self.options.iter().enumerate() {
            write!(f, "{}{}:{}", if place == 0 { "" } else { "," }, options.get_host(), options.get_port())?;
        }
        let database = self.options.first().and_then(PgConnectOptions::get_database);
        write!(f, "/{}", database.unwrap_or_default())
    }
}
