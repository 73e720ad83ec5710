//! The only place that reads a clock or asks the system for randomness.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use tokio::time::Instant;

use crate::history::At;

/// Time since the run began, on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Duration {
        self.0.elapsed()
    }

    pub(crate) fn at(self) -> At {
        At::from_start(self.now())
    }

    /// A moment as the runtime's timers take it.
    pub(crate) fn instant(self, moment: Duration) -> Instant {
        self.0 + moment
    }
}

/// A number that another run does not have: the standard library seeds its hasher at each start.
pub(crate) fn fresh_seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
