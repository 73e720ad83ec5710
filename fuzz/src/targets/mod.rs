//! The targets.
//!
//! In: an input.
//! Owns: what must hold of it.
//! Out: a panic where it does not.

mod bodies;
mod calls;
mod endpoints;
mod names;
mod pages;
mod replies;
mod stores;
mod tokens;

/// One entry point for what a stranger sent.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its directory below `corpus/`.
    pub name: &'static str,
    /// Takes an input and asserts what must hold of it.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "bodies", run: bodies::run },
    Target { name: "calls", run: calls::run },
    Target { name: "endpoints", run: endpoints::run },
    Target { name: "names", run: names::run },
    Target { name: "pages", run: pages::run },
    Target { name: "replies", run: replies::run },
    Target { name: "stores", run: stores::run },
    Target { name: "tokens", run: tokens::run },
];

/// The input as text, where it is some.
fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}
