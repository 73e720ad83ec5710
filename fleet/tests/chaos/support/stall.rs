use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::time::Instant;

const PAUSE: Duration = Duration::from_millis(10);

/// Measures how long this machine does not run what is ready to run: a thread sleeps for a moment, again and again, and
/// sees how much later than that it wakes.
#[derive(Debug)]
pub(crate) struct StallWatch {
    longest: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl StallWatch {
    pub(crate) fn start() -> Self {
        let (longest, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let watch = Self { longest: Arc::clone(&longest), ended: Arc::clone(&ended) };
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let begun = Instant::now();
                thread::sleep(PAUSE);
                let late = begun.elapsed().saturating_sub(PAUSE).as_millis();
                longest.fetch_max(u64::try_from(late).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        watch
    }

    /// The longest until now.
    pub(crate) fn longest(&self) -> Duration {
        Duration::from_millis(self.longest.load(Ordering::Relaxed))
    }
}

impl Drop for StallWatch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}
