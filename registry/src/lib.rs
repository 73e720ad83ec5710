//! A service registry: leases over HTTP, kept in Postgres or SQLite, answered from memory.
//!
//! The modules are the flow: a call enters by [`http`], is acknowledged by [`lease`] or handed to [`flush`], which
//! commits it to [`store`]; [`fanout`] applies what was committed, here or on another node, to the lease and to the
//! [`view`], which [`http`] reads. [`app`] joins them.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod entry;
pub mod fanout;
pub mod files;
pub mod flush;
pub mod http;
pub mod lease;
pub mod lifecycle;
pub mod log;
pub mod metrics;
pub mod seeded;
pub mod store;
pub mod tls;
pub mod token;
pub mod view;

#[cfg(test)]
mod simulation;
