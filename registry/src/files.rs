//! Files that count as they are now: read at the start, and again when they change. A leaf: keys, revocations and
//! certificates are read by it.

use std::{
    fmt::Display,
    fs,
    io::{self, Read},
    path::Path,
    time::Duration,
};

use secrecy::zeroize::Zeroizing;
use sha2::{Digest, Sha256};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing::error;

/// The longest file that is read, in bytes.
pub const FILE_MAX: u64 = 8 << 20;

/// How often the files are looked at. A change counts at the second look that sees it.
const LOOK: Duration = Duration::from_secs(1);

/// The text of a file, which may be a secret.
pub type Text = Zeroizing<String>;

/// What texts are known by: their SHA-256.
type Sum = [u8; 32];

/// A file's text, of bounded length.
///
/// # Errors
/// It cannot be read, is no file, no text, or longer than [`FILE_MAX`].
pub fn read(path: &Path) -> io::Result<Text> {
    let mut text = Zeroizing::new(String::new());
    // Before it is opened: a pipe would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    fs::File::open(path)?.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(io::Error::other(format!("it is longer than {} MiB", FILE_MAX >> 20)));
    }
    Ok(text)
}

/// Files that are used together, and what they come to.
pub trait Source {
    /// What they come to.
    type Value;
    /// Why they cannot be used: one line that names the setting and the file, without a secret.
    type Error: Display;

    /// Reads each of them.
    fn read(&self) -> Result<Vec<Text>, Self::Error>;

    /// What these texts come to.
    fn parse(&self, texts: &[Text]) -> Result<Self::Value, Self::Error>;
}

/// Files, and what was read of them last.
pub struct Watched<S> {
    source: S,
    /// The texts that count.
    loaded: Sum,
    /// Other texts that were seen once: they may be half-written.
    candidate: Option<Sum>,
    /// The texts, or the error, that were complained about last.
    refused: Option<Sum>,
}

impl<S: Source> Watched<S> {
    /// Reads them for the first time.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn open(source: S) -> Result<(S::Value, Self), S::Error> {
        let texts = source.read()?;
        let value = source.parse(&texts)?;
        let loaded = sum(&texts);
        Ok((value, Self { source, loaded, candidate: None, refused: None }))
    }

    /// What they come to now, if that is new and can be used. New texts count at once where `at_once`, else when they
    /// were the same at two looks. What cannot be used changes nothing, and is complained about once.
    pub fn changed(&mut self, at_once: bool) -> Option<S::Value> {
        let texts = match self.source.read() {
            Ok(texts) => texts,
            Err(error) => {
                self.complain(Sha256::digest(error.to_string()).into(), &error);
                return None;
            }
        };
        let sum = sum(&texts);
        if sum == self.loaded {
            (self.candidate, self.refused) = (None, None);
            return None;
        }
        if !at_once && self.candidate != Some(sum) {
            self.candidate = Some(sum);
            return None;
        }
        match self.source.parse(&texts) {
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

    /// Whether what lies in the files now is what counts, as far as is known.
    pub fn good(&self) -> bool {
        self.refused.is_none()
    }

    fn complain(&mut self, what: Sum, error: &S::Error) {
        if self.refused.replace(what) != Some(what) {
            error!("{error}; what was read before stays in force");
        }
    }
}

/// Each text with its length, so that no byte can pass from one file to the next.
fn sum(texts: &[Text]) -> Sum {
    let mut digest = Sha256::new();
    for text in texts {
        digest.update(text.len().to_be_bytes());
        digest.update(text.as_bytes());
    }
    digest.finalize().into()
}

/// Calls `look` every second, and with `true` on SIGHUP. For ever.
///
/// # Errors
/// No handler for SIGHUP can be installed.
pub fn watch(look: impl Fn(bool) + Clone + Send + 'static) -> io::Result<impl Future<Output = ()> + Send> {
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let at_once = tokio::select! {
                _ = hangup.recv() => true,
                _ = looks.tick() => false,
            };
            let look = look.clone();
            // A file on a disk that hangs must not hold a thread that serves. A panic there would end nothing but the look.
            drop(spawn_blocking(move || look(at_once)).await);
        }
    })
}
