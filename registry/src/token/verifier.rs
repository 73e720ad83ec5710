use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use super::{Claims, KeyError, Keys, Revoked, Word, keys::read};
use crate::files::{Source, Text, Watched};

/// Tokens that are remembered as good. Only what a key has signed comes here, so a flood of others drives nobody out.
pub(super) const KNOWN_MAX: usize = 16_384;

/// What a token is known by: its SHA-256.
type Sum = [u8; 32];

/// The digest that a token is known by.
pub fn digest(token: &[u8]) -> Sum {
    Sha256::digest(token).into()
}

/// A token that was signed with an accepted key and is not revoked.
#[derive(Debug)]
pub struct Known {
    /// What it says.
    pub claims: Claims,
    late: AtomicBool,
}

impl Known {
    /// Whether this is the first time that it is used after its expiry, as far as is remembered.
    pub fn late_for_the_first_time(&self) -> bool {
        !self.late.swap(true, Ordering::Relaxed)
    }
}

/// Why a token does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// No accepted key has signed it, or it is no token at all.
    Unknown,
    /// It was revoked; its id.
    Revoked(Word),
}

/// The setting that names the file of keys.
const KEYS: &str = "REGISTRY_TOKEN_KEYS_FILE";

/// The setting that names the file of revocations.
const REVOKED: &str = "REGISTRY_TOKEN_REVOKED_FILE";

/// What the files say.
struct State {
    keys: Arc<Keys>,
    revoked: Arc<Revoked>,
    /// Tokens that were looked at since. New with each state, so that what it says holds from there on.
    known: RwLock<HashMap<Sum, Arc<Known>>>,
}

impl State {
    fn new(keys: Arc<Keys>, revoked: Arc<Revoked>) -> Arc<Self> {
        Arc::new(Self { keys, revoked, known: RwLock::default() })
    }
}

/// Says of tokens what they give, by files that may change while it does.
pub struct Verifier {
    state: RwLock<Arc<State>>,
    files: Mutex<Files>,
}

impl fmt::Debug for Verifier {
    /// No secret, and no token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Verifier").field("keys", &state.keys).field("revoked", &state.revoked.len()).finish()
    }
}

impl Verifier {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be used: the name of its setting, and why.
    pub fn open(keys: &Path, revoked: Option<&Path>) -> Result<Self, KeyError> {
        let keys = TokenFile { setting: KEYS, path: keys.to_owned(), parse: Keys::parse };
        let (keys, keys_file) = Watched::open(keys)?;
        let (revoked, revoked_file) = match revoked {
            Some(path) => {
                let file = TokenFile { setting: REVOKED, path: path.to_owned(), parse: Revoked::parse };
                let (revoked, file) = Watched::open(file)?;
                (revoked, Some(file))
            }
            None => (Revoked::default(), None),
        };
        Ok(Self {
            state: RwLock::new(State::new(Arc::new(keys), Arc::new(revoked))),
            files: Mutex::new(Files { keys: keys_file, revoked: revoked_file }),
        })
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read())
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.state().known.read().len()
    }

    /// Looks at a token, of which this is the [`digest`]. Whether it has expired is not looked at: that depends on what
    /// is asked for.
    ///
    /// # Errors
    /// It does not count.
    pub fn verify(&self, token: &[u8], sum: &Sum) -> Result<Arc<Known>, Rejection> {
        let state = self.state();
        if let Some(known) = state.known.read().get(sum) {
            return Ok(Arc::clone(known));
        }
        let claims = state.keys.open(token).ok_or(Rejection::Unknown)?;
        if state.revoked.contains(&claims.jti) {
            return Err(Rejection::Revoked(claims.jti));
        }
        let known = Arc::new(Known { claims, late: AtomicBool::new(false) });
        let mut all = state.known.write();
        if all.len() >= KNOWN_MAX {
            all.clear();
        }
        all.insert(*sum, Arc::clone(&known));
        Ok(known)
    }

    /// Makes a token, with the first key; see [`Keys::sign`].
    ///
    /// # Errors
    /// It says more than a token may.
    pub fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        self.state().keys.sign(claims)
    }

    /// Reads the files again. A new text counts at once where `at_once`, else when it was the same at two looks. One that
    /// cannot be used changes nothing, and is complained about once.
    pub fn refresh(&self, at_once: bool) {
        let mut files = self.files.lock();
        let keys = files.keys.changed(at_once);
        let revoked = files.revoked.as_mut().and_then(|file| file.changed(at_once));
        let old = self.state();
        if let Some(keys) = &keys {
            info!(keys = ?keys.ids(), "the keys of tokens were read again; the first signs");
        }
        if let Some(revoked) = &revoked {
            info!(revoked = revoked.len(), "the list of revoked tokens was read again");
            let again = old.revoked.gone_from(revoked);
            if again > 0 {
                warn!(
                    tokens = again,
                    "ids are no longer in the list of revoked tokens, and their tokens count again; was it cut off?"
                );
            }
        }
        if keys.is_some() || revoked.is_some() {
            let keys = keys.map_or_else(|| Arc::clone(&old.keys), Arc::new);
            let revoked = revoked.map_or_else(|| Arc::clone(&old.revoked), Arc::new);
            *self.state.write() = State::new(keys, revoked);
        }
    }
}

/// Where it is all read from.
struct Files {
    keys: Watched<TokenFile<Keys>>,
    revoked: Option<Watched<TokenFile<Revoked>>>,
}

/// A file of tokens' keys or of revocations.
struct TokenFile<T> {
    setting: &'static str,
    path: PathBuf,
    parse: fn(&Path, &str) -> Result<T, KeyError>,
}

impl<T> TokenFile<T> {
    fn named(&self, error: &KeyError) -> KeyError {
        KeyError::new(format!("{}: {error}", self.setting))
    }
}

impl<T> Source for TokenFile<T> {
    type Value = T;
    type Error = KeyError;

    fn read(&self) -> Result<Vec<Text>, KeyError> {
        read(&self.path).map(|text| vec![text]).map_err(|error| self.named(&error))
    }

    fn parse(&self, texts: &[Text]) -> Result<T, KeyError> {
        let text = texts.first().map_or("", |text| text.as_str());
        (self.parse)(&self.path, text).map_err(|error| self.named(&error))
    }
}
