use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// A session with a Postgres server, for what a test does past the registry. It ends when this value is dropped.
#[derive(Debug)]
pub struct Sql {
    connection: PgConnection,
}

impl Sql {
    /// Opens a session; `url` as [`crate::Postgres::url`] gives it.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn open(url: &str) -> Self {
        Self::try_open(url).await.unwrap_or_else(|| panic!("no session with {url}"))
    }

    /// Opens a session. `None`: the server refuses, or does not answer.
    pub async fn try_open(url: &str) -> Option<Self> {
        Some(Self { connection: PgConnection::connect(url).await.ok()? })
    }

    /// Runs statements, as one transaction unless they say otherwise.
    ///
    /// # Panics
    /// When one fails.
    pub async fn run(&mut self, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(&mut self.connection)
            .await
            .unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// The one whole number that a query gives.
    ///
    /// # Panics
    /// When it fails, or gives something else.
    pub async fn number(&mut self, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_one(&mut self.connection)
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// The one text that a query gives.
    ///
    /// # Panics
    /// When it fails, or gives something else.
    pub async fn text(&mut self, query: &str) -> String {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_one(&mut self.connection)
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"))
    }
}
