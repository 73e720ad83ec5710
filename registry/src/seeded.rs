//! Mistakes that are made on purpose, so that the judge of `fleet` and the tests of secrets can prove that they see them.
//!
//! A leaf. Only a test build (feature `seeded-bugs`, binary `registry-seeded`) can make one, and only the one that
//! `REGISTRY_SEEDED_BUG` names; everywhere else [`seeded`] is `false` for the compiler already.

use std::time::Duration;

use crate::clock::{self, Moment};

/// A mistake that a node can be told to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A blind node lets leases end, and gives none a full TTL when it sees again.
    FreezeOff,
    /// A lease ends when its TTL has passed, whether or not the node could hear of beats.
    NowForSight,
    /// A lease ends by the wall clock, which people set.
    WallClock,
    /// Beats that other nodes acknowledged do not count.
    BeatsNotFannedOut,
    /// A blind node answers a beat with 404 instead of 503.
    NotFoundForUnavailable,
    /// A change is acknowledged although its commit failed.
    AckBeforeCommit,
    /// No lease ends.
    ExpiryOff,
    /// A node answers lists before it has loaded.
    ServedBeforeLoaded,
    /// However many are silent at once, their leases end.
    BrakeOff,
    /// A PUT writes everything in reach to the log, at TRACE and under a library's name, and panics with it.
    ShowAll,
}

impl Bug {
    /// Every mistake, with its name.
    pub const ALL: [(&'static str, Self); 10] = [
        ("freeze-off", Self::FreezeOff),
        ("now-for-sight", Self::NowForSight),
        ("wall-clock", Self::WallClock),
        ("beats-not-fanned-out", Self::BeatsNotFannedOut),
        ("404-for-503", Self::NotFoundForUnavailable),
        ("ack-before-commit", Self::AckBeforeCommit),
        ("expiry-off", Self::ExpiryOff),
        ("served-before-loaded", Self::ServedBeforeLoaded),
        ("brake-off", Self::BrakeOff),
        ("show-all", Self::ShowAll),
    ];
}

/// Whether this process makes a mistake.
#[cfg(not(feature = "seeded-bugs"))]
#[inline]
pub const fn seeded(_: Bug) -> bool {
    false
}

/// Whether this process makes a mistake.
///
/// # Panics
/// When the environment names one that there is not: a test that seeds nothing would prove nothing.
#[cfg(feature = "seeded-bugs")]
pub fn seeded(bug: Bug) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<Bug>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var("REGISTRY_SEEDED_BUG").ok()?;
        let known = Bug::ALL.into_iter().find(|(known, _)| *known == name);
        let (_, bug) =
            known.unwrap_or_else(|| panic!("REGISTRY_SEEDED_BUG={name}: there is no such mistake"));
        Some(bug)
    });
    *chosen == Some(bug)
}

/// What a program would take for `now` that goes by the wall clock: `now`, moved by as much as that clock was set since
/// it was first asked for.
pub fn wall_clock(now: Moment) -> Moment {
    static AT_FIRST: std::sync::OnceLock<f64> = std::sync::OnceLock::new();
    let offset = clock::unix_now(now) - now.since(Moment::from_start(Duration::ZERO)).as_secs_f64();
    let moved = offset - AT_FIRST.get_or_init(|| offset);
    let by = Duration::from_secs_f64(moved.abs());
    if moved < 0.0 { now.minus(by) } else { now.plus(by) }
}
