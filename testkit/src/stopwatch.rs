use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use tokio::time::Instant;

/// How often it is looked whether this machine runs what is ready to run.
const PAUSE: Duration = Duration::from_millis(10);

/// What is shorter is how a machine is that has work.
const SHORTEST: Duration = Duration::from_millis(20);

/// Measures a time that is promised. What passes while this machine stands still does not count: no program can keep
/// a promise of time there, and the test itself comes too late to see it kept.
///
/// ```
/// let watch = testkit::Stopwatch::start();
/// assert!(watch.elapsed() < std::time::Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    begun: Instant,
}

impl Stopwatch {
    /// Begins now.
    #[must_use]
    pub fn start() -> Self {
        watch();
        Self { begun: Instant::now() }
    }

    /// The time since its start in which this machine ran.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        let (now, stalls) = watch().stalls();
        self.ran(now, &stalls)
    }

    /// The time since its start, until a moment that has passed, in which this machine ran.
    #[must_use]
    pub fn until(&self, end: Instant) -> Duration {
        self.ran(end, &watch().stalls().1)
    }

    fn ran(&self, end: Instant, stalls: &[Stall]) -> Duration {
        let stalled = stalls.iter().map(|stall| stall.within(self.begun, end)).sum();
        end.saturating_duration_since(self.begun).saturating_sub(stalled)
    }

    /// The longest time since its start in which this machine stood still.
    #[must_use]
    pub fn longest_stall(&self) -> Duration {
        let (now, stalls) = watch().stalls();
        stalls.iter().map(|stall| stall.within(self.begun, now)).max().unwrap_or_default()
    }
}

/// A time in which a thread of this process that was to run did not.
#[derive(Clone, Copy, Debug)]
struct Stall {
    from: Instant,
    to: Instant,
}

impl Stall {
    /// `None`: it is none yet.
    fn of(looked: Instant, now: Instant) -> Option<Self> {
        let from = looked + PAUSE;
        (now.saturating_duration_since(from) >= SHORTEST).then_some(Self { from, to: now })
    }

    /// How much of it lies between two moments.
    fn within(&self, from: Instant, to: Instant) -> Duration {
        self.to.min(to).saturating_duration_since(self.from.max(from))
    }
}

/// A thread that sleeps for a moment, again and again, and sees how much later than that it wakes.
#[derive(Debug)]
struct Watch {
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    looked: Instant,
    stalls: Vec<Stall>,
}

impl Watch {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All until now, also one whose end the thread has not seen yet, as it has stood still itself.
    fn stalls(&self) -> (Instant, Vec<Stall>) {
        let seen = self.seen();
        let now = Instant::now();
        let mut stalls = seen.stalls.clone();
        stalls.extend(Stall::of(seen.looked, now));
        (now, stalls)
    }

    fn run(&self) {
        loop {
            thread::sleep(PAUSE);
            let mut seen = self.seen();
            let now = Instant::now();
            let stall = Stall::of(seen.looked, now);
            seen.stalls.extend(stall);
            seen.looked = now;
        }
    }
}

fn watch() -> &'static Watch {
    static WATCH: OnceLock<Arc<Watch>> = OnceLock::new();
    WATCH.get_or_init(|| {
        let seen = Seen { looked: Instant::now(), stalls: Vec::new() };
        let watch = Arc::new(Watch { seen: Mutex::new(seen) });
        let running = Arc::clone(&watch);
        thread::spawn(move || running.run());
        watch
    })
}
