//! The driver `local`, with real processes.
//!
//! A worker is a program of its own. Here this test binary is that program too, run again as
//! `local worker <folder>`; therefore it has a `main` of its own and lists its tests.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::print_stdout)] // all of it is a test, but clippy knows `#[test]` alone

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
        [_, word, _, words @ ..] if word == "job-exec" => {
            return pileus_engine::drivers::local::job_exec::main(words);
        }
        [_, word, state_dir] if word == "server" => world::serve(Path::new(state_dir)),
        _ => {}
    }
    let can = can_become_others();
    let for_all = [jobs::TESTS, life::TESTS, channel::TESTS].concat().into_iter().map(|test| (test, false));
    let for_root = isolation::TESTS.iter().map(|test| (*test, !can));
    let trials = for_all.chain(for_root).map(|((name, test), ignored)| {
        let run = move || {
            test();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(ignored)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// Whether this is a root with the rights that VMs of other users need: `CAP_CHOWN`,
/// `CAP_DAC_OVERRIDE`, `CAP_FOWNER`, `CAP_KILL`, `CAP_SETGID`, `CAP_SETUID`, and users to become.
fn can_become_others() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let rights = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let users = map.split_whitespace().last().map_or(0, |count| count.parse::<u64>().unwrap());
    nix::unistd::geteuid().is_root()
        && u64::from_str_radix(rights.trim(), 16).unwrap() & 0xeb == 0xeb
        && users > 61_184
}
