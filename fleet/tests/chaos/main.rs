//! The promises of docs/RELIABILITY.md on real processes: three nodes behind nginx, a Postgres of their own, a fleet.
//!
//! Each promise is a scenario, written once. By default it runs with time scaled down, a few at a time, as a part of
//! `make test`. `make chaos` runs them one after another with the real constants and the load that docs/RELIABILITY.md
//! names; `CHAOS_ONLY=P2,P10` chooses some, `CHAOS_SEED=n` repeats the random choices of a run.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod grand;
mod p01_postgres_crashes;
mod p02_postgres_dead;
mod p03_postgres_sick;
mod p04_fail_over;
mod p05_node_killed;
mod p06_rolling_restart;
mod p07_all_restarted;
mod p08_store_lost;
mod p09_restart_without_postgres;
mod p10_cut_off;
mod p12_clocks;
mod p13_node_paused;
mod p14_service_gone;
mod p15_mass_death;
mod p16_many_restart;
mod p19_fan_out;
mod p20_ended_sessions;
mod support;
