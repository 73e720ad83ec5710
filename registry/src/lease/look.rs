use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use crate::clock::Moment;

/// How long a call waits for a look at the change log.
pub(crate) const DEADLINE: Duration = Duration::from_millis(500);

/// Asks for a read of the change log, and waits for one that began after the question. All who wait share it, so a
/// thousand made-up names cost one query.
#[derive(Clone, Debug)]
pub struct Look {
    asked: Arc<Notify>,
    begun: watch::Receiver<Moment>,
}

/// The side that reads the change log.
#[derive(Debug)]
pub struct Looks {
    asked: Arc<Notify>,
    begun: watch::Sender<Moment>,
}

impl Looks {
    /// Both sides.
    pub fn new() -> (Look, Self) {
        let asked = Arc::new(Notify::new());
        let (sender, receiver) = watch::channel(Moment::NEVER);
        (Look { asked: Arc::clone(&asked), begun: receiver }, Self { asked, begun: sender })
    }

    /// A handle that asks for a read without waiting for it.
    pub fn asker(&self) -> Arc<Notify> {
        Arc::clone(&self.asked)
    }

    /// Waits until somebody asks.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// A read that began at this moment has ended and was applied.
    pub fn done(&self, begun: Moment) {
        self.begun.send_if_modified(|last| {
            let newer = begun > *last;
            *last = begun.max(*last);
            newer
        });
    }
}

impl Look {
    /// Returns whether a read that began after `asked_at` has been applied before the deadline.
    pub async fn after(&self, asked_at: Moment) -> bool {
        let mut begun = self.begun.clone();
        self.asked.notify_one();
        matches!(timeout(DEADLINE, begun.wait_for(|begun| *begun > asked_at)).await, Ok(Ok(_)))
    }
}
