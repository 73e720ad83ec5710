//! For tests only: what they start and what they wait for.
//!
//! In: the Postgres and nginx programs of this machine; programs that were built.
//! Owns: private servers and other processes that end with the test process, however it ends; several nodes behind
//! nginx; a TCP proxy that cuts a node off; wall clocks that can be set; free ports; certificates; waiting with a deadline;
//! a stopwatch that does not count the time in which the machine stands still.
//! Out: database URLs, ports, sessions with a database.

mod ca;
mod cluster;
mod dir;
mod keeper;
mod nginx;
mod node;
mod port;
mod postgres;
mod process;
mod programs;
mod proxy;
mod request;
mod sql;
mod stopwatch;
mod wait;
mod wall_clock;

pub use ca::{Ca, Issued};
pub use cluster::{Cluster, ClusterOptions};
pub use dir::memory_dir;
pub use nginx::Nginx;
pub use node::Node;
pub use port::free_port;
pub use postgres::{Postgres, StopMode};
pub use process::Process;
pub use proxy::{Proxy, ProxyMode};
pub use request::get;
pub use rustix::process::Signal;
pub use sql::Sql;
pub use stopwatch::Stopwatch;
pub use wait::wait_until;
pub use wall_clock::WallClock;
