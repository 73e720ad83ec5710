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
use tracing::{error, info};

use super::{Claims, KeyError, Keys, Revoked, Word, keys::read};

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
    files: Mutex<(Watched<Keys>, Option<Watched<Revoked>>)>,
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
        let (keys, keys_file) = Watched::open(KEYS, keys, Keys::parse)?;
        let (revoked, revoked_file) = match revoked {
            Some(path) => {
                let (revoked, file) = Watched::open(REVOKED, path, Revoked::parse)?;
                (revoked, Some(file))
            }
            None => (Revoked::default(), None),
        };
        Ok(Self {
            state: RwLock::new(State::new(Arc::new(keys), Arc::new(revoked))),
            files: Mutex::new((keys_file, revoked_file)),
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
        let keys = files.0.changed(at_once);
        let revoked = files.1.as_mut().and_then(|file| file.changed(at_once));
        let old = self.state();
        if let Some(keys) = &keys {
            info!(keys = ?keys.ids(), "the keys of tokens were read again; the first signs");
        }
        if let Some(revoked) = &revoked {
            info!(revoked = revoked.len(), "the list of revoked tokens was read again");
        }
        if keys.is_some() || revoked.is_some() {
            let keys = keys.map_or_else(|| Arc::clone(&old.keys), Arc::new);
            let revoked = revoked.map_or_else(|| Arc::clone(&old.revoked), Arc::new);
            *self.state.write() = State::new(keys, revoked);
        }
    }
}

/// A file, and what was read of it last.
struct Watched<T> {
    setting: &'static str,
    path: PathBuf,
    parse: fn(&Path, &str) -> Result<T, KeyError>,
    /// The text that counts.
    loaded: Sum,
    /// Another text that was seen once: it may be half-written.
    candidate: Option<Sum>,
    /// The text, or the error, that was complained about last.
    refused: Option<Sum>,
}

impl<T> Watched<T> {
    fn open(
        setting: &'static str,
        path: &Path,
        parse: fn(&Path, &str) -> Result<T, KeyError>,
    ) -> Result<(T, Self), KeyError> {
        let named = |error: KeyError| KeyError::new(format!("{setting}: {error}"));
        let text = read(path).map_err(named)?;
        let value = parse(path, &text).map_err(named)?;
        let loaded = digest(text.as_bytes());
        Ok((value, Self { setting, path: path.to_owned(), parse, loaded, candidate: None, refused: None }))
    }

    /// What the file says now, if it says something new that can be used.
    fn changed(&mut self, at_once: bool) -> Option<T> {
        let text = match read(&self.path) {
            Ok(text) => text,
            Err(error) => {
                self.complain(digest(error.to_string().as_bytes()), &error);
                return None;
            }
        };
        let sum = digest(text.as_bytes());
        if sum == self.loaded {
            (self.candidate, self.refused) = (None, None);
            return None;
        }
        if !at_once && self.candidate != Some(sum) {
            self.candidate = Some(sum);
            return None;
        }
        match (self.parse)(&self.path, &text) {
            Ok(value) => {
                (self.loaded, self.candidate, self.refused) = (sum, None, None);
                Some(value)
            }
            Err(error) => {
                self.complain(sum, &error);
                None
            }
        }
    }

    fn complain(&mut self, what: Sum, error: &KeyError) {
        if self.refused.replace(what) != Some(what) {
            error!("{}: {error}; what was read before stays in force", self.setting);
        }
    }
}
