use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// libfaketime of Debian and Fedora. It fakes the wall clock of programs that load it.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

/// A wall clock that can be set while programs run by it. What they read of the monotonic clock is left alone: nobody
/// sets that on a real machine either.
#[derive(Debug)]
pub struct WallClock {
    /// Holds the file that says how much it is off.
    dir: TempDir,
}

impl WallClock {
    /// A clock that is right.
    ///
    /// # Panics
    /// There is no room for a temporary file.
    #[expect(clippy::new_without_default, reason = "it makes a file")]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("no directory for a clock: {error}"));
        // Postgres runs as another user.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755))
            .unwrap_or_else(|error| panic!("no directory for a clock: {error}"));
        let clock = Self { dir };
        clock.set(0);
        clock
    }

    /// Sets it to so many seconds after the right time, or before. Programs notice within a second.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn set(&self, seconds: i64) {
        // Written aside: a program that reads half a number would be somewhere else.
        let new = self.dir.path().join("new");
        std::fs::write(&new, format!("{seconds:+}\n"))
            .and_then(|()| std::fs::rename(&new, self.file()))
            .unwrap_or_else(|error| panic!("the clock cannot be set: {error}"));
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("off")
    }

    /// The environment of a dynamically linked program that is to run by this clock.
    ///
    /// # Panics
    /// libfaketime is not installed.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let library = LIBRARIES.into_iter().find(|path| Path::new(path).exists());
        vec![
            (
                "LD_PRELOAD",
                library
                    .unwrap_or_else(|| panic!("no libfaketime: scripts/test-setup installs it"))
                    .to_owned(),
            ),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
            ("FAKETIME_DISABLE_SHM", "1".to_owned()),
        ]
    }
}
