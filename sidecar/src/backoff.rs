//! Pauses between attempts that fail.
//!
//! In: a random source.
//! Owns: the size of the last pause.
//! Out: an endless row of pauses, between a floor and a cap.

use std::time::Duration;

use rand::Rng;

/// Decorrelated jitter with a floor: each pause is drawn between the floor and three times the pause before it, and
/// never above the cap.
///
/// The floor is what separates it from full jitter, whose pauses begin at 0: ten thousand sidecars that lost the same
/// registry would come back as one wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    floor: Duration,
    upper: Duration,
    cap: Duration,
}

impl Backoff {
    /// Pauses from `floor`; the first at most `first`, none above `cap`. Bounds out of order are put in order: the
    /// floor wins over both others, the cap over `first`.
    pub fn new(floor: Duration, first: Duration, cap: Duration) -> Self {
        let cap = cap.max(floor);
        Self { floor, upper: first.clamp(floor, cap), cap }
    }

    /// The pauses of a registration: 1 s growing to 60 s.
    pub fn registration() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(3), Duration::from_mins(1))
    }

    /// The pauses after failed beats: at first U(1 s, max(1 s, min(5 s, interval / 3))), growing to the interval.
    pub fn beat(interval: Duration) -> Self {
        let first = (interval / 3).min(Duration::from_secs(5));
        Self::new(Duration::from_secs(1), first, interval)
    }

    /// The next pause.
    pub fn pause(&mut self, rng: &mut impl Rng) -> Duration {
        let pause = between(self.floor, self.upper, rng);
        self.upper = (pause * 3).clamp(self.floor, self.cap);
        pause
    }

    /// The row of pauses as an iterator, which never ends.
    pub fn pauses<R: Rng>(self, rng: R) -> Pauses<R> {
        Pauses { backoff: self, rng }
    }
}

/// The pauses of a [`Backoff`], one after the other. `next` never returns `None`.
#[derive(Clone, Debug)]
pub struct Pauses<R> {
    backoff: Backoff,
    rng: R,
}

impl<R: Rng> Iterator for Pauses<R> {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.backoff.pause(&mut self.rng))
    }
}

/// A random duration in [low, high].
pub(crate) fn between(low: Duration, high: Duration, rng: &mut impl Rng) -> Duration {
    let share: f64 = rng.random();
    low + high.saturating_sub(low).mul_f64(share)
}

#[cfg(test)]
mod tests;
