//! One line of the table.

/// What was promised of some work, and what was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The work.
    pub work: String,
    /// What it must reach.
    pub promise: String,
    /// What it reached.
    pub measured: String,
    /// Whether that is enough; `None`: it was not measured.
    pub kept: Option<bool>,
    /// What a reader should know beside it: spread over the rounds, absolute figures.
    pub notes: String,
}

impl Line {
    /// A line that was measured.
    pub fn new(work: &str, promise: &str, measured: impl Into<String>, kept: bool) -> Self {
        let measured = measured.into();
        Self { work: work.into(), promise: promise.into(), measured, kept: Some(kept), notes: String::new() }
    }

    /// A line that was not measured, and why.
    pub fn left_out(work: &str, promise: &str, why: impl Into<String>) -> Self {
        Self {
            work: work.into(),
            promise: promise.into(),
            measured: "left out".into(),
            kept: None,
            notes: why.into(),
        }
    }

    /// The line with notes.
    #[must_use]
    pub fn note(self, notes: impl Into<String>) -> Self {
        Self { notes: notes.into(), ..self }
    }
}
