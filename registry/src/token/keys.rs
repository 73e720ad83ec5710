use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use secrecy::zeroize::Zeroizing;

use super::{AUDIENCE, Claims, PATTERNS_MAX, Right, TOKEN_MAX, Word, hmac, random_id};
use crate::files::{self, Text};

/// Shortest secret, in bytes: as long as what HMAC-SHA-256 gives (RFC 7518 section 3.2).
const SECRET_MIN: usize = 32;

/// Longest secret, in bytes.
const SECRET_MAX: usize = 128;

/// Different bytes that a secret has at least. One of 32 random bytes has fewer with a chance of less than 2^-60.
const VARIETY_MIN: usize = 16;

/// Keys in a file.
const KEYS_MAX: usize = 32;

/// What is wrong with a file of keys or of revocations, or why it could not be written. One line, without a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(String);

impl KeyError {
    pub(super) fn new(line: impl Into<String>) -> Self {
        Self(line.into())
    }

    pub(super) fn io(path: &Path, doing: &str, error: &io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "; make one with 'registry token key', or mount it there",
            io::ErrorKind::PermissionDenied => "; let the user of this process do so",
            _ => "",
        };
        Self(format!("'{}' cannot be {doing}: {error}{hint}", path.display()))
    }
}

/// The keys of tokens: the first signs, all are accepted.
///
/// Of a file with a key on each line: an id, and a secret of 64 to 256 hexadecimal digits. Empty lines and what follows
/// a `#` do not count.
pub struct Keys(Vec<Pair>);

struct Pair {
    id: Word,
    signs: EncodingKey,
    accepts: DecodingKey,
}

impl fmt::Debug for Keys {
    /// The ids alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|pair| pair.id.as_str())).finish()
    }
}

impl Keys {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or a line is wrong.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        Self::parse(path, &read(path)?)
    }

    /// The keys of a file's text; `path` names it in an error.
    ///
    /// # Errors
    /// A line is wrong: which and why, without what it holds.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, KeyError> {
        hmac::install();
        let mut keys: Vec<Pair> = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let wrong = |rule: &str| KeyError(format!("'{}' line {number}: {rule}", path.display()));
            let (id, secret) = match (words.next(), words.next(), words.next()) {
                (None, ..) => continue,
                (Some(id), Some(secret), None) => (id, secret),
                _ => return Err(wrong("must be an id and a secret of hexadecimal digits")),
            };
            // Not the id itself: it may be a secret in the wrong place.
            let id: Word = id.parse().map_err(|rule: String| wrong(&format!("the id {rule}")))?;
            if keys.iter().any(|key| key.id == id) {
                return Err(wrong("the id stands there twice"));
            }
            let secret = secret_bytes(secret).map_err(|rule| wrong(&rule))?;
            keys.push(Pair {
                id,
                signs: EncodingKey::from_secret(&secret),
                accepts: DecodingKey::from_secret(&secret),
            });
        }
        match keys.len() {
            0 => Err(KeyError(format!(
                "'{}' holds no key; make one with 'registry token key'",
                path.display()
            ))),
            1..=KEYS_MAX => Ok(Self(keys)),
            _ => Err(KeyError(format!("'{}' holds more than {KEYS_MAX} keys", path.display()))),
        }
    }

    /// The ids, the signing one first.
    pub fn ids(&self) -> Vec<&str> {
        self.0.iter().map(|pair| pair.id.as_str()).collect()
    }

    /// Makes a token, with the first key.
    ///
    /// # Errors
    /// It says more than a token may.
    pub fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        if !bounded(claims) {
            return Err(KeyError(format!(
                "a right of a token names at most {PATTERNS_MAX} services or beginnings"
            )));
        }
        // A file without a key is not read.
        let key = self.0.first().ok_or_else(|| KeyError::new("there is no key"))?;
        let header = Header { kid: Some(key.id.as_str().to_owned()), ..Header::new(Algorithm::HS256) };
        let token = encode(&header, claims, &key.signs)
            .map_err(|error| KeyError(format!("the token cannot be signed: {error}")))?;
        if token.len() > TOKEN_MAX {
            return Err(KeyError(format!(
                "the token would be longer than {TOKEN_MAX} bytes: name fewer services"
            )));
        }
        Ok(token)
    }

    /// What a token says, if one of these keys has signed it. Whether it has expired or was revoked is not looked at.
    pub fn open(&self, token: &[u8]) -> Option<Claims> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let header = decode_header(token).ok()?;
        let id = header.kid.as_deref()?;
        let key = self.0.iter().find(|pair| pair.id.as_str() == id)?;
        // No extension of the format is known here, so one that must be understood is not.
        if header.crit.is_some() {
            return None;
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["aud", "exp", "sub"]);
        // At each use, with the leeway of what is asked for.
        validation.validate_exp = false;
        let claims = decode::<Claims>(token, &key.accepts, &validation).ok()?.claims;
        bounded(&claims).then_some(claims)
    }
}

/// What a token says, whoever has signed it. For people, and never a reason to let anybody do anything.
pub fn unchecked(token: &str) -> Option<Claims> {
    jsonwebtoken::dangerous::insecure_decode_claims(token).ok()
}

fn bounded(claims: &Claims) -> bool {
    [Right::Register, Right::Read, Right::Admin]
        .into_iter()
        .all(|right| claims.patterns(right).len() <= PATTERNS_MAX)
}

fn secret_bytes(hex: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    if !hex.len().is_multiple_of(2) || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("the secret must be an even number of hexadecimal digits (openssl rand -hex 32)".into());
    }
    let digit =
        |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(0);
    let bytes: Zeroizing<Vec<u8>> = Zeroizing::new(
        hex.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect(),
    );
    if !(SECRET_MIN..=SECRET_MAX).contains(&bytes.len()) {
        return Err(format!(
            "the secret has {} bytes, but must have {SECRET_MIN} to {SECRET_MAX} (openssl rand -hex 32)",
            bytes.len()
        ));
    }
    let mut seen = [false; 256];
    bytes.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    if seen.iter().filter(|seen| **seen).count() < VARIETY_MIN {
        return Err("the secret is not random (openssl rand -hex 32)".into());
    }
    Ok(bytes)
}

/// A file's text, of bounded length.
pub(super) fn read(path: &Path) -> Result<Text, KeyError> {
    files::read(path).map_err(|error| KeyError::io(path, "read", &error))
}

/// Makes a key and puts it first into a file, which is made, for its owner alone, where there is none. Returns its id.
///
/// # Errors
/// The file holds something else, or cannot be written.
pub fn add_key(path: &Path) -> Result<String, KeyError> {
    let old = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        _ => {
            let text = read(path)?;
            Keys::parse(path, &text)?;
            Some(text)
        }
    };
    let id = random_id::<4>()?;
    let secret = Zeroizing::new(random_id::<SECRET_MIN>()?);
    let fresh = Zeroizing::new(format!("{id} {}\n", secret.as_str()));
    let text = match &old {
        Some(old) => Zeroizing::new(format!("{}{}", fresh.as_str(), old.as_str())),
        None => Zeroizing::new(format!(
            "# Keys of the registry's tokens, one a line: id and secret. The first signs, all are accepted.\n{}",
            fresh.as_str()
        )),
    };
    replace(path, &text).map_err(|error| KeyError::io(path, "written", &error))?;
    Ok(id)
}

/// Writes beside the file first, so that a reader sees the old text or the new one, and nothing between.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    // A link goes on leading to the file.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mode = fs::metadata(&path).map_or(0o600, |old| old.permissions().mode() & 0o7777);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        });
    if written.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists) {
        // Nothing of a key is left lying there.
        drop(fs::remove_file(&beside));
    }
    written
}
