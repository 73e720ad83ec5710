use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgListener;
use tokio::{sync::Notify, time::sleep};
use tracing::{debug, warn};

/// The channels that the store's functions notify.
const CHANNELS: [&str; 2] = ["registry_changes", "registry_beats"];

/// Pauses between attempts to connect, from the first to the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Hears from other nodes that there is something to read. Only a hint: the logs are read every tick all the same, so
/// a lost notification costs a tick and nothing else.
#[derive(Debug)]
pub struct Listener {
    url: SecretString,
    hint: Arc<Notify>,
}

impl Listener {
    /// Listens on a direct connection (not through a transaction pooler, which drops LISTEN), and passes hints on.
    pub const fn new(url: SecretString, hint: Arc<Notify>) -> Self {
        Self { url, hint }
    }

    /// Runs until the process ends.
    pub async fn run(self) {
        let mut pause = PAUSE.0;
        loop {
            match self.listen(&mut pause).await {
                Ok(()) => debug!("the LISTEN connection ended; connecting again"),
                Err(error) => warn!(%error, "cannot LISTEN; changes of other nodes are seen once a tick"),
            }
            // What came while nobody listened is in the logs.
            self.hint.notify_one();
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn listen(&self, pause: &mut Duration) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect(self.url.expose_secret()).await?;
        listener.listen_all(CHANNELS).await?;
        *pause = PAUSE.0;
        self.hint.notify_one();
        // `recv` would reconnect in silence and lose what came meanwhile; `try_recv` tells.
        while listener.try_recv().await?.is_some() {
            self.hint.notify_one();
        }
        Ok(())
    }
}
