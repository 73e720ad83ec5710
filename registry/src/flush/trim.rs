use std::time::Duration;

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, warn};

use super::Flush;
use crate::{clock, store::Keep};

/// How often old rows of the logs are removed.
const EVERY: Duration = Duration::from_mins(1);

/// Keeps the logs at their length.
pub(super) async fn run(flush: Flush, mut stop: watch::Receiver<bool>) {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        while !flush.leases.sighting(clock::now()).blind {
            match flush.store.trim(flush.writer, Keep::default()).await {
                Ok(0) => break,
                Ok(rows) => debug!(rows, "trimmed"),
                Err(error) => {
                    warn!(%error, "old log rows could not be removed; tried again in a minute");
                    break;
                }
            }
        }
    }
}
