//! Settings: flags and environment variables in, checked values out, or one line that says what to change.

mod limits;
mod tls;

use std::{
    fmt, fs, io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use rand::{Rng, distr::Alphanumeric};
use registry_wire::Ttl;
use secrecy::{ExposeSecret, SecretString};
use tracing_subscriber::filter::{LevelFilter, Targets};

pub use self::limits::{LimitSettings, Limits};
use crate::{clock, tls::Tls, token::Verifier};

/// A setting that cannot be used. One line: which, what it is, what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// The settings as they were given. Each flag has an environment variable of the same meaning.
#[derive(Args, Clone, Default)]
pub struct Settings {
    /// Address and port to listen on [default: 127.0.0.1:8888]
    #[arg(long, env = "REGISTRY_LISTEN", value_name = "ADDRESS:PORT", global = true)]
    pub listen: Option<String>,
    /// File of the certificate in PEM for TLS on the port, and behind it those that lead to its CA; read again when it
    /// changes
    #[arg(long, env = "REGISTRY_TLS_CERT", value_name = "PATH", global = true)]
    pub tls_cert: Option<String>,
    /// File of the certificate's key in PEM, not encrypted; read again when it changes
    #[arg(long, env = "REGISTRY_TLS_KEY", value_name = "PATH", global = true)]
    pub tls_key: Option<String>,
    /// File of CAs in PEM: only clients with a certificate of theirs may connect; read again when it changes
    #[arg(long, env = "REGISTRY_TLS_CLIENT_CA", value_name = "PATH", global = true)]
    pub tls_client_ca: Option<String>,
    /// Where entries are kept: `sqlite://PATH` for one node, or `postgres://…` [default: `sqlite://registry.db`]
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true, global = true)]
    pub database_url: Option<String>,
    /// File that holds the database URL
    #[arg(long, env = "DATABASE_URL_FILE", value_name = "PATH", global = true)]
    pub database_url_file: Option<String>,
    /// A direct connection for LISTEN, where the database URL goes through a pooler [default: the database URL]
    #[arg(long, env = "DATABASE_LISTEN_URL", value_name = "URL", hide_env_values = true, global = true)]
    pub database_listen_url: Option<String>,
    /// Token that writes need, at least 16 characters
    #[arg(long, env = "REGISTRY_AUTH_TOKEN", value_name = "TOKEN", hide_env_values = true, global = true)]
    pub auth_token: Option<String>,
    /// File that holds the token that writes need
    #[arg(long, env = "REGISTRY_AUTH_TOKEN_FILE", value_name = "PATH", global = true)]
    pub auth_token_file: Option<String>,
    /// Token that reads need; without it reads are open
    #[arg(long, env = "REGISTRY_READ_TOKEN", value_name = "TOKEN", hide_env_values = true, global = true)]
    pub read_token: Option<String>,
    /// File that holds the token that reads need
    #[arg(long, env = "REGISTRY_READ_TOKEN_FILE", value_name = "PATH", global = true)]
    pub read_token_file: Option<String>,
    /// File that holds the keys of signed tokens (see registry token --help); read again when it changes
    #[arg(long, env = "REGISTRY_TOKEN_KEYS_FILE", value_name = "PATH", global = true)]
    pub token_keys_file: Option<String>,
    /// File that holds the ids of revoked tokens; read again when it changes
    #[arg(long, env = "REGISTRY_TOKEN_REVOKED_FILE", value_name = "PATH", global = true)]
    pub token_revoked_file: Option<String>,
    /// true: reads need a token although there is no read token
    #[arg(long, env = "REGISTRY_READS_CLOSED", value_name = "BOOL", global = true)]
    pub reads_closed: Option<String>,
    /// true: listen on a non-loopback address although writes need no token
    #[arg(long, env = "REGISTRY_ALLOW_ANONYMOUS", value_name = "BOOL", global = true)]
    pub allow_anonymous: Option<String>,
    /// Name of this node, for people [default: host name and a random suffix]
    #[arg(long, env = "REGISTRY_NODE_ID", value_name = "NAME", global = true)]
    pub node_id: Option<String>,
    /// Lease of a registration that names none, 3 to 3600 seconds [default: 90]
    #[arg(long, env = "REGISTRY_DEFAULT_TTL", value_name = "SECONDS", global = true)]
    pub default_ttl: Option<String>,
    /// How often beats are written and the logs read, 10 to 60000 milliseconds [default: 1000]
    #[arg(long, env = "REGISTRY_TICK_MS", value_name = "MS", global = true)]
    pub tick_ms: Option<String>,
    /// Addresses or networks whose X-Forwarded-For is believed, comma-separated
    #[arg(long, env = "REGISTRY_TRUSTED_PROXIES", value_name = "LIST", global = true)]
    pub trusted_proxies: Option<String>,
    /// The bounds on what clients may have it hold and do
    #[command(flatten)]
    pub limits: LimitSettings,
    /// error, warn, info, debug or trace; or a list such as info,registry=debug [default: info]
    #[arg(long, env = "REGISTRY_LOG", value_name = "FILTER", global = true)]
    pub log: Option<String>,
    /// text or json [default: text on a terminal, else json]
    #[arg(long, env = "REGISTRY_LOG_FORMAT", value_name = "FORMAT", global = true)]
    pub log_format: Option<String>,
}

/// The settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// TLS on the port; its files were read. `None`: plain HTTP.
    pub tls: Option<Arc<Tls>>,
    /// Where entries are kept.
    pub database_url: SecretString,
    /// A direct connection for LISTEN; the same as `database_url` when missing.
    pub database_listen_url: Option<SecretString>,
    /// The token that writes need.
    pub auth_token: Option<SecretString>,
    /// The token that reads need.
    pub read_token: Option<SecretString>,
    /// What says of signed tokens what they give; its files were read.
    pub signed_tokens: Option<Arc<Verifier>>,
    /// Reads need a token, whether or not there is a read token.
    pub reads_closed: bool,
    /// This node's name, for people.
    pub node_id: String,
    /// The lease of a registration that names none.
    pub default_ttl: Ttl,
    /// How often beats are written and the logs read.
    pub tick: Duration,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// What clients may have it hold and do.
    pub limits: Limits,
    /// Changes that may wait for their commit, in pieces of 1 KiB; more are refused with 429. No setting of users:
    /// 20,000 usual ones wait no longer than a call does.
    pub changes_waiting: usize,
}

/// How to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// What to log.
    pub filter: String,
    /// One JSON object a line; else text.
    pub json: bool,
}

/// An address, or a network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// Whether the address lies in it. An IPv4 address that is mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (u32::from(network) ^ u32::from(address)).checked_shr(32 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (u128::from(network) ^ u128::from(address)).checked_shr(128 - self.prefix).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= longest)?,
            None => longest,
        };
        Some(Self { address, prefix })
    }
}

impl fmt::Debug for Settings {
    /// Tokens and URLs with passwords stay out of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// See [`Config::changes_waiting`].
const CHANGES_WAITING: usize = 20_000;

/// Shortest token.
const TOKEN_MIN: usize = 16;

/// Parts of tokens that were copied from an example.
const WELL_KNOWN: [&str; 8] = [
    "changeme",
    "change-me",
    "change_me",
    "password",
    "secret-token",
    "your-token",
    "example-token",
    "0123456789abcdef",
];

impl Settings {
    /// Checks the settings.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let listen = self.listen()?;
        let auth_token =
            token("REGISTRY_AUTH_TOKEN", self.auth_token.as_ref(), self.auth_token_file.as_ref())?;
        let read_token =
            token("REGISTRY_READ_TOKEN", self.read_token.as_ref(), self.read_token_file.as_ref())?;
        let signed_tokens = self.signed_tokens()?;
        let reads_closed = flag("REGISTRY_READS_CLOSED", self.reads_closed.as_deref())?;
        if reads_closed && auth_token.is_none() && read_token.is_none() && signed_tokens.is_none() {
            return Err(ConfigError(
                "REGISTRY_READS_CLOSED is true, but no token is configured that could read: set \
                 REGISTRY_TOKEN_KEYS_FILE, REGISTRY_AUTH_TOKEN or REGISTRY_READ_TOKEN"
                    .into(),
            ));
        }
        let anonymous = flag("REGISTRY_ALLOW_ANONYMOUS", self.allow_anonymous.as_deref())?;
        let writes_open = auth_token.is_none() && signed_tokens.is_none();
        if writes_open && !listen.ip().to_canonical().is_loopback() && !anonymous {
            return Err(ConfigError(format!(
                "REGISTRY_LISTEN is {listen}, which others can reach, but there is no write token: set \
                 REGISTRY_AUTH_TOKEN, REGISTRY_AUTH_TOKEN_FILE or REGISTRY_TOKEN_KEYS_FILE, or \
                 REGISTRY_ALLOW_ANONYMOUS=true to let anyone write"
            )));
        }
        Ok(Config {
            listen,
            tls: self.tls()?,
            database_url: self.database_url()?,
            database_listen_url: self.database_listen_url()?,
            auth_token,
            read_token,
            signed_tokens,
            reads_closed,
            node_id: self.node_id.clone().filter(|id| !id.is_empty()).unwrap_or_else(random_node_id),
            default_ttl: self.default_ttl()?,
            tick: self.tick()?,
            trusted_proxies: self.trusted_proxies()?,
            limits: self.limits.limits()?,
            changes_waiting: CHANGES_WAITING,
        })
    }

    /// Where to listen.
    ///
    /// # Errors
    /// It is no address with a port.
    pub fn listen(&self) -> Result<SocketAddr, ConfigError> {
        let listen = self.listen.as_deref().unwrap_or("127.0.0.1:8888");
        let rule = "must be an address and a port of 0 to 65535, such as 127.0.0.1:8888";
        listen.parse().map_err(|_| bad("REGISTRY_LISTEN", listen, rule))
    }

    /// The file of the keys of signed tokens, where one is named.
    pub fn token_keys_path(&self) -> Option<&Path> {
        self.token_keys_file.as_deref().filter(|path| !path.is_empty()).map(Path::new)
    }

    /// The file of the ids of revoked tokens, where one is named.
    pub fn token_revoked_path(&self) -> Option<&Path> {
        self.token_revoked_file.as_deref().filter(|path| !path.is_empty()).map(Path::new)
    }

    fn signed_tokens(&self) -> Result<Option<Arc<Verifier>>, ConfigError> {
        let Some(keys) = self.token_keys_path() else {
            if self.token_revoked_path().is_some() {
                return Err(ConfigError(
                    "REGISTRY_TOKEN_REVOKED_FILE is set, but REGISTRY_TOKEN_KEYS_FILE is not: without keys no token \
                     can be revoked"
                        .into(),
                ));
            }
            return Ok(None);
        };
        let verifier = Verifier::open(keys, self.token_revoked_path());
        verifier.map(|verifier| Some(Arc::new(verifier))).map_err(|error| ConfigError(error.to_string()))
    }

    fn database_url(&self) -> Result<SecretString, ConfigError> {
        let url = secret("DATABASE_URL", self.database_url.as_ref(), self.database_url_file.as_ref())?
            .unwrap_or_else(|| SecretString::from("sqlite://registry.db"));
        if ["sqlite:", "postgres:", "postgresql:"]
            .iter()
            .any(|scheme| url.expose_secret().starts_with(scheme))
        {
            return Ok(url);
        }
        // The value may hold a password, so it is not shown.
        Err(ConfigError(
            "DATABASE_URL must have the form sqlite://PATH or postgres://USER@HOST/DATABASE".into(),
        ))
    }

    fn database_listen_url(&self) -> Result<Option<SecretString>, ConfigError> {
        let url = self.database_listen_url.as_ref().filter(|url| !url.is_empty());
        if url.is_some_and(|url| !url.starts_with("postgres:") && !url.starts_with("postgresql:")) {
            return Err(ConfigError(
                "DATABASE_LISTEN_URL must have the form postgres://USER@HOST/DATABASE".into(),
            ));
        }
        Ok(url.map(|url| SecretString::from(url.as_str())))
    }

    fn default_ttl(&self) -> Result<Ttl, ConfigError> {
        let Some(text) = self.default_ttl.as_deref() else {
            return Ok(Ttl::default());
        };
        let ttl = text.parse::<u64>().ok().and_then(|seconds| Ttl::try_from(seconds).ok());
        ttl.ok_or_else(|| bad("REGISTRY_DEFAULT_TTL", text, "must be 3 to 3600 whole seconds"))
    }

    fn tick(&self) -> Result<Duration, ConfigError> {
        let Some(text) = self.tick_ms.as_deref() else {
            return Ok(Duration::from_secs(1));
        };
        let millis = text.parse().ok().filter(|millis| (10..=60_000).contains(millis));
        millis
            .map(Duration::from_millis)
            .ok_or_else(|| bad("REGISTRY_TICK_MS", text, "must be 10 to 60000 whole milliseconds"))
    }

    fn trusted_proxies(&self) -> Result<Vec<Network>, ConfigError> {
        let list = self.trusted_proxies.as_deref().unwrap_or_default();
        list.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| {
                Network::parse(part).ok_or_else(|| {
                    bad("REGISTRY_TRUSTED_PROXIES", part, "must be addresses or networks such as 10.0.0.0/8")
                })
            })
            .collect()
    }

    /// Checks how to log; `terminal`: standard error is one.
    ///
    /// # Errors
    /// A filter or format that does not exist.
    pub fn logging(&self, terminal: bool) -> Result<Logging, ConfigError> {
        let filter = self.log.clone().filter(|filter| !filter.is_empty()).unwrap_or_else(|| "info".into());
        // A bare word that is no level would be taken for a target, and nothing else would be logged.
        let level = |part: &str| {
            part.rsplit('=').next().is_some_and(|word| word.trim().parse::<LevelFilter>().is_ok())
        };
        if !filter.split(',').all(level) || filter.parse::<Targets>().is_err() {
            let rule = "must be error, warn, info, debug or trace, or a list such as info,registry=debug";
            return Err(bad("REGISTRY_LOG", &filter, rule));
        }
        let json = match self.log_format.as_deref() {
            None | Some("") => !terminal,
            Some("text") => false,
            Some("json") => true,
            Some(other) => return Err(bad("REGISTRY_LOG_FORMAT", other, "must be text or json")),
        };
        Ok(Logging { filter, json })
    }
}

fn flag(name: &str, value: Option<&str>) -> Result<bool, ConfigError> {
    match value {
        None | Some("" | "false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(other) => Err(bad(name, other, "must be true or false")),
    }
}

fn bad(name: &str, value: &str, rule: &str) -> ConfigError {
    let value: String = value.chars().take(80).flat_map(char::escape_debug).collect();
    ConfigError(format!("{name} {rule}, but is '{value}'"))
}

/// A secret from a variable or from the file that another variable names.
fn secret(
    name: &str,
    value: Option<&String>,
    file: Option<&String>,
) -> Result<Option<SecretString>, ConfigError> {
    match (value.filter(|value| !value.is_empty()), file.filter(|file| !file.is_empty())) {
        (Some(_), Some(_)) => {
            Err(ConfigError(format!("{name} and {name}_FILE are both set; set one of them")))
        }
        (Some(value), None) => Ok(Some(value.clone().into())),
        (None, Some(path)) => {
            let text = fs::read_to_string(path).map_err(|error| {
                let advice = advice(&error);
                ConfigError(format!("{name}_FILE: '{path}' cannot be read: {error}{advice}"))
            })?;
            let text = text.trim();
            if text.is_empty() {
                return Err(ConfigError(format!("{name}_FILE: '{path}' is empty")));
            }
            Ok(Some(text.to_owned().into()))
        }
        (None, None) => Ok(None),
    }
}

/// What to do about a file that cannot be read, where the error alone does not say.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::IsADirectory => {
            "; Docker makes a directory where the file to mount is missing: remove it and make the file \
             (make secrets makes those of docker-compose.yml)"
        }
        io::ErrorKind::NotFound => "; mount the file there (make secrets makes those of docker-compose.yml)",
        io::ErrorKind::PermissionDenied => "; let the user of this process read it",
        _ => "",
    }
}

fn token(
    name: &str,
    value: Option<&String>,
    file: Option<&String>,
) -> Result<Option<SecretString>, ConfigError> {
    let Some(token) = secret(name, value, file)? else {
        return Ok(None);
    };
    let text = token.expose_secret();
    let rule = |rule: &str| Err(ConfigError(format!("{name} {rule} (make one with: openssl rand -hex 32)")));
    if text.chars().count() < TOKEN_MIN {
        return rule("must have at least 16 characters");
    }
    if !text.chars().all(|c| c.is_ascii_graphic()) {
        return rule("must be printable ASCII without spaces");
    }
    let lower = text.to_ascii_lowercase();
    let one_character = text.chars().all(|c| text.starts_with(c));
    if one_character || WELL_KNOWN.iter().any(|known| lower.contains(known)) {
        return rule("is a well-known value");
    }
    Ok(Some(token))
}

fn random_node_id() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "node" } else { host.trim() };
    let suffix: String = clock::rng().sample_iter(&Alphanumeric).take(6).map(char::from).collect();
    format!("{host}-{}", suffix.to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
