//! Arguments to a subcommand; exit codes; nothing else.

use std::process::ExitCode;

use clap::error::ErrorKind;
use pileus::{cli::Cli, commands};

/// A request is eight small allocations that live as long as it does: what this one is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::read(std::env::args_os()) {
        Ok(cli) => commands::run(cli),
        Err(error) => {
            // A closed pipe is no reason to fail louder.
            error.print().ok();
            match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(commands::USAGE),
            }
        }
    }
}
