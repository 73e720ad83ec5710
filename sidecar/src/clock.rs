//! The only place that reads a clock or asks the system for randomness.

use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rand::{SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use crate::machine::Moment;

/// Time since this process began to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Moment {
        self.0.elapsed()
    }

    /// The moment as the runtime's timers take it.
    pub(crate) fn instant(self, moment: Moment) -> Instant {
        self.0 + moment
    }
}

/// Time since 1970, for people; nothing is decided by it.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A random source seeded by the system.
///
/// Asks the kernel itself: the usual way looks for the C library's function first and for `/dev/urandom` then, and a
/// static binary in an empty root has neither. Were there no such call (Linux before 3.17), the hasher that the
/// standard library seeds at each start makes sessions and pauses different all the same.
pub(crate) fn rng() -> StdRng {
    let mut seed = [0; 32];
    match rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty()) {
        Ok(length) if length == seed.len() => StdRng::from_seed(seed),
        _ => StdRng::seed_from_u64(RandomState::new().hash_one(wall())),
    }
}
