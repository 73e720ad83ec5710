use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::fs::{FlockOperation, flock};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One locked file for each port that this process was given: other test processes leave it alone until this one ends.
static TAKEN: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A TCP port on which nobody listens, for a program that cannot be told to take any.
///
/// It lies below the range from which systems take the ports of outgoing connections, so that none of these takes it
/// before the program does, also while the program is restarted. No other process that calls this gets it while this
/// process runs.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    const FIRST: u32 = 15_000;
    const COUNT: u32 = 17_000;
    // Processes begin at different places and, within one, each call goes on from the one before.
    let start = std::process::id().wrapping_mul(7_919);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let candidate = FIRST + start.wrapping_add(step) % COUNT;
        let port = u16::try_from(candidate).expect("FIRST + COUNT is below 65,536");
        if let Some(lock) = lock(port)
            && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        {
            TAKEN.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
            return port;
        }
    }
    panic!("no free TCP port between {FIRST} and {}", FIRST + COUNT);
}

/// `None`: another process has it.
fn lock(port: u16) -> Option<File> {
    let dir = std::env::temp_dir().join("testkit-ports");
    fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("cannot make {}: {error}", dir.display()));
    let file = dir.join(port.to_string());
    let file = File::options().create(true).append(true).open(&file).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}
