use std::time::Duration;

use registry_wire::Ttl;

/// The constants of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// The real ones, with the full load.
    pub(crate) full: bool,
    pub(crate) tick: Duration,
    pub(crate) ttl: Ttl,
    /// Between two beats of a sidecar.
    pub(crate) interval: Duration,
}

impl Scale {
    /// As `CHAOS` says: `full`, or nothing.
    pub(crate) fn chosen() -> Self {
        let full = match std::env::var("CHAOS").as_deref() {
            Ok("full") => true,
            Ok("" | "scaled") | Err(_) => false,
            Ok(other) => panic!("CHAOS={other}: must be full or scaled"),
        };
        if full {
            Self::of(true, Duration::from_secs(1), 90)
        } else {
            Self::of(false, Duration::from_millis(250), 5)
        }
    }

    fn of(full: bool, tick: Duration, ttl: u64) -> Self {
        let ttl = Ttl::try_from(ttl).unwrap();
        Self { full, tick, ttl, interval: ttl.duration() / 3 }
    }

    /// What is meant for the scaled run, or for the full one.
    pub(crate) fn pick<T>(&self, scaled: T, full: T) -> T {
        if self.full { full } else { scaled }
    }

    /// Seconds, scaled and full.
    pub(crate) fn seconds(&self, scaled: f64, full: f64) -> Duration {
        Duration::from_secs_f64(self.pick(scaled, full))
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.ttl.duration()
    }

    pub(crate) fn name(&self) -> &'static str {
        self.pick("scaled", "full")
    }
}
