//! Says what a binary was made of: a list inside it, as cargo-auditable writes it, and a CycloneDX document beside it.
//!
//! In: what cargo said while it built the binary (`--message-format=json`), and `Cargo.lock`.
//! Owns: which crates were compiled for the target, and so are linked; those of macros and build scripts are not.
//! Out: the section `.dep-v0` for `objcopy`, and the document. The same build gives the same bytes: neither holds a time,
//! a path or a random number.

mod cyclonedx;
mod linked;
mod section;

use std::{error::Error, fs, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use linked::Linked;

/// Says what a binary was made of. scripts/dist calls it.
#[derive(Parser)]
struct Cli {
    /// What cargo wrote while it built the binary
    #[arg(long)]
    messages: PathBuf,
    /// The target of that build
    #[arg(long)]
    target: String,
    /// The package that the binary is of
    #[arg(long)]
    package: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the section `.dep-v0` to a file
    Section {
        /// The file
        file: PathBuf,
    },
    /// Write the document about a binary, which lies there as it will be shipped
    Document {
        /// The binary
        binary: PathBuf,
        /// The document
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sbom: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), Box<dyn Error>> {
    let messages =
        fs::File::open(&cli.messages).map_err(|error| format!("{}: {error}", cli.messages.display()))?;
    let linked = Linked::read(messages, &cli.target, &cli.package)?;
    let (file, bytes) = match &cli.command {
        Command::Section { file } => (file, section::bytes(&linked)?),
        Command::Document { binary, file } => {
            let program = fs::read(binary).map_err(|error| format!("{}: {error}", binary.display()))?;
            let name = binary.file_name().ok_or("the binary has no name")?.to_string_lossy();
            (file, cyclonedx::document(&linked, &name, &program)?)
        }
    };
    fs::write(file, bytes).map_err(|error| format!("{}: {error}", file.display()).into())
}
