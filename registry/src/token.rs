//! Signed tokens: who may do what with which services, until when.
//!
//! A leaf that knows no stage: `http` asks it about the token of a call, the command line makes tokens with it. A token
//! is a JSON Web Token (RFC 7519) under HMAC-SHA-256; `docs/adr/0005-signed-tokens.md` says why.

mod hmac;
mod keys;
mod revoked;
mod span;
mod verifier;

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

pub use self::{
    keys::{KeyError, Keys, add_key, unchecked},
    revoked::{Revoked, revoke},
    span::{parse_span, utc},
    verifier::{Known, Rejection, Verifier, digest},
};

/// How long after its expiry a token is still taken, for clocks that differ a little. Seconds.
pub const LEEWAY: u64 = 60;

/// How long after its expiry a token is still taken for a heartbeat. Seconds.
///
/// A heartbeat keeps alive what a good token has registered, and makes nothing new. A node whose clock is an hour ahead,
/// or a token that nobody has replaced over night, must not take living services out of the lists.
pub const BEAT_LEEWAY: u64 = 24 * 3600;

/// The longest token that is looked at, in bytes.
pub const TOKEN_MAX: usize = 4096;

/// The longest a token may be made for: ten years, in seconds.
pub const SPAN_MAX: u64 = 3650 * 24 * 3600;

/// Patterns in one right of a token.
pub const PATTERNS_MAX: usize = 32;

/// Whom tokens are for: the registry, so that a key that is used elsewhere too opens nothing here.
const AUDIENCE: &str = "vertice-registry";

/// What a token may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// To register, beat, deregister, and drain as a service does itself.
    Register,
    /// To read, where reads need a token.
    Read,
    /// Both, and to drain as an operator.
    Admin,
}

impl Right {
    /// The word in a token and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

/// Services by name: `orders` is that one, `orders*` each that begins so, `*` all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Whether a service is meant; `None` stands for all there are.
    fn takes(&self, service: Option<&str>) -> bool {
        match (self.0.strip_suffix('*'), service) {
            (Some(begin), Some(service)) => service.starts_with(begin),
            (Some(begin), None) => begin.is_empty(),
            (None, service) => service == Some(&*self.0),
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let begin = text.strip_suffix('*').unwrap_or(&text);
        if text == "*" || begin.parse::<registry_wire::ServiceName>().is_ok() {
            return Ok(Self(text.into()));
        }
        let shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
        Err(format!(
            "'{shown}' is neither a service's name, nor the beginning of one with '*' at its end, nor '*'"
        ))
    }
}

impl std::str::FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0.into()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A word that goes into logs and into the log of changes: 1 to 64 characters `[A-Za-z0-9][A-Za-z0-9._:/-]*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Word(Arc<str>);

impl Word {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl TryFrom<String> for Word {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let inner = |c: char| c.is_ascii_alphanumeric() || "._:/-".contains(c);
        if (1..=64).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(inner)
        {
            return Ok(Self(text.into()));
        }
        Err("must have 1 to 64 characters of A-Z, a-z, 0-9, '.', '_', ':', '/' and '-', the first a letter or digit"
            .into())
    }
}

impl std::str::FromStr for Word {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

impl From<Word> for String {
    fn from(word: Word) -> Self {
        word.as_str().into()
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    aud: String,
    /// Who holds it, for people.
    pub sub: Word,
    /// Its id: by this it is revoked.
    pub jti: Word,
    /// When it was made, in Unix seconds. For people.
    pub iat: u64,
    /// When it expires, in Unix seconds.
    pub exp: u64,
    /// Services that it may register.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub register: Vec<Pattern>,
    /// Services that it may read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read: Vec<Pattern>,
    /// Services that it may do everything with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admin: Vec<Pattern>,
}

impl Claims {
    /// What a token without a right says; `now` and `exp` in Unix seconds.
    pub fn new(sub: Word, jti: Word, now: u64, exp: u64) -> Self {
        let none = Vec::new;
        Self { aud: AUDIENCE.into(), sub, jti, iat: now, exp, register: none(), read: none(), admin: none() }
    }

    fn patterns(&self, right: Right) -> &[Pattern] {
        match right {
            Right::Register => &self.register,
            Right::Read => &self.read,
            Right::Admin => &self.admin,
        }
    }

    /// Whether it gives a right for a service; `None` stands for all there are.
    pub fn may(&self, right: Right, service: Option<&str>) -> bool {
        self.patterns(right).iter().chain(&self.admin).any(|pattern| pattern.takes(service))
    }

    /// Whether it gives a right for any service at all.
    pub fn may_somewhere(&self, right: Right) -> bool {
        !self.patterns(right).is_empty() || !self.admin.is_empty()
    }

    /// Its rights in words, such as `register orders*, billing; read *`.
    pub fn rights(&self) -> String {
        let part = |right: Right| {
            let patterns: Vec<_> = self.patterns(right).iter().map(Pattern::to_string).collect();
            (!patterns.is_empty()).then(|| format!("{} {}", right.as_str(), patterns.join(", ")))
        };
        let parts: Vec<_> =
            [Right::Register, Right::Read, Right::Admin].into_iter().filter_map(part).collect();
        if parts.is_empty() { "none".into() } else { parts.join("; ") }
    }
}

/// A random id of hexadecimal digits.
///
/// # Errors
/// The operating system gives no random numbers.
pub fn random_id<const BYTES: usize>() -> Result<String, KeyError> {
    let mut bytes = [0_u8; BYTES];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| KeyError::new("the operating system gives no random numbers"))?;
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    Ok(digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect())
}

#[cfg(test)]
mod tests;
