//! `--help`, completions and man pages: every option is in each of them.

use std::process::Command;

use pileus_client::{
    options::{Kind, SHELLS},
    program::{CLOUD_ADMIN, CLOUD_STATUS, Program},
};

use crate::bench::{ADMIN, Bench, STATUS};

const PROGRAMS: [(&Program, &str); 2] = [(&CLOUD_STATUS, STATUS), (&CLOUD_ADMIN, ADMIN)];

#[test]
fn help_tells_every_option_with_examples() {
    for (program, path) in PROGRAMS {
        for spelling in ["-h", "--help", "--hel", "-h --nope"] {
            let ran = Bench::new().run(path, spelling);
            assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{spelling}");
            assert!(ran.out.contains(&format!("Usage: {} [options]", program.name)), "{}", ran.out);
            for option in program.options() {
                let spelling = match (option.short, option.long) {
                    (Some(short), Some(long)) => format!("  -{short}, --{long}"),
                    (Some(short), None) => format!("  -{short}"),
                    (None, long) => format!("      --{}", long.unwrap()),
                };
                assert!(ran.out.lines().any(|line| line.starts_with(&spelling)), "{spelling}: {}", ran.out);
            }
            assert!(ran.out.contains("Examples:\n") && ran.out.contains("Exit codes:"), "{}", ran.out);
        }
    }
}

#[test]
fn completions_know_every_option_and_choice() {
    for (program, path) in PROGRAMS {
        for shell in SHELLS {
            let ran = Bench::new().run(path, &format!("--completions {shell}"));
            assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{shell}");
            for option in program.options() {
                let long = option.long.map(|long| match *shell {
                    "fish" => format!("-l {long}"),
                    _ => format!("--{long}"),
                });
                let short = option.short.map(|short| match *shell {
                    "fish" => format!("-s {short}"),
                    _ => format!("-{short}"),
                });
                for spelling in long.iter().chain(&short) {
                    assert!(ran.out.contains(spelling), "{shell}: {spelling}");
                }
                if let Kind::Choice(_, words) = option.kind {
                    assert!(words.iter().all(|word| ran.out.contains(word)), "{shell}: {words:?}");
                }
            }
        }
    }
}

/// The bash script is used as bash uses it.
#[test]
fn bash_completes_an_option_and_a_choice() {
    let script = r#"
        eval "$("$0" --completions bash)"
        ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _cloud_status cloud_status "${!#}" "${COMP_WORDS[COMP_CWORD-1]}"; echo "${COMPREPLY[*]}"; }
        ask cloud_status --virt
        ask cloud_status -q he
    "#;
    let output = Command::new("bash").args(["--norc", "-c", script, STATUS]).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(out, "--virtual-machines\nheld\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn man_pages_have_every_option() {
    for (program, path) in PROGRAMS {
        let ran = Bench::new().run(path, "--man");
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        assert!(ran.out.contains(&format!(".TH {}", program.name)), "{}", ran.out);
        for option in program.options() {
            let long = option.long.map(|long| format!("\\-\\-{}", long.replace('-', "\\-")));
            let short = option.short.map(|short| format!("\\-{short}"));
            for spelling in long.iter().chain(&short) {
                assert!(ran.out.contains(spelling), "{spelling}: {}", ran.out);
            }
        }
    }
}

#[test]
fn versions_are_told() {
    let told = Bench::new().run(ADMIN, "--version").out;
    assert_eq!(told, format!("cloud_admin {} (of Cloud Scheduler 1.13.2)\n", env!("CARGO_PKG_VERSION")));
}
