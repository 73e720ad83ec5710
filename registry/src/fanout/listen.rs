use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    Postgres,
    pool::PoolOptions,
    postgres::{PgConnectOptions, PgListener},
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::store::StoreUrl;

/// The channels that the store's functions notify.
const CHANNELS: [&str; 2] = ["registry_changes", "registry_beats"];

/// Pauses between attempts to connect, from the first to the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// For connecting to one host, and for its answer when it is asked whether it is still there.
const DEADLINE: Duration = Duration::from_secs(2);

/// After so much silence it is asked. While the nodes run every tick brings a notification, so this is a connection
/// that broke without a word, or a pooler that drops LISTEN.
const SILENCE: Duration = Duration::from_secs(15);

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
        let mut listener = self.connect().await?;
        *pause = PAUSE.0;
        self.hint.notify_one();
        loop {
            // `recv` would reconnect in silence and lose what came meanwhile; `try_recv` tells.
            match timeout(SILENCE, listener.try_recv()).await {
                Ok(Ok(Some(_))) => self.hint.notify_one(),
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    let asked = sqlx::query("SELECT 1").execute(&mut listener);
                    timeout(DEADLINE, asked).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
                }
            }
        }
    }

    /// Of several hosts the first that lets us: a standby refuses LISTEN.
    async fn connect(&self) -> Result<PgListener, sqlx::Error> {
        let Ok(StoreUrl::Postgres(hosts)) = self.url.expose_secret().parse() else {
            return Err(sqlx::Error::PoolClosed);
        };
        let mut failed = sqlx::Error::PoolClosed;
        for options in hosts.options() {
            match timeout(DEADLINE, connect_to(options)).await {
                Ok(Ok(listener)) => return Ok(listener),
                Ok(Err(error)) => failed = error,
                Err(_) => failed = sqlx::Error::PoolTimedOut,
            }
        }
        Err(failed)
    }
}

async fn connect_to(options: &PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    let named = options.get_application_name().is_some();
    let options = if named { options.clone() } else { options.clone().application_name("registry-listen") };
    let pool = PoolOptions::<Postgres>::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_with(options)
        .await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    // A lost connection is told, and all hosts are tried again.
    listener.eager_reconnect(false);
    listener.listen_all(CHANNELS).await?;
    Ok(listener)
}
