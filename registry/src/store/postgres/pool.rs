//! A pool of Postgres connections for which no fault lasts.
//!
//! The pool of sqlx asks a connection whether it lives when it is given back, without a deadline and on a place of the
//! pool: behind a silent network each costs a place until the packets flow again. Here a connection goes back only
//! after a call that went well; whatever else happens to the call, also that nobody waits for it any more, the
//! connection is dropped and its place is free.

use std::{
    fmt,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep, timeout},
};
use tracing::info;

use super::Hosts;

/// Calls at the same time: commit, beats, two logs, a few reads.
const PLACES: u32 = 6;

/// How long a host is waited for before the next one is tried as well.
const TURN: Duration = Duration::from_millis(100);

/// A connection that rested longer is asked whether it lives before it is used.
const FRESH: Duration = Duration::from_millis(250);

/// A connection that rested longer is not used again.
const STALE: Duration = Duration::from_mins(10);

/// As statements: poolers refuse them as start-up parameters.
const SESSION: &str = "SET lock_timeout = '500ms'; SET statement_timeout = '1s'; \
                       SET idle_in_transaction_session_timeout = '2s'; \
                       SET default_transaction_isolation = 'read committed'";

pub(super) struct Pool {
    hosts: Hosts,
    /// The place of the host that was good the last time.
    good: AtomicUsize,
    places: Semaphore,
    resting: Mutex<Vec<Resting>>,
    /// How often the connections that rested were dropped. One that was in use then is not kept either.
    forgotten: AtomicU64,
}

struct Resting {
    connection: PgConnection,
    since: Instant,
}

/// A connection in use. Dropping it closes it; only [`Held::give_back`] keeps it.
pub(super) struct Held<'a> {
    // Before the place: it is closed before another may be opened.
    connection: PgConnection,
    place: SemaphorePermit<'a>,
    pool: &'a Pool,
    forgotten: u64,
}

impl Pool {
    pub(super) fn new(hosts: &Hosts) -> Self {
        let set = |options: PgConnectOptions| {
            options
                .application_name("registry")
                // Poolers refuse it, and nobody needs it since Postgres 12.
                .extra_float_digits(None)
                .disable_statement_logging()
        };
        Self {
            hosts: hosts.map(set),
            good: AtomicUsize::new(0),
            places: Semaphore::new(PLACES as usize),
            resting: Mutex::default(),
            forgotten: AtomicU64::new(0),
        }
    }

    /// A connection that lives. The caller sets the deadline.
    pub(super) async fn take(&self) -> Result<Held<'_>, sqlx::Error> {
        let place = self.places.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let forgotten = self.forgotten.load(Ordering::Acquire);
        while let Some(mut resting) = self.rested() {
            let rest = resting.since.elapsed();
            if rest < FRESH || (rest < STALE && resting.connection.ping().await.is_ok()) {
                return Ok(Held { connection: resting.connection, place, pool: self, forgotten });
            }
        }
        let mut connection = self.connect().await?;
        sqlx::raw_sql(SESSION).execute(&mut connection).await?;
        Ok(Held { connection, place, pool: self, forgotten })
    }

    /// A connection beside the pool, without its time limits: of several hosts to the one that can be written. The
    /// one that was good the last time comes first; each of the others is given its turn a moment later, whether
    /// or not those before it have answered, so that a silent host costs a moment and not the deadline.
    pub(super) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let hosts = self.hosts.options();
        let good = self.good.load(Ordering::Relaxed);
        let mut tries: FuturesUnordered<_> = (0u32..)
            .zip(0..hosts.len())
            .map(|(turn, offset)| async move {
                let host = (good + offset) % hosts.len();
                sleep(TURN * turn).await;
                let connection = self.connect_to(&hosts[host]).await?;
                Ok::<_, sqlx::Error>((host, connection))
            })
            .collect();
        let mut failed = sqlx::Error::PoolClosed;
        while let Some(tried) = tries.next().await {
            match tried {
                Ok((host, connection)) => {
                    if self.good.swap(host, Ordering::Relaxed) != host {
                        let options = &hosts[host];
                        info!(
                            host = options.get_host(),
                            port = options.get_port(),
                            "connected to another server"
                        );
                    }
                    return Ok(connection);
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn connect_to(&self, options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
        let mut connection = options.connect().await?;
        if self.hosts.writable() {
            let read_only: String =
                sqlx::query_scalar("SHOW transaction_read_only").fetch_one(&mut connection).await?;
            if read_only != "off" {
                let (host, port) = (options.get_host(), options.get_port());
                return Err(sqlx::Error::Protocol(format!("{host}:{port} can only be read")));
            }
        }
        Ok(connection)
    }

    // A function of its own, so that the lock is not held while a connection is asked.
    fn rested(&self) -> Option<Resting> {
        self.resting.lock().pop()
    }

    /// Drops all connections, those in use when they come back: what broke one has most likely broken all.
    pub(super) fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        let resting = std::mem::take(&mut *self.resting.lock());
        drop(resting);
    }

    /// Waits for those in use and closes all, within the deadline.
    pub(super) async fn close(&self, deadline: Duration) {
        let politely = async {
            let all = self.places.acquire_many(PLACES).await;
            let resting = std::mem::take(&mut *self.resting.lock());
            for one in resting {
                let _ = one.connection.close().await;
            }
            drop(all);
        };
        let _ = timeout(deadline, politely).await;
        self.places.close();
        self.forget();
    }
}

impl fmt::Debug for Pool {
    /// Without the options, which show the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("free", &self.places.available_permits()).finish_non_exhaustive()
    }
}

impl Held<'_> {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Keeps the connection for the next call.
    pub(super) fn give_back(self) {
        let Self { connection, place, pool, forgotten } = self;
        if !pool.places.is_closed() && pool.forgotten.load(Ordering::Acquire) == forgotten {
            pool.resting.lock().push(Resting { connection, since: Instant::now() });
        }
        drop(place);
    }
}
