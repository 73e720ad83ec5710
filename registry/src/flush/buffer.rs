use crate::entry::EntryId;

/// The beats that are not known to be in the store, and the number of the row that will hold them.
///
/// A row's number is used again until its commit is known, and a writer has one row on its way at a time: rows of a
/// writer become visible in order and without a gap. Beats are counted twice rather than lost.
#[derive(Debug)]
pub(crate) struct Buffer {
    seq: i64,
    ids: Vec<EntryId>,
}

impl Buffer {
    pub(crate) const fn new() -> Self {
        Self { seq: 1, ids: Vec::new() }
    }

    /// Adds beats; returns the row to write: its number and all beats, sorted, each entry once.
    pub(crate) fn batch(&mut self, fresh: &[EntryId]) -> (i64, &[EntryId]) {
        if !fresh.is_empty() {
            self.ids.extend_from_slice(fresh);
            self.ids.sort_unstable();
            self.ids.dedup();
        }
        (self.seq, &self.ids)
    }

    /// The row was there already, written by an earlier call whose end was not known. Which beats it holds is not
    /// known either: all of them go into the next.
    pub(crate) const fn repeated(&mut self) {
        self.seq += 1;
    }

    /// The row is in the store with all beats of the last [`Buffer::batch`], which are returned.
    pub(crate) fn written(&mut self) -> Vec<EntryId> {
        self.seq += 1;
        std::mem::take(&mut self.ids)
    }
}

#[cfg(test)]
mod tests;
