use std::path::{Path, PathBuf};

use tempfile::{Builder, TempDir};

/// A directory in memory is used where so many bytes are free in it. A container has 64 MB as a rule, which a few
/// servers would fill.
const FREE_LEAST: u64 = 2 << 30;

/// A temporary directory in memory where there is enough of it, else wherever temporary files go.
///
/// For files of stores that wait for the disk: a disk that other tests keep busy would make them miss their deadlines.
///
/// # Panics
/// The directory cannot be made.
#[must_use]
pub fn memory_dir() -> TempDir {
    made(&mut Builder::new(), &memory())
}

/// A temporary directory of this name, in memory as [`memory_dir`] or on the disk.
pub(crate) fn dir(prefix: &str, on_disk: bool) -> TempDir {
    made(Builder::new().prefix(prefix), &if on_disk { std::env::temp_dir() } else { memory() })
}

fn made(builder: &mut Builder, place: &Path) -> TempDir {
    builder
        .tempdir_in(place)
        .unwrap_or_else(|error| panic!("cannot make a directory in {}: {error}", place.display()))
}

fn memory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let enough = rustix::fs::statvfs(memory).is_ok_and(|fs| fs.f_bavail * fs.f_frsize >= FREE_LEAST);
    if enough { memory.to_owned() } else { std::env::temp_dir() }
}
