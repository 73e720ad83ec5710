//! What the binaries are made of: as they are shipped, and as deny.toml allows it.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod dependencies;
mod shipped;

use std::path::Path;

/// The top of the tree.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
