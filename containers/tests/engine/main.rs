//! The images and compose files as they are shipped, on a real engine. `make test-containers` runs these.
//!
//! All tests share one stack: those that do harm to it have it for themselves, the others share it.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod bad_input;
mod crashes;
mod images;
mod names;
mod secrets;
mod stack;
mod stops;
mod support;
mod template;
