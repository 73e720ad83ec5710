use std::{
    hash::{BuildHasher, Hash, RandomState},
    time::Duration,
};

use crate::clock::{AtomicMoment, Moment};

/// Cells of a table: 512 KiB, whoever calls.
const CELLS: usize = 1 << 16;

/// A rate for each of any number of callers, in a table of a fixed size: nothing is kept for a caller by name, and
/// nothing is evicted.
///
/// A cell holds the moment at which all that was taken from it is paid for, at one turn an interval (the generic cell
/// rate algorithm, ITU-T I.371). Each caller has two cells, chosen by hashes with a random key, and is refused only if
/// both are overdrawn; what it takes is written to both, where they are behind. So callers who share one cell with a
/// flood are not held up by it, and to hold up everybody a flood must come from thousands of callers at their full
/// rate at once. Two threads that take for one caller in the same instant may pay once.
#[derive(Debug)]
pub(super) struct Rates {
    cells: Box<[AtomicMoment]>,
    hashers: [RandomState; 2],
    interval: Duration,
    burst: Duration,
}

impl Rates {
    /// So many turns a second, 1 to 1,000,000,000; as many at once.
    pub(super) fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second;
        Self {
            cells: std::iter::repeat_with(|| AtomicMoment::new(Moment::NEVER)).take(CELLS).collect(),
            hashers: [RandomState::new(), RandomState::new()],
            interval,
            burst: interval * per_second,
        }
    }

    /// Takes a turn at `now`.
    ///
    /// # Errors
    /// There is none left; one will be after this time.
    pub(super) fn take(&self, now: Moment, caller: &impl Hash) -> Result<(), Duration> {
        let cells = self.hashers.each_ref().map(|hasher| self.cell(hasher.hash_one(caller)));
        let paid = cells[0].get().min(cells[1].get()).max(now).plus(self.interval);
        let ahead = paid.since(now);
        if ahead > self.burst {
            return Err(ahead.saturating_sub(self.burst));
        }
        for cell in cells {
            cell.advance(paid);
        }
        Ok(())
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lowest bits are meant")]
    fn cell(&self, hash: u64) -> &AtomicMoment {
        &self.cells[hash as usize % CELLS]
    }
}

#[cfg(test)]
mod tests;
