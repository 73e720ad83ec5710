//! The programs as real processes: start order, restarts, kills and signals, with time scaled down.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod compare;
mod dev;
mod failover;
mod health;
mod history;
mod leaving;
mod mass_death;
mod nodes;
mod notifications;
mod operator;
mod postgres_restart;
mod registry_restart;
mod registry_stop;
mod sidecar_restart;
mod start_order;
mod store_faults;
mod support;
mod tls;
mod unreachable;
