use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::{
    clock::{self, Moment},
    metrics::Breaker as Shown,
};

/// Calls in a row that must fail before the others are not tried any more.
const FAILURES: u32 = 3;

/// The longest time between two calls that are let through while it is open.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Which calls an open breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// Those that somebody waits for: one a second.
    Ordinary,
    /// Those that are made once a tick whatever happens, and find out whether the store is back: all.
    Probe,
}

/// What a call said of the link. Nobody may have been there, or the server may have answered that it will not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Works,
    Fails,
}

/// When to try the store at all: pure. Nothing that a call does or leaves undone, like being dropped half-way, keeps it
/// from closing: every second at the latest another call is let through, and one that succeeds closes it.
#[derive(Debug)]
struct Core {
    state: State,
    /// Since when it is closed, or not.
    since: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { tried: Moment },
    HalfOpen { tried: Moment },
}

impl Core {
    const fn new(now: Moment) -> Self {
        Self { state: State::Closed { failures: 0 }, since: now }
    }

    const fn shown(&self) -> Shown {
        match self.state {
            State::Closed { .. } => Shown::Closed,
            State::Open { .. } => Shown::Open,
            State::HalfOpen { .. } => Shown::HalfOpen,
        }
    }

    /// Whether a call may be made.
    fn admit(&mut self, now: Moment, pass: Pass) -> bool {
        let (State::Open { tried } | State::HalfOpen { tried }) = self.state else { return true };
        let admitted = pass == Pass::Probe || now.since(tried) >= PROBE_EVERY;
        if admitted {
            self.state = State::HalfOpen { tried: now };
        }
        admitted
    }

    /// A call ended.
    fn ended(&mut self, now: Moment, verdict: Verdict) {
        self.state = match (verdict, self.state) {
            (Verdict::Works, _) => State::Closed { failures: 0 },
            (Verdict::Fails, State::Closed { failures }) if failures + 1 < FAILURES => {
                State::Closed { failures: failures + 1 }
            }
            (Verdict::Fails, State::Closed { .. }) => State::Open { tried: now },
            // From when it was tried, not from when that failed: the pause is between tries.
            (Verdict::Fails, State::Open { tried } | State::HalfOpen { tried }) => State::Open { tried },
        };
    }
}

/// Keeps calls from waiting for a store that does not answer.
#[derive(Debug)]
pub(super) struct Breaker {
    core: Mutex<Core>,
    shown: watch::Sender<Shown>,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { core: Mutex::new(Core::new(clock::now())), shown: watch::Sender::new(Shown::Closed) }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Shown> {
        self.shown.subscribe()
    }

    /// Whether a call may be made.
    pub(super) fn admit(&self, pass: Pass) -> bool {
        self.change(|core, now| core.admit(now, pass), "tried again")
    }

    /// A call that was admitted ended; `why` says how.
    pub(super) fn ended(&self, verdict: Verdict, why: &str) {
        self.change(|core, now| core.ended(now, verdict), why);
    }

    fn change<T>(&self, change: impl FnOnce(&mut Core, Moment) -> T, why: &str) -> T {
        let now = clock::now();
        let mut core = self.core.lock();
        let before = core.shown();
        let result = change(&mut core, now);
        let after = core.shown();
        if before != after {
            self.shown.send_replace(after);
            if before == Shown::Closed || after == Shown::Closed {
                let lasted = now.since(std::mem::replace(&mut core.since, now));
                tell(before, after, why, lasted);
            } else {
                debug!(from = before.as_str(), to = after.as_str(), reason = why, "circuit breaker");
            }
        }
        result
    }
}

fn tell(from: Shown, to: Shown, reason: &str, lasted: Duration) {
    let (from, to, seconds) = (from.as_str(), to.as_str(), lasted.as_secs_f64());
    if to == Shown::Closed.as_str() {
        info!(from, to, seconds, "circuit breaker: the store answers again");
    } else {
        warn!(from, to, seconds, reason, "circuit breaker: calls of the store fail at once from now on");
    }
}

#[cfg(test)]
mod tests;
