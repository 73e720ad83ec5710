//! The programs as real processes: start order, restarts, kills and signals, with time scaled down.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod dev;
mod health;
mod leaving;
mod nodes;
mod postgres_restart;
mod registry_restart;
mod registry_stop;
mod sidecar_restart;
mod start_order;
mod support;
mod unreachable;
