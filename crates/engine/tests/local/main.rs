//! The driver `local`, with real processes.
//!
//! A worker is a program of its own. Here this test binary is that program too, run again as
//! `local worker <folder>`; therefore it has a `main` of its own and lists its tests.

#![allow(clippy::unwrap_used, clippy::panic)] // all of it is a test, but clippy knows `#[test]` alone

mod channel;
mod isolation;
mod jobs;
mod life;
mod world;

use std::{path::Path, process::ExitCode};

use libtest_mimic::{Arguments, Trial};

/// A test gets a world of its own, which is cleaned up whatever happens.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    match &arguments[..] {
        [_, word, folder] if word == "worker" => {
            return pileus_engine::drivers::local::worker::main(Path::new(folder));
        }
        [_, word, state_dir] if word == "server" => world::serve(Path::new(state_dir)),
        _ => {}
    }
    let root = nix::unistd::geteuid().is_root();
    let for_all = [jobs::TESTS, life::TESTS, channel::TESTS].concat().into_iter().map(|test| (test, false));
    let for_root = isolation::TESTS.iter().map(|test| (*test, !root));
    let trials = for_all.chain(for_root).map(|((name, test), ignored)| {
        let run = move || {
            test();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(ignored)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
