//! What every scenario is made of.
//!
//! In: the programs that cargo built, `CHAOS`, `CHAOS_ONLY`, `CHAOS_SEED`, `CHAOS_SERVICES`.
//! Owns: how many scenarios run at once, the cluster and the fleet of each, the marks of its faults.
//! Out: one line for each scenario; a history in a file where a promise is broken.

mod beside;
mod client;
mod faults;
mod outcome;
mod registrar;
mod scale;
mod stage;

pub(crate) use beside::{FAILURES, Service, Sidecar, health_interval};
pub(crate) use client::Client;
pub(crate) use faults::{crash, start_again};
pub(crate) use outcome::{Outcome, is_error, is_read, through_nginx};
pub(crate) use registrar::{Registrar, Registrations, SERVICES};
pub(crate) use scale::Scale;
pub(crate) use stage::{Load, Plan, Stage, scenario};
