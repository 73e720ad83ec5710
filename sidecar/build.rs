//! Makes static binaries 70 KB smaller.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let of = |name: &str| env::var(name).unwrap_or_default();
    let is_static = of("CARGO_CFG_TARGET_FEATURE").split(',').any(|feature| feature == "crt-static");
    // Packed relocations need support from what loads the binary. A static one carries its own; a dynamic one would not
    // start with a glibc older than 2.36.
    if is_static && of("CARGO_CFG_TARGET_OS") == "linux" && of("CARGO_CFG_TARGET_ENV") == "gnu" {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
