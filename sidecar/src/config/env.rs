//! The environment variables.

use std::{
    collections::BTreeSet, env, ffi::OsString, fmt::Display, fs, io, ops::RangeInclusive, path::PathBuf,
    str::FromStr, time::Duration,
};

use registry_wire::{Endpoint, FieldError, Metadata, Output, Ttl, limits};
use secrecy::SecretString;
use url::Url;

use super::{Config, ConfigError, DEFAULT_PORT, DEFAULT_REGISTRY_URL, Scheme};
use crate::{
    address::{Address, Host},
    client,
    machine::Settings,
    tls::TlsFiles,
};

/// What the values to be replaced in a template begin with. As a name or a host it would be valid, so it is refused
/// before anything else looks at it.
const PLACEHOLDER: &str = "CHANGE_ME";

/// Variables by name. A variable that is set and empty counts as not set: that is what `${X:-}` in a compose file
/// leaves.
pub struct Source<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl<'a> Source<'a> {
    /// Variables from anywhere.
    pub fn new(variables: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self(variables)
    }

    /// A variable's text.
    ///
    /// # Errors
    /// It is not UTF-8, or what a template holds until it is filled in.
    pub fn text(&self, name: &str) -> Result<Option<String>, ConfigError> {
        let Some(value) = (self.0)(name).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let Ok(text) = value.into_string() else {
            return Err(ConfigError::new(format!("{name} is not UTF-8: write it anew")));
        };
        if text.trim_start().starts_with(PLACEHOLDER) {
            // Not the value: it may be a token by now.
            return Err(ConfigError::new(format!(
                "{name} still begins with {PLACEHOLDER}, as in the template: replace it with the value for your service"
            )));
        }
        Ok(Some(text))
    }

    fn required(&self, name: &str, example: &str) -> Result<String, ConfigError> {
        self.text(name)?.ok_or_else(|| {
            ConfigError::new(format!("{name} is not set: set it, for example {name}={example}"))
        })
    }

    /// A whole number in a range.
    fn number<T>(&self, name: &str, default: T, range: RangeInclusive<T>) -> Result<T, ConfigError>
    where
        T: FromStr + PartialOrd + Display + Copy,
    {
        let Some(text) = self.text(name)? else {
            return Ok(default);
        };
        text.trim().parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            wrong(name, &text, format!("a whole number from {low} to {high}"))
        })
    }

    fn seconds(&self, name: &str, default: u32, range: RangeInclusive<u32>) -> Result<Duration, ConfigError> {
        let seconds = self.number(name, default, range)?;
        Ok(Duration::from_secs(u64::from(seconds)))
    }

    fn parsed<T: FromStr<Err = FieldError>>(&self, name: &str) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|error: FieldError| {
            ConfigError::new(format!("{name} is '{}': it {}", shown(&text), error.rule()))
        })
    }

    /// The token, from the first variable that is set, and the file that it came from.
    fn token(&self) -> Result<(Option<SecretString>, Option<PathBuf>), ConfigError> {
        for name in ["REGISTRY_TOKEN", "VERTICE_REGISTRY_TOKEN", "REGISTRY_AUTH_TOKEN"] {
            let file_name = format!("{name}_FILE");
            let (origin, token, file) = match (self.text(name)?, self.text(&file_name)?) {
                (Some(_), Some(_)) => {
                    return Err(ConfigError::new(format!(
                        "{name} and {file_name} are both set: set one of them"
                    )));
                }
                (Some(token), None) => (name.to_owned(), token, None),
                (None, Some(path)) => {
                    let read = fs::read_to_string(&path).map_err(|error| {
                        let (path, advice) = (shown(&path), advice(&error));
                        ConfigError::new(format!(
                            "{file_name} is '{path}', which cannot be read: {error}{advice}"
                        ))
                    })?;
                    (file_name, read, Some(PathBuf::from(path)))
                }
                (None, None) => continue,
            };
            // Its value stays unsaid.
            let token = SecretString::from(token.trim().to_owned());
            let empty = secrecy::ExposeSecret::expose_secret(&token).is_empty();
            if empty || client::bearer(&token).is_none() {
                return Err(ConfigError::new(format!(
                    "{origin} holds {}: give it a token of printable ASCII characters",
                    if empty { "nothing" } else { "characters that no token has" }
                )));
            }
            return Ok((Some(token), file));
        }
        Ok((None, None))
    }

    /// The files of TLS towards registries, each of which was read once.
    fn registry_tls(&self) -> Result<TlsFiles, ConfigError> {
        const CERT: &str = "REGISTRY_CLIENT_CERT_FILE";
        const KEY: &str = "REGISTRY_CLIENT_KEY_FILE";
        let lacking = |name: &str, path: &str, lacks: &str| {
            ConfigError::new(format!("{name} is '{}', but {lacks} is not set: set both", shown(path)))
        };
        let client = match (self.text(CERT)?, self.text(KEY)?) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (Some(certificate), None) => return Err(lacking(CERT, &certificate, KEY)),
            (None, Some(key)) => return Err(lacking(KEY, &key, CERT)),
            (None, None) => None,
        };
        let files = TlsFiles { ca: self.text("REGISTRY_CA_FILE")?.map(PathBuf::from), client };
        files.check().map_err(|reason| ConfigError::new(reason.trim_start_matches("TLS: ")))?;
        Ok(files)
    }

    fn metadata(&self) -> Result<Metadata, ConfigError> {
        const NAME: &str = "SERVICE_METADATA";
        let mut metadata = Metadata::default();
        let Some(text) = self.text(NAME)? else {
            return Ok(metadata);
        };
        let mut keys = BTreeSet::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(wrong(NAME, pair, "key=value pairs with commas between"));
            };
            let (key, value) = (key.trim(), value.trim());
            if !keys.insert(key) {
                return Err(ConfigError::new(format!("{NAME} names '{}' twice: name it once", shown(key))));
            }
            metadata.insert(key, value).map_err(|error| {
                ConfigError::new(format!("{NAME} is wrong at '{}': {error}", shown(pair)))
            })?;
        }
        Ok(metadata)
    }

    fn registries(&self) -> Result<Vec<Url>, ConfigError> {
        const NAME: &str = "REGISTRY_URL";
        let text = self.text(NAME)?.unwrap_or_else(|| DEFAULT_REGISTRY_URL.to_owned());
        let urls: Vec<_> = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| registry_url(NAME, part))
            .collect::<Result<_, _>>()?;
        if urls.is_empty() {
            return Err(wrong(NAME, &text, "one or more URLs with commas between"));
        }
        Ok(urls)
    }
}

impl Config {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// The first variable that is missing or wrong.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_source(&Source(&|name: &str| env::var_os(name)))
    }

    /// Reads variables from anywhere.
    ///
    /// # Errors
    /// The first variable that is missing or wrong.
    pub fn from_source(source: &Source<'_>) -> Result<Self, ConfigError> {
        let _: String = source.required("SERVICE_NAME", "osint_service")?;
        let _: String = source.required("SERVICE_HOST", "osint-service")?;
        let missing = |name| ConfigError::new(format!("{name} is not set: set it"));
        let service = source.parsed("SERVICE_NAME")?.ok_or_else(|| missing("SERVICE_NAME"))?;
        let host = match source.text("SERVICE_HOST")?.ok_or_else(|| missing("SERVICE_HOST"))? {
            auto if auto == "auto" => Host::Auto,
            name => Host::Named(name),
        };
        let (token, token_file) = source.token()?;
        let config = Self {
            service,
            host,
            port: source.number("SERVICE_PORT", DEFAULT_PORT, 1..=u16::MAX)?,
            scheme: scheme(source)?,
            health_endpoint: source.parsed("SERVICE_HEALTH_ENDPOINT")?.unwrap_or_default(),
            instance: source.parsed("INSTANCE_ID")?,
            registries: source.registries()?,
            token,
            token_file,
            registry_tls: source.registry_tls()?,
            settings: settings(source)?,
            listen: listen(source)?,
        };
        config.check_address()?;
        Ok(config)
    }

    /// Puts the address together once, so that a host which makes no endpoint is refused at start.
    fn check_address(&self) -> Result<(), ConfigError> {
        let Host::Named(host) = &self.host else {
            return Ok(());
        };
        let (scheme, path) = (self.scheme.as_str(), &self.health_endpoint);
        match Address::new(scheme, host, self.port, path, self.instance.as_ref()) {
            Ok(_) => Ok(()),
            Err(error) if error.field() == "instance_id" => Err(ConfigError::new(format!(
                "SERVICE_HOST is '{}', which makes no instance id: set INSTANCE_ID",
                shown(host)
            ))),
            Err(error) if error.field() == "health_endpoint" => Err(ConfigError::new(format!(
                "SERVICE_HEALTH_ENDPOINT is '{}': it {}",
                shown(path.as_str()),
                error.rule()
            ))),
            Err(error) => Err(ConfigError::new(format!(
                "SERVICE_HOST is '{}', but the endpoint {}: set a host name or an IP address",
                shown(host),
                error.rule()
            ))),
        }
    }
}

fn settings(source: &Source<'_>) -> Result<Settings, ConfigError> {
    let beat =
        source.number("HEARTBEAT_INTERVAL", limits::DEFAULT_HEARTBEAT_INTERVAL, 1..=limits::TTL_MAX)?;
    let asked = source.text("SERVICE_TTL")?.is_some();
    let ttl =
        if asked { source.number("SERVICE_TTL", 0, limits::TTL_MIN..=limits::TTL_MAX)? } else { beat * 3 };
    let ttl = Ttl::try_from(u64::from(ttl)).map_err(|_| {
        ConfigError::new(format!(
            "HEARTBEAT_INTERVAL is {beat}, which makes a lease of {ttl} s, but the longest is {} s: beat more often, or \
             set SERVICE_TTL",
            limits::TTL_MAX
        ))
    })?;
    Ok(Settings {
        interval: Duration::from_secs(u64::from(beat)),
        ttl,
        initial_wait: source.seconds("INITIAL_WAIT_TIMEOUT", 60, 0..=86_400)?,
        health_interval: source.seconds("HEALTH_INTERVAL", 10, 1..=3_600)?,
        health_failures: source.number("HEALTH_FAILURES", 3, 1..=1_000)?,
        drain: source.seconds("DRAIN_SECONDS", 0, 0..=3_600)?,
        registries: 1,
        metadata: source.metadata()?,
    })
}

fn scheme(source: &Source<'_>) -> Result<Scheme, ConfigError> {
    const NAME: &str = "SERVICE_SCHEME";
    match source.text(NAME)?.as_deref() {
        None | Some("http") => Ok(Scheme::Http),
        Some("https") if cfg!(feature = "tls") => Ok(Scheme::Https),
        Some("https") => Err(no_tls(NAME)),
        Some(other) => Err(wrong(NAME, other, "http or https")),
    }
}

fn listen(source: &Source<'_>) -> Result<Option<std::net::SocketAddr>, ConfigError> {
    const NAME: &str = "SIDECAR_LISTEN";
    let Some(text) = source.text(NAME)? else {
        return Ok(None);
    };
    let address = text.trim().parse();
    address.map(Some).map_err(|_| wrong(NAME, &text, "an address with a port, for example 127.0.0.1:9901"))
}

fn registry_url(name: &str, text: &str) -> Result<Url, ConfigError> {
    // Never the text itself while it may hold a password.
    if text.contains('@') {
        return Err(ConfigError::new(format!(
            "{name} holds a user name or password: take it out and set REGISTRY_TOKEN"
        )));
    }
    // A registry is an endpoint like any other, and the same rule holds.
    let endpoint: Endpoint = text.parse().map_err(|error: FieldError| {
        ConfigError::new(format!("{name} is '{}': it {}", shown(text), error.rule()))
    })?;
    let url = Url::parse(endpoint.as_str()).map_err(|_| wrong(name, text, "an http or https URL"))?;
    if url.query().is_some() {
        return Err(wrong(name, text, "a URL without '?'"));
    }
    if url.scheme() == "https" && !cfg!(feature = "tls") {
        return Err(no_tls(name));
    }
    Ok(url)
}

fn no_tls(name: &str) -> ConfigError {
    ConfigError::new(format!(
        "{name} asks for https, but this sidecar was built without TLS: use http, or a build with TLS"
    ))
}

/// What to do about a file that cannot be read, where the error alone does not say.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::IsADirectory => {
            "; Docker makes a directory where the file to mount is missing: remove it and put the file there"
        }
        io::ErrorKind::NotFound => "; mount the file there",
        io::ErrorKind::PermissionDenied => "; let the user of this process read it",
        _ => "",
    }
}

fn wrong(name: &str, was: &str, want: impl Display) -> ConfigError {
    ConfigError::new(format!("{name} is '{}': set {want}", shown(was)))
}

/// A value as it may stand on one line.
fn shown(text: &str) -> String {
    Output::fit(text).as_str().to_owned()
}
