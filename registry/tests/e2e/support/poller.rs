use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::StatusCode;
use tokio::{task::JoinHandle, time::sleep};

use super::Client;

/// Reads `GET /services/<service>` over and over and keeps what must not be: a list without the instance, a 404, or
/// any status but 200 and 503.
#[derive(Debug)]
pub(crate) struct Poller {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    listed: usize,
    wrong: Vec<String>,
}

impl Poller {
    pub(crate) fn start(client: Client, service: &str, instance: &str) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (path, instance) = (format!("/services/{service}"), instance.to_owned());
        let log = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                // A refused connection is a node that is down.
                if let Ok(reply) = client.get(&path).await {
                    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                    if reply.lists(&instance) {
                        log.listed += 1;
                    } else if reply.status != StatusCode::SERVICE_UNAVAILABLE {
                        log.wrong.push(format!("{} {}", reply.status, reply.body));
                    }
                }
                sleep(Duration::from_millis(5)).await;
            }
        });
        Self { seen, task }
    }

    /// How many answers listed the instance.
    pub(crate) fn listed(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).listed
    }

    /// Ends it. Fails if anything was seen that must not be.
    pub(crate) fn finish(self) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(seen.wrong.is_empty(), "{} wrong answers, the first: {}", seen.wrong.len(), seen.wrong[0]);
        assert!(seen.listed > 0, "the instance was never listed");
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.task.abort();
    }
}
