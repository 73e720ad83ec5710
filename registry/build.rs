//! A migration that is added without a change of a source file must be compiled in all the same.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
