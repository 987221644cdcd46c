//! `--watch`: shows it again, goes on while the server is away, and ends with Ctrl-C.

use std::{
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::bench::{Bench, STATUS, Server, nobody};

#[test]
fn it_is_shown_until_ctrl_c() {
    for (port, text) in
        [(Server::start(&[]).port, "GET /vms"), (nobody(), "Is the cloud scheduler running on port ")]
    {
        let bench = Bench::new();
        let mut command = bench.command(STATUS);
        command.args(["-s", "127.0.0.1", "-p", &port.to_string(), "-m", "--token", "s3cret", "--watch", "1"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut seen = String::new();
        // Twice: it goes on.
        while seen.matches(text).count() < 2 {
            assert_ne!(reader.read_line(&mut seen).unwrap(), 0, "{seen}");
        }
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        reader.read_to_string(&mut seen).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{seen}");
        assert!(
            seen.starts_with("Every 1 s: cloud_status -s 127.0.0.1 ") && !seen.contains("s3cret"),
            "{seen}"
        );
    }
}
