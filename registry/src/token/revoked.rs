use std::{
    collections::HashSet,
    fs::OpenOptions,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::{KeyError, Word, keys::read};

/// The ids of tokens that do not count any more.
///
/// Of a file with an id on each line; empty lines and what follows a `#` do not count.
#[derive(Debug, Default)]
pub struct Revoked(HashSet<Word>);

impl Revoked {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or a line is no id.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        Self::parse(path, &read(path)?)
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, KeyError> {
        let mut ids = HashSet::new();
        for (line, number) in text.lines().zip(1..) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                // Not what stands there: it may be a whole token.
                let wrong = |rule: String| {
                    KeyError::new(format!("'{}' line {number}: the id of a token {rule}", path.display()))
                };
                ids.insert(line.parse().map_err(wrong)?);
            }
        }
        Ok(Self(ids))
    }

    /// Whether a token was revoked.
    pub fn contains(&self, id: &Word) -> bool {
        self.0.contains(id)
    }

    /// How many of these a later list lacks.
    pub fn gone_from(&self, later: &Self) -> usize {
        self.0.difference(&later.0).count()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Writes an id to the end of a file, which is made where there is none. `note` stands behind it, for people.
///
/// # Errors
/// The file holds something else, or cannot be written.
pub fn revoke(path: &Path, id: &Word, note: &str) -> Result<(), KeyError> {
    let fail = |error: std::io::Error| KeyError::io(path, "written", &error);
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).mode(0o644).open(path).map_err(fail)?;
    if Revoked::read(path)?.contains(id) {
        return Ok(());
    }
    let mut line = format!("{id} # {note}\n");
    let length = file.seek(SeekFrom::End(0)).map_err(fail)?;
    if length > 0 {
        // A last line that somebody left without its end would swallow this one.
        file.seek(SeekFrom::End(-1)).map_err(fail)?;
        let mut last = [0];
        file.read_exact(&mut last).map_err(fail)?;
        if last != *b"\n" {
            line.insert(0, '\n');
        }
    }
    // One write, so that two that append at once do not mix.
    file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)
}
