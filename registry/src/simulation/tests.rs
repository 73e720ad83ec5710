use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;

use super::*;

/// Schedules in `make test`.
const SCHEDULES: u64 = 10_000;

/// Lines of a broken schedule that are shown.
const LINES: usize = 100;

/// With so many broken schedules it is enough.
const BROKEN_MAX: usize = 10;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

/// Runs a schedule once more with words, to fail with.
fn explain(seed: u64, bug: Option<Bug>) -> String {
    let run = run(seed, bug, LINES);
    format!(
        "{}\nseed {seed}: {}\nSIMULATION_SEED={seed} runs this schedule alone",
        run.trace,
        run.verdict.unwrap_or_else(|| "passed".to_owned())
    )
}

#[test]
fn no_schedule_breaks_a_promise() {
    if let Some(seed) = setting("SIMULATION_SEED") {
        let run = run(seed, None, usize::MAX);
        println!("{}seed {seed}: {} events, {:?}", run.trace, run.events, run.verdict);
        assert_eq!(run.verdict, None);
        return;
    }
    let schedules = setting("SIMULATION_SCHEDULES").unwrap_or(SCHEDULES);
    let next = AtomicU64::new(0);
    let (events, required) = (AtomicU64::new(0), AtomicU64::new(0));
    let broken = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= schedules || broken.lock().len() >= BROKEN_MAX {
                    return;
                }
                let run = run(seed, None, 0);
                events.fetch_add(run.events, Ordering::Relaxed);
                required.fetch_add(run.required, Ordering::Relaxed);
                if let Some(verdict) = run.verdict {
                    broken.lock().insert(seed, verdict);
                }
            }
        };
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(work);
        }
    });
    let broken = broken.into_inner();
    if let Some(seed) = broken.keys().next() {
        panic!("{}\nbroken: {broken:#?}", explain(*seed, None));
    }
    let required = required.into_inner();
    println!(
        "{schedules} schedules, {} events, {required} entries that had to be listed",
        events.into_inner()
    );
    assert!(required > schedules * 20, "the judge required hardly anything: {required}");
}

/// Schedules in which a mistake must show.
const UNTIL_SEEN: u64 = 1000;

/// The judge sees a mistake, and calls it by its name.
fn seen(bug: Bug, verdict: &str) {
    let found = (0..UNTIL_SEEN).find_map(|seed| run(seed, Some(bug), 0).verdict.map(|found| (seed, found)));
    let (seed, found) = found.unwrap_or_else(|| panic!("{bug:?} was not seen in {UNTIL_SEEN} schedules"));
    assert!(found.starts_with(verdict), "{}", explain(seed, Some(bug)));
    println!("{bug:?}: seed {seed}: {found}");
}

#[test]
fn leases_that_do_not_count_anew_after_blindness_are_seen() {
    seen(Bug::NoFloor, "false expiry");
}

#[test]
fn leases_that_end_by_now_instead_of_sight_are_seen() {
    seen(Bug::EndsByNow, "false expiry");
}

#[test]
fn deafness_to_the_beats_of_other_nodes_is_seen() {
    seen(Bug::DeafToOthers, "false expiry");
}

#[test]
fn an_expiry_that_overlooks_an_uncommitted_batch_is_seen() {
    seen(Bug::OverlooksBatch, "false expiry");
}

#[test]
fn an_acknowledgement_before_the_commit_is_seen() {
    seen(Bug::AcknowledgesEarly, "lost ack");
}

#[test]
fn a_404_without_a_look_is_seen() {
    seen(Bug::NoLook, "false 404");
}

#[test]
fn an_acknowledged_beat_that_is_not_revived_is_seen() {
    // Whoever passed the removal over goes on holding what the store does not hold.
    seen(Bug::NoRevival, "false expiry");
}

#[test]
fn beats_that_are_forgotten_before_they_are_written_are_seen() {
    seen(Bug::ForgetsBeats, "lost beat");
}

#[test]
fn ended_entries_that_are_never_removed_are_seen() {
    seen(Bug::NoExpiry, "zombie");
}

#[test]
fn sight_without_writing_is_seen() {
    seen(Bug::SightWithoutWriting, "blind ack");
}

#[test]
fn a_removal_without_a_second_look_is_seen() {
    seen(Bug::NoGrace, "false expiry");
}

#[test]
fn the_work_of_an_ended_session_is_seen() {
    seen(Bug::TakesEndedSessions, "ended session");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..20 {
        let (first, second) = (run(seed, None, LINES), run(seed, None, 0));
        assert_eq!((first.hash, first.events), (second.hash, second.events), "seed {seed}");
        assert!(first.events > 500, "seed {seed} does nothing");
        assert_ne!(first.hash, run(seed + 1, None, 0).hash);
    }
}
