//! The load balancer as it is shipped: real nginx before real nodes on a real Postgres.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod blind;
mod deaths;
mod documents;
mod floods;
mod limits;
mod log;
mod names;
mod pauses;
mod retries;
mod support;
mod tls;
