use std::{sync::Arc, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use super::Verifier;

/// How often the files are looked at. A change counts at the second look that sees it.
const LOOK: Duration = Duration::from_secs(1);

/// Reads the files again when they change, and at once on SIGHUP. For ever.
///
/// # Errors
/// No handler for SIGHUP can be installed.
pub fn watch(verifier: Arc<Verifier>) -> std::io::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let at_once = tokio::select! {
                _ = hangup.recv() => true,
                _ = looks.tick() => false,
            };
            let verifier = Arc::clone(&verifier);
            // A file on a disk that hangs must not hold a thread that serves. A panic there would end nothing but the look.
            drop(spawn_blocking(move || verifier.refresh(at_once)).await);
        }
    })
}
