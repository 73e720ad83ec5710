use std::collections::BTreeMap;

use crate::{
    entry::{Change, Revision, Tag},
    store::{Loaded, LogPage, LogRow},
};

/// How far this node has read the change log, and by what it knows that it is still the same log: pure.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Every row up to here was read and applied. Only rows that were read move it: a change that this node committed
    /// itself is applied ahead of it.
    cursor: Revision,
    /// The tag of the row at the cursor. `None`: at the beginning, or there was no such row when all was loaded.
    tag: Option<Tag>,
    /// What this node committed beyond the cursor. The log must hold it when it is read.
    ahead: BTreeMap<Revision, Tag>,
}

/// The log does not go on where this node stopped reading, so everything must be loaded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Rows in between were trimmed before they were read.
    #[error("the log goes on at {found}, but {expected} was expected")]
    Trimmed {
        /// The row that should have come.
        expected: i64,
        /// The row that came.
        found: i64,
    },
    /// The store went back in time: rows that this node has read, or was promised, are not there any more.
    #[error("the store went back in time: {0}")]
    Lost(&'static str),
}

impl History {
    pub(super) const fn cursor(&self) -> Revision {
        self.cursor
    }

    /// This node committed these.
    pub(super) fn committed(&mut self, changes: &[Change]) {
        let ahead = changes.iter().filter(|change| change.revision > self.cursor);
        self.ahead.extend(ahead.map(|change| (change.revision, change.tag)));
    }

    /// Everything was loaded: what the store holds is the history from now on.
    pub(super) fn begin(&mut self, loaded: &Loaded) {
        self.cursor = loaded.head;
        self.tag = loaded.head_tag;
        self.forget();
    }

    /// These rows, which [`History::check`] found in order, were applied.
    pub(super) fn read(&mut self, rows: &[LogRow]) {
        if let Some(last) = rows.last() {
            self.cursor = last.revision();
            self.tag = Some(last.tag());
            self.forget();
        }
    }

    /// The tags of what this node committed among the next `rows` of the log. It is applied, but for expiries that were
    /// passed over, so the log need not say it again.
    pub(super) fn known(&self, rows: usize) -> Vec<Tag> {
        let last = self.cursor.saturating_add(rows.try_into().unwrap_or(Revision::MAX));
        let mut tags: Vec<Tag> = self.ahead.range(..=last).map(|(_, tag)| *tag).collect();
        tags.dedup();
        tags
    }

    fn forget(&mut self) {
        self.ahead = self.ahead.split_off(&(self.cursor + 1));
    }

    /// Whether a page is the continuation of what was read.
    pub(super) fn check(&self, page: &LogPage) -> Result<(), Broken> {
        let nothing_known = self.cursor == 0 && page.seen == 0;
        match page.head {
            None if !nothing_known => return Err(Broken::Lost("its last revision is gone")),
            Some(head) if head < self.cursor || head < page.seen => {
                return Err(Broken::Lost("its last revision lies before one that was seen"));
            }
            _ => {}
        }
        if let Some(known) = self.tag {
            self.check_cursor(known, page)?;
        }
        self.check_rows(page)
    }

    fn check_cursor(&self, known: Tag, page: &LogPage) -> Result<(), Broken> {
        match (page.cursor_tag, page.first) {
            (Some(tag), _) if tag != known => Err(Broken::Lost("another change stands where one was read")),
            (Some(_), _) => Ok(()),
            (None, Some(first)) if first > self.cursor => match page.rows.first() {
                // Nobody trims what an epoch begins with.
                Some(LogRow::Epoch { .. }) => Err(Broken::Lost("a new epoch began without what was read")),
                _ => Ok(()),
            },
            (None, _) => Err(Broken::Lost("a change that was read is gone")),
        }
    }

    fn check_rows(&self, page: &LogPage) -> Result<(), Broken> {
        let mut expected = self.cursor + 1;
        for row in &page.rows {
            let (revision, epoch) = (row.revision(), matches!(row, LogRow::Epoch { .. }));
            if revision != expected && !epoch {
                let begins = expected == self.cursor + 1 && page.cursor_tag.is_none();
                return Err(if begins {
                    Broken::Trimmed { expected, found: revision }
                } else {
                    Broken::Lost("rows of the log are missing")
                });
            }
            for (own, tag) in self.ahead.range(expected..=revision) {
                if *own != revision || *tag != row.tag() {
                    return Err(Broken::Lost("a change of this node's own is gone"));
                }
            }
            if matches!(row, LogRow::Known { .. }) && !self.ahead.contains_key(&revision) {
                return Err(Broken::Lost("a change of another node has the tag of an own one"));
            }
            expected = revision + 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
