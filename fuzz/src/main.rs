//! One target under libFuzzer, which changes inputs by what they reach: `FUZZ_TARGET` names it, the arguments are
//! libFuzzer's. `scripts/fuzz` builds and runs it.

#![no_main]

use std::sync::LazyLock;

use fuzz::{TARGETS, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("fuzz: FUZZ_TARGET is '{name}', but must be one of {}", names.join(", "));
        std::process::exit(64)
    })
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| (TARGET.run)(input));
