//! The `sidecar` command.

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    registry_sidecar::cli::main(env::args_os().skip(1)).into()
}
