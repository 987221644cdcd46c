//! One file for each word of the command line.

mod api_server;
mod check;
mod convert;
mod explain;
mod explain_request;
mod explain_time;
mod listing;
mod policy;
mod serve;
mod state;
mod token;

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use crate::{
    cli::{Cli, Command, ExplainCommand, Options, PolicyCommand},
    diagnostic::Report,
};

/// Done.
pub const OK: u8 = 0;
/// Something was found wanting: a vector that failed, a request that the server refused.
pub const FAILED: u8 = 1;
/// `EX_USAGE`: a wrong word on the command line.
pub const USAGE: u8 = 64;
/// `EX_UNAVAILABLE`: a port or the state folder is taken.
pub const UNAVAILABLE: u8 = 69;
/// `EX_SOFTWARE`: a bug.
pub const SOFTWARE: u8 = 70;
/// `EX_CONFIG`: a mistake in a file.
pub const CONFIG: u8 = 78;

/// Does what the command line says.
pub fn run(cli: Cli) -> ExitCode {
    let code = match cli.command {
        None => serve::run(&cli.options),
        Some(Command::Serve(options)) => serve::run(&options),
        Some(Command::Check(options)) => check::run(&options),
        Some(Command::Routes(listing)) => listing::routes(&listing),
        Some(Command::Pipeline { listing, graph }) => listing::pipeline(&listing, graph),
        Some(Command::Extensions(listing)) => listing::extensions(&listing),
        Some(Command::Explain { command: Some(ExplainCommand::Job(job)), .. }) => explain::job(&job),
        Some(Command::Explain { command: None, request }) => explain_request::run(&request),
        Some(Command::Policy { command, .. }) => match command {
            PolicyCommand::List(listing) => policy::list(&listing),
            PolicyCommand::Check { files, options } => policy::check(&files, &options),
            PolicyCommand::Explain(asked) => policy::explain(&asked),
            PolicyCommand::Test { files } => policy::test(&files),
        },
        Some(Command::Token { command, .. }) => token::run(&command),
        Some(Command::State { command, .. }) => state::run(&command),
        Some(Command::Convert(options)) => convert::run(&options),
        Some(Command::Worker { folder }) => return pileus_engine::drivers::local::worker::main(&folder),
        Some(Command::JobExec { words }) => return pileus_engine::drivers::local::job_exec::main(&words),
    };
    ExitCode::from(code)
}

/// Checks the files; says what is wrong on stderr. `None` where there is an error.
fn checked(options: &Options) -> Option<crate::Checked> {
    let mut report = Report::default();
    let checked = crate::check(options, &mut report);
    say(&report);
    checked.filter(|_| report.errors() == 0)
}

/// Writes a line to stderr. The exit code counts, also where nothing reads what stands beside it.
fn tell(text: std::fmt::Arguments<'_>) {
    writeln!(std::io::stderr(), "{text}").ok();
}

/// Writes a line to stdout, if something reads it.
fn print(text: std::fmt::Arguments<'_>) {
    writeln!(std::io::stdout(), "{text}").ok();
}

fn say(report: &Report) {
    if report.errors() + report.warnings() > 0 {
        tell(format_args!("{}", report.render(std::io::stderr().is_terminal())));
    }
}
