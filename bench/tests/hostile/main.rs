//! Clients that mean no good, by the thousand, against real nodes and the real nginx: what others see meanwhile.

mod flood;
mod series;
mod silent;

use std::{path::Path, time::Duration};

use bench::lab::{Lab, Rounds};
use tokio::sync::{Mutex, MutexGuard};

/// Held by the one test that has the machine: what a flood does to others is measured, and another flood beside it is
/// none of its doing.
static MACHINE: Mutex<()> = Mutex::const_new(());

/// The machine, and a workplace with the programs that were built beside the bench's own.
async fn lab() -> (MutexGuard<'static, ()>, Lab) {
    let alone = MACHINE.lock().await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let programs = Path::new(env!("CARGO_BIN_EXE_bench-limit")).parent().expect("a directory");
    let rounds = Rounds { count: 1, length: Duration::from_secs(1) };
    (alone, Lab::new(&root, programs, rounds).expect("a workplace"))
}

/// Longest that the 99th of a hundred beats may take.
const P99: Duration = Duration::from_millis(100);
