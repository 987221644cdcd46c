//! `cloud_status` and `cloud_admin`: the programs of Cloud Scheduler's operators, for its old ports and
//! for Pileus's own `/v2`.
//!
//! Stands beside the server and knows it over HTTP alone: nothing of it is linked in. Without
//! `--project` the old programs are imitated to the byte, exit codes included ([`old`]); with it the
//! same options speak `/v2` ([`native`]). One table of options ([`options`]) drives the parser,
//! `--help`, completions and the man page.
//! Source: cloud-scheduler 1.13.2, `cloud_status` and `cloud_admin`.

pub mod audit;
pub mod config;
pub mod http;
pub mod ini;
pub mod native;
pub mod old;
pub mod options;
pub mod outcome;
pub mod parse;
pub mod program;
mod session;
pub mod teach;
pub mod watch;

use std::{env, io::Write, path::Path, process::ExitCode};

use options::Id;
use outcome::USAGE;
use program::{Program, Which};

/// A program's `main`.
pub fn main(program: &'static Program) -> ExitCode {
    let mut words = Vec::new();
    for word in env::args_os() {
        match word.into_string() {
            Ok(word) => words.push(word),
            Err(word) => return usage(program.name, &format!("not UTF-8: {}", word.display())),
        }
    }
    let called = if words.is_empty() { program.name.to_owned() } else { words.remove(0) };
    let base =
        Path::new(&called).file_name().and_then(|name| name.to_str()).unwrap_or(program.name).to_owned();
    let given = match parse::parse(program, words.clone()) {
        Ok(given) => given,
        Err(error) => return usage(&base, &error),
    };
    let page = if given.is(Id::Help) {
        teach::help(program).into_bytes()
    } else if let Some(shell) = given.text(Id::Completions) {
        teach::completions(program, shell)
    } else if given.is(Id::Man) {
        teach::man(program).unwrap_or_default()
    } else if program.which == Which::Admin && given.is(Id::Version) {
        format!("{}\n", teach::version(program)).into_bytes()
    } else {
        return session::run(program, &called, &base, &words.join(" "), &given);
    };
    // A closed pipe means that the reader has seen enough.
    std::io::stdout().lock().write_all(&page).ok();
    ExitCode::SUCCESS
}

/// A wrong option: told as optparse tells it.
fn usage(base: &str, error: &str) -> ExitCode {
    writeln!(std::io::stderr(), "Usage: {base} [options]\n\n{base}: error: {error}").ok();
    ExitCode::from(USAGE)
}
