//! The registry's program, built so that it can be told to make a mistake. For tests alone.

use std::process::ExitCode;

fn main() -> ExitCode {
    registry::cli::main(std::env::args_os())
}
