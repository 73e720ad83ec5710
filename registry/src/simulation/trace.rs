//! What happened: always a hash of it, and its last lines in words where somebody wants to read them.

use std::collections::VecDeque;

use super::Time;

#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    events: u64,
    lines: VecDeque<String>,
    most: usize,
}

impl Trace {
    /// Keeps the last `most` lines.
    pub(super) const fn new(most: usize) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, lines: VecDeque::new(), most }
    }

    /// Adds an event: all of `numbers` counts for the hash, `words` is for people, who are spared an event without.
    pub(super) fn add(&mut self, now: Time, what: &str, numbers: &[i64], words: impl FnOnce() -> String) {
        self.events += 1;
        let time = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        let bytes = what.bytes().map(i64::from);
        for number in [time].into_iter().chain(numbers.iter().copied()).chain(bytes) {
            self.hash = (self.hash ^ number.cast_unsigned()).wrapping_mul(0x0100_0000_01b3);
            self.hash ^= self.hash >> 29;
        }
        if self.most == 0 {
            return;
        }
        let words = words();
        if words.is_empty() {
            return;
        }
        if self.lines.len() == self.most {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>10.4} {what:<11} {numbers:?} {words}", now.as_secs_f64()));
    }

    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) const fn events(&self) -> u64 {
        self.events
    }

    pub(super) fn text(&self) -> String {
        self.lines.iter().flat_map(|line| [line, "\n"]).collect()
    }
}
