//! The judge before real nodes and a real Postgres: an honest registry goes free, and each mistake that is made on
//! purpose is seen.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod cluster;
mod cut_short;
mod innocent;
mod program;
mod seeded;
