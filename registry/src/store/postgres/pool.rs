//! A pool of Postgres connections for which no fault lasts.
//!
//! The pool of sqlx asks a connection whether it lives when it is given back, without a deadline and on a place of the
//! pool: behind a silent network each costs a place until the packets flow again. Here a connection goes back only
//! after a call that went well; whatever else happens to the call, also that nobody waits for it any more, the
//! connection is dropped and its place is free.

use std::{fmt, time::Duration};

use parking_lot::Mutex;
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

/// Calls at the same time: commit, beats, two logs, a few reads.
const PLACES: u32 = 6;

/// A connection that rested longer is asked whether it lives before it is used.
const FRESH: Duration = Duration::from_millis(250);

/// A connection that rested longer is not used again.
const STALE: Duration = Duration::from_mins(10);

/// As statements: poolers refuse them as start-up parameters.
const SESSION: &str = "SET lock_timeout = '500ms'; SET statement_timeout = '1s'; \
                       SET idle_in_transaction_session_timeout = '2s'; \
                       SET default_transaction_isolation = 'read committed'";

pub(super) struct Pool {
    options: Box<PgConnectOptions>,
    places: Semaphore,
    resting: Mutex<Vec<Resting>>,
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
}

impl Pool {
    pub(super) fn new(options: &PgConnectOptions) -> Self {
        let options = options
            .clone()
            .application_name("registry")
            // Poolers refuse it, and nobody needs it since Postgres 12.
            .extra_float_digits(None)
            .disable_statement_logging();
        Self {
            options: Box::new(options),
            places: Semaphore::new(PLACES as usize),
            resting: Mutex::default(),
        }
    }

    /// A connection that lives. The caller sets the deadline.
    pub(super) async fn take(&self) -> Result<Held<'_>, sqlx::Error> {
        let place = self.places.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
        while let Some(mut resting) = self.rested() {
            let rest = resting.since.elapsed();
            if rest < FRESH || (rest < STALE && resting.connection.ping().await.is_ok()) {
                return Ok(Held { connection: resting.connection, place, pool: self });
            }
        }
        let mut connection = self.connect().await?;
        sqlx::raw_sql(SESSION).execute(&mut connection).await?;
        Ok(Held { connection, place, pool: self })
    }

    /// A connection beside the pool, without its time limits.
    pub(super) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.options.connect().await
    }

    // A function of its own, so that the lock is not held while a connection is asked.
    fn rested(&self) -> Option<Resting> {
        self.resting.lock().pop()
    }

    /// Drops the connections that rest: what broke one has most likely broken all.
    pub(super) fn forget(&self) {
        let forgotten = std::mem::take(&mut *self.resting.lock());
        drop(forgotten);
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
        let Self { connection, place, pool } = self;
        if !pool.places.is_closed() {
            pool.resting.lock().push(Resting { connection, since: Instant::now() });
        }
        drop(place);
    }
}
