//! Time and randomness: the one place where they enter the process.
//!
//! A leaf that every stage may import. Cores take a [`Moment`] or a [`Sighting`] as an argument and never ask.

mod pulse;
mod sight;

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use self::{
    pulse::Pulse,
    sight::{Sight, Sighting},
};

/// A moment of this machine's monotonic clock that goes on while the machine is suspended (`CLOCK_BOOTTIME` where
/// there is one): nobody sets it, and it means nothing on another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(i64);

impl Moment {
    /// Before every moment that a clock gives.
    pub const NEVER: Self = Self(i64::MIN);

    /// A moment this long after the clock's start. For tests of the cores.
    pub const fn from_start(since_start: Duration) -> Self {
        Self(nanos(since_start))
    }

    /// The moment this much later.
    #[must_use]
    pub const fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// The moment this much earlier; may lie before the clock's start.
    #[must_use]
    pub const fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }

    /// How long after `earlier` it is; zero when it is not after.
    pub const fn since(self, earlier: Self) -> Duration {
        let nanos = self.0.saturating_sub(earlier.0);
        Duration::from_nanos(if nanos < 0 { 0 } else { nanos.unsigned_abs() })
    }
}

/// Nanoseconds, with 292 years as the longest.
const fn nanos(duration: Duration) -> i64 {
    let nanos = duration.as_nanos();
    if nanos > i64::MAX as u128 {
        i64::MAX
    } else {
        #[expect(clippy::cast_possible_truncation, reason = "compared with i64::MAX in the line above")]
        let nanos = nanos as i64;
        nanos
    }
}

/// A moment that several threads read and that only moves forward.
#[derive(Debug)]
pub struct AtomicMoment(AtomicI64);

impl AtomicMoment {
    /// Begins at `moment`.
    pub const fn new(moment: Moment) -> Self {
        Self(AtomicI64::new(moment.0))
    }

    /// Where it is.
    pub fn get(&self) -> Moment {
        Moment(self.0.load(Ordering::Acquire))
    }

    /// Moves it forward; an earlier moment changes nothing.
    pub fn advance(&self, moment: Moment) {
        self.0.fetch_max(moment.0, Ordering::AcqRel);
    }
}

/// Now.
pub fn now() -> Moment {
    #[cfg(target_os = "linux")]
    let id = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let id = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(id);
    Moment(time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec))
}

/// The wall clock's reading of `now`, in Unix seconds. For people, and for the expiry of tokens: no lease hangs on it.
///
/// One moment has one reading, also when the process was held up between reading the two clocks, until the wall clock
/// is set or has drifted by more than 20 ms.
#[expect(clippy::disallowed_methods, reason = "the one place where wall time enters")]
pub fn unix_now(now: Moment) -> f64 {
    /// What to add to a moment, in nanoseconds.
    static OFFSET: AtomicI64 = AtomicI64::new(i64::MIN);
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos);
    let sampled = unix.saturating_sub(self::now().0);
    let known = OFFSET.load(Ordering::Relaxed);
    let offset = if sampled.abs_diff(known) <= DRIFT.as_nanos().try_into().unwrap_or(u64::MAX) {
        known
    } else {
        OFFSET.store(sampled, Ordering::Relaxed);
        sampled
    };
    #[expect(clippy::cast_precision_loss, reason = "a quarter of a microsecond is enough for people")]
    let nanos = now.0.saturating_add(offset) as f64;
    nanos / 1e9
}

/// The wall clock's reading now, in whole Unix seconds; see [`unix_now`].
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a clock before 1970 reads as 1970"
)]
pub fn unix_seconds() -> u64 {
    unix_now(now()) as u64
}

/// How far the wall clock may drift from the monotonic one before its readings follow.
const DRIFT: Duration = Duration::from_millis(20);

/// The wall clock's reading of an earlier moment, in Unix seconds with milliseconds. For people.
pub fn unix_at(moment: Moment, now: Moment, unix_now: f64) -> f64 {
    let at = unix_now - now.since(moment).as_secs_f64();
    (at * 1000.0).round() / 1000.0
}

/// This thread's random numbers.
#[expect(clippy::disallowed_methods, reason = "the one place where randomness enters")]
pub fn rng() -> impl rand::Rng {
    rand::rng()
}

#[cfg(test)]
mod tests;
