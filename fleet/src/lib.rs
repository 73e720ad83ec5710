//! A load generator and a judge: simulated sidecars on the real state machine, a history of every answer, a checker.
//!
//! In: registry URLs, how many instances, how long; faults that a scenario applies and marks.
//! Owns: the sidecars, the readers, the history.
//! Out: figures, and a verdict for each promise, with the operations that prove what is wrong.
//!
//! [`Fleet`] makes the load, a [`History`] holds what came of it, and [`judge::judge`], which is pure, reads it
//! afterwards. A scenario marks its faults in the history, or the judge would hold the registry to what no registry
//! can do:
//!
//! ```no_run
//! # async fn scenario(stop_postgres: fn(), start_postgres: fn()) -> Result<(), fleet::StartError> {
//! use std::time::Duration;
//! use fleet::{Config, Fleet, FaultKind, Target};
//!
//! let node = "http://127.0.0.1:8888".parse().expect("a URL");
//! let mut fleet = Fleet::start(&Config::new(vec![Target::node(node, 0)]))?;
//! let fault = fleet.history().fault(FaultKind::Store);
//! stop_postgres();
//! fleet.history().held(fault);
//! tokio::time::sleep(Duration::from_secs(60)).await;
//! fleet.history().lifting(fault);
//! start_postgres();
//! fleet.history().over(fault);
//! let history = fleet.stop().await;
//! assert!(fleet::judge::judge(&history).innocent());
//! # Ok(())
//! # }
//! ```

pub mod catalog;
pub mod cli;
mod client;
mod clock;
mod config;
pub mod figures;
mod fleet;
pub mod history;
pub mod judge;
mod readers;
mod sidecar;

pub use catalog::Catalog;
pub use config::{Config, Target};
pub use fleet::{Fleet, StartError};
pub use history::{At, FaultKind, History};
