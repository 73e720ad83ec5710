//! How far a node is behind, and what it takes on no more because of that: big lists first, then registrations. Reads
//! of one service and heartbeats are never refused for it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::sleep;

use crate::clock;

/// How often it is measured how late a timer is. More often would wake an idle node for nothing.
const PERIOD: Duration = Duration::from_millis(100);

/// So many measurements in a row count: one late timer is chance, or a process that was paused.
const RECENT: usize = 3;

/// Lists are refused where every timer of the last 300 ms was so late: who beats waits as long.
const LISTS: Duration = Duration::from_millis(50);

/// So are registrations.
const REGISTRATIONS: Duration = Duration::from_millis(250);

/// What is too much now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shed {
    /// Nothing.
    Nothing,
    /// Big lists.
    Lists,
    /// And registrations.
    Registrations,
}

/// What to refuse where timers are so late and of `places` in the queue before the store so many are `taken`. A queue
/// that is full refuses by itself.
pub(super) fn shed(late: Duration, (places, taken): (usize, usize)) -> Shed {
    if late >= REGISTRATIONS {
        Shed::Registrations
    } else if late >= LISTS || taken > places / 2 {
        Shed::Lists
    } else {
        Shed::Nothing
    }
}

/// The least of the last measurements.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    recent: [Duration; RECENT],
    next: usize,
}

impl Lateness {
    /// Adds a measurement; returns the least of the last ones.
    pub(super) fn measured(&mut self, late: Duration) -> Duration {
        self.recent[self.next] = late;
        self.next = (self.next + 1) % RECENT;
        self.recent.into_iter().min().unwrap_or_default()
    }
}

/// How late the timers of this process are.
#[derive(Debug, Default)]
pub(super) struct Late(AtomicU64);

impl Late {
    /// Microseconds are enough.
    pub(super) fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    /// Measures for ever.
    pub(super) async fn watch(&self) {
        let mut lateness = Lateness::default();
        loop {
            let begun = clock::now();
            sleep(PERIOD).await;
            let late = clock::now().since(begun).saturating_sub(PERIOD);
            let least = lateness.measured(late).as_micros();
            self.0.store(u64::try_from(least).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
