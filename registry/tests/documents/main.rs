//! The documents and the examples: what they say is what happens.
//!
//! Shell blocks that are marked `sh run` are run here, in their order; the other marks and their meaning are in
//! `commands.rs`.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod commands;
mod doctor;
mod examples;
mod links;
mod manifests;
mod markdown;
mod settings;
mod support;
mod threats;
