//! Durable registrations.

use super::Group;
use crate::{Result, lab::Lab, line::Line};

/// About these lines.
pub const GROUP: Group = Group { name: "registrations", title: "Durable registrations", about: "" };

/// Measures them.
///
/// # Errors
/// See [`super::run`].
#[expect(clippy::unused_async, reason = "the lines come with the next commits")]
pub async fn run(_: &Lab) -> Result<Vec<Line>> {
    Ok(Vec::new())
}
