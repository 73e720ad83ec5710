//! The fleet's program.

use std::process::ExitCode;

fn main() -> ExitCode {
    fleet::cli::main(std::env::args_os())
}
