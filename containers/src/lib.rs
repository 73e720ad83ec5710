//! For tests only: the Docker engine, and compose projects that take what they made with them.
//!
//! In: the programs `docker` and `docker compose` (or `docker-compose`), and what scripts/test-containers says in the
//! environment: the name of this run, and those of the images.
//! Owns: containers, networks and volumes whose names begin with the run's.
//! Out: what the engine says of them.

mod container;
mod program;
mod project;

pub use container::Container;
pub use program::{Finished, docker, run, try_docker};
pub use project::{Project, compose, remove};

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// The directory of the compose files.
///
/// # Panics
/// Never: the package lies in a directory.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is a part of a workspace").to_owned()
}

/// What scripts/test-containers says.
///
/// # Panics
/// When the tests were started without it.
pub fn setting(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run these tests by `make test-containers`"))
}

/// A name that begins with the run's, by which everything is removed at its end.
///
/// # Panics
/// See [`setting`].
pub fn name(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{}-{what}{}", setting("TEST_RUN"), NEXT.fetch_add(1, Ordering::Relaxed))
}
