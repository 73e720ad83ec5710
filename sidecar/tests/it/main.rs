//! The real binary, and the library, against real servers on loopback.

#![expect(clippy::unwrap_used, reason = "helpers outside test functions; a panic is a failed test")]

mod chroot;
mod commands;
mod common;
mod faults;
mod leave;
mod library;
mod order;
mod registry;
mod secrets;
mod settings;
#[cfg(feature = "tls")]
mod tls;
