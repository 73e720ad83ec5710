//! For tests only: what they start and what they wait for.
//!
//! In: the Postgres programs of this machine; programs that were built.
//! Owns: private servers and other processes that end with the test process, however it ends; free ports; waiting
//! with a deadline.
//! Out: database URLs, ports.

mod keeper;
mod port;
mod postgres;
mod process;
mod programs;
mod wait;

pub use port::free_port;
pub use postgres::{Postgres, StopMode};
pub use process::Process;
pub use rustix::process::Signal;
pub use wait::wait_until;
