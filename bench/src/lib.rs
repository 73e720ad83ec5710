//! The benchmark of speed and scale: `make bench`.
//!
//! In: release builds of the registry; wrk, Redis, etcd and Postgres where they are installed.
//! Owns: the rounds in which they are measured beside each other, and what each line of the table means.
//! Out: `docs/BENCHMARKS.md`.

pub mod document;
pub mod entries;
pub mod generator;
pub mod lab;
pub mod line;
pub mod lines;
pub mod machine;
pub mod numbers;
pub mod peers;
pub mod pgbench;
pub mod population;
pub mod rounds;
pub mod soak;
pub mod stage;
pub mod usage;
pub mod wrk;

/// Whatever ended a measurement. People read it; nobody decides by it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A result of a measurement.
pub type Result<T> = std::result::Result<T, Error>;
