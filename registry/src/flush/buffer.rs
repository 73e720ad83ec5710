use std::time::Duration;

use crate::{clock::Moment, entry::EntryId, lease::Beats};

/// The beats that are not known to be in the store, and the number of the row that will hold them.
///
/// A row's number is used again until its commit is known, and a writer has one row on its way at a time: rows of a
/// writer become visible in order and without a gap. Beats are counted twice rather than lost.
#[derive(Debug)]
pub struct Buffer {
    seq: i64,
    ids: Vec<EntryId>,
    /// None of them is younger.
    youngest: Moment,
}

impl Default for Buffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Buffer {
    /// Empty; the first row has number 1.
    pub const fn new() -> Self {
        Self { seq: 1, ids: Vec::new(), youngest: Moment::NEVER }
    }

    /// Adds beats.
    pub fn add(&mut self, fresh: Beats) {
        self.youngest = self.youngest.max(fresh.youngest);
        if !fresh.ids.is_empty() {
            self.ids.extend(fresh.ids);
            self.ids.sort_unstable();
            self.ids.dedup();
        }
    }

    /// The row to write: its number, all beats, sorted, each entry once, and for how long the youngest has waited.
    pub fn row(&self, now: Moment) -> (i64, &[EntryId], Duration) {
        let waited = if self.ids.is_empty() { Duration::ZERO } else { now.since(self.youngest) };
        (self.seq, &self.ids, waited)
    }

    /// The row was there already, written by an earlier call whose end was not known. Which beats it holds is not
    /// known either: all of them go into the next.
    pub const fn repeated(&mut self) {
        self.seq += 1;
    }

    /// The row is in the store with all beats of [`Buffer::row`], which are returned.
    pub fn written(&mut self) -> Vec<EntryId> {
        self.seq += 1;
        self.youngest = Moment::NEVER;
        std::mem::take(&mut self.ids)
    }
}

#[cfg(test)]
mod tests;
