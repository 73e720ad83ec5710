//! Everything that parses what a stranger sent, and what must hold of it, whatever was sent.
//!
//! In: bytes, from the corpus, from a random change of it, or from libFuzzer.
//! Owns: the targets, each with the properties that it asserts.
//! Out: nothing where they hold; else a panic that says which does not.

mod bed;
mod targets;

pub use self::targets::{TARGETS, Target};
