//! The lines of the table, in groups: each group is a module with its own `run`.

pub mod beats;
pub mod flat;
pub mod reads;
pub mod registrations;
pub mod scale;

use crate::{Result, lab::Lab, line::Line};

/// Lines that are measured together.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    /// The name for `BENCH_ONLY`.
    pub name: &'static str,
    /// The heading.
    pub title: &'static str,
    /// What a reader must know to understand the lines: Markdown.
    pub about: &'static str,
}

/// All groups, in the order of the document.
pub const GROUPS: [Group; 5] = [reads::GROUP, beats::GROUP, flat::GROUP, registrations::GROUP, scale::GROUP];

/// Measures a group.
///
/// # Errors
/// A server did not start, or a program failed or wrote what is not understood.
pub async fn run(group: &Group, lab: &Lab) -> Result<Vec<Line>> {
    match group.name {
        "reads" => reads::run(lab).await,
        "beats" => beats::run(lab).await,
        "flat" => flat::run(lab).await,
        "registrations" => registrations::run(lab).await,
        "scale" => scale::run(lab).await,
        name => Err(format!("there is no group {name}").into()),
    }
}
