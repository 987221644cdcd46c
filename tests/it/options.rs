//! Options of the command line: each counts wherever it stands, or is refused.

use std::fs;

use crate::support::Place;

/// A command: subcommands, arguments, options that it uses.
type Row = (&'static [&'static str], &'static [&'static str], &'static [&'static str]);

const FILES: &[&str] = &["--config", "--paste", "--policy"];
const ALL: &[&str] = &["--config", "--paste", "--policy", "--state"];

const COMMANDS: &[Row] = &[
    (&[], &[], ALL),
    (&["serve"], &[], ALL),
    (&["check"], &[], ALL),
    (&["check"], &["--json"], ALL),
    (&["routes"], &[], FILES),
    (&["routes"], &["--json"], FILES),
    (&["pipeline"], &[], FILES),
    (&["pipeline"], &["--graph"], FILES),
    (&["extensions"], &[], FILES),
    (&["explain"], &["GET", "/v2/demo/clouds"], FILES),
    (&["explain"], &["--time", "GET", "/v2/demo/clouds"], ALL),
    (&["token", "list"], &[], &["--config", "--paste", "--state"]),
    (&["token", "create"], &["laptop"], &["--config", "--paste", "--state"]),
    (&["token", "revoke"], &["laptop"], &["--config", "--paste", "--state"]),
    (&["policy", "list"], &[], FILES),
    (&["policy", "explain"], &["clouds:index"], FILES),
    (&["policy", "check"], &["policy.json"], &["--config"]),
    (&["policy", "test"], &["vectors.json"], &[]),
    (&["convert"], &["policy.json"], &[]),
];

#[test]
fn an_option_counts_wherever_it_stands_or_is_refused() {
    let place = Place::quick(1);
    place.write("vectors.json", "[]");
    place.write("a-file", "no folder");
    let mut broken = Vec::new();
    for (words, rest, uses) in COMMANDS {
        for option in ALL {
            let value = if *option == "--state" { "a-file" } else { "/nonexistent/file" };
            for at in 0..=words.len() {
                let mut args = words[..at].to_vec();
                // Behind all words it also stands behind the arguments.
                let (inner, tail) =
                    if at == words.len() { (&[][..], *rest) } else { (&words[at..], &[][..]) };
                args.extend(tail);
                args.extend([*option, value]);
                args.extend(inner);
                if tail.is_empty() && at < words.len() {
                    args.extend(*rest);
                }
                let (status, stdout, stderr) = place.run(&args);
                let said = format!("{stdout}{stderr}");
                let (codes, named): (&[i32], &str) = match uses.contains(option) {
                    true if *option == "--state" => (&[69, 78], value),
                    true => (&[78], value),
                    false => (&[64], option),
                };
                if !status.code().is_some_and(|code| codes.contains(&code)) || !said.contains(named) {
                    broken.push(format!("{args:?}: {status}: {said}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn explain_job_takes_its_state_folder_from_anywhere() {
    let place = Place::quick(1);
    for args in [
        ["--state", "nowhere", "explain", "job", "7"],
        ["explain", "--state", "nowhere", "job", "7"],
        ["explain", "job", "7", "--state", "nowhere"],
    ] {
        let (status, _, stderr) = place.run(&args);
        assert_eq!(status.code(), Some(69), "{args:?}: {stderr}");
        assert!(stderr.contains("nowhere/admin-token"), "{args:?}: {stderr}");
    }
}

#[test]
fn an_option_that_would_be_lost_is_refused() {
    let place = Place::quick(1);
    for args in [
        &["--config", "pileus.toml", "check", "--config", "pileus.toml"][..],
        &["--policy", "policy.json", "policy", "--policy", "policy.json", "list"],
        &["check", "--config", "pileus.toml", "--config", "pileus.toml"],
        &["explain", "--json", "job", "7"],
        &["explain", "--server", "api", "job", "7"],
        &["explain", "GET", "job", "7"],
        &["explain", "--url", "http://127.0.0.1:1", "GET", "/v2/demo/clouds"],
        &["pipeline", "--graph", "--json"],
        &["--json", "check"],
    ] {
        let (status, stdout, stderr) = place.run(args);
        assert_eq!(status.code(), Some(64), "{args:?}: {stdout}{stderr}");
        assert!(stderr.contains("error: "), "{args:?}: {stderr}");
    }
    let (status, _, stderr) = place.run(&["--config", "pileus.toml", "check"]);
    assert_eq!(status.code(), Some(0), "{stderr}");
}

/// Options without effect are not in the help of a subcommand.
#[test]
fn help_lists_what_a_subcommand_uses() {
    let place = Place::quick(1);
    for (words, _, uses) in COMMANDS {
        let (status, stdout, stderr) = place.run(&[*words, &["--help"]].concat());
        assert_eq!(status.code(), Some(0), "{words:?}: {stderr}");
        // `explain` takes the folder with `--time`.
        for option in ALL.iter().filter(|option| **option != "--state" || *words != ["explain"]) {
            assert_eq!(
                stdout.contains(&format!("{option} <")),
                uses.contains(option),
                "{words:?} {option}: {stdout}"
            );
        }
    }
    let (_, stdout, _) = place.run(&["--help"]);
    for word in ["PILEUS_LOG ", "PILEUS_LOG_FORMAT", "off, error, warn, info, debug, trace", "text or json"] {
        assert!(stdout.contains(word), "{word}: {stdout}");
    }
}

#[test]
fn a_wrong_variable_of_the_log_is_exit_78_with_the_accepted_words() {
    let place = Place::quick(1);
    let cases = [
        ("PILEUS_LOG", "pileus=dbug,,x", "`dbug`", "off, error, warn, info, debug, trace"),
        ("PILEUS_LOG", "dbug", "`dbug`", "did you mean `debug`?"),
        ("PILEUS_LOG", "info,", "two commas", "TARGET=LEVEL"),
        ("PILEUS_LOG_FORMAT", "jsn", "`jsn`", "`text` or `json`"),
    ];
    for (name, value, message, help) in cases {
        for command in ["serve", "check"] {
            let output = place.command(&[command]).env(name, value).output().expect("pileus runs");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(78), "{name}={value}: {stderr}");
            assert!(stderr.contains(name) && stderr.contains(message) && stderr.contains(help), "{stderr}");
        }
    }
    for name in ["PILEUS_LOG", "PILEUS_LOG_FORMAT"] {
        let status = place.command(&["check"]).env(name, "").status().expect("pileus runs");
        assert!(status.success(), "{name} is empty");
    }
    assert!(!fs::exists(place.state()).expect("a look"), "nothing was started");
}
