//! The wire protocol, row by row: real nodes on real sockets, on SQLite and on Postgres.
//!
//! In: requests as clients send them, down to bytes that no client library would send.
//! Owns: what every status, body and header must be. Each test has a node and a database of its own.
//! Out: nothing; what a refused call leaves behind is compared with what was there.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

/// Makes each test twice, once for each store.
macro_rules! both {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $test() { super::$test(crate::harness::Store::Sqlite).await; })*
        }
        mod postgres {
            $(#[tokio::test] async fn $test() { super::$test(crate::harness::Store::Postgres).await; })*
        }
    };
}

mod auth;
mod blind;
mod brake;
mod caps;
mod config;
mod connections;
mod disk;
mod errors;
mod flat;
mod harness;
mod instances;
mod leases;
mod limits;
mod native;
mod nodes;
mod operator;
mod overload;
mod program;
mod rates;
mod secrets;
mod service;
mod sessions;
mod sizes;
mod slow;
mod threats;
mod tls;
mod token_files;
mod tokens;
mod variants;
