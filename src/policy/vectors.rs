//! Tests of rules: files of vectors, each a set of rules, a question, and the answer it must get.
//!
//! The format: a list of `{"name", "rules", "rule", "creds", "target", "expect"}`, where `expect` is
//! `allow`, `deny` or `error`. For `error` any answer but *allow* will do.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Decision, Policy};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    rules: Map<String, Value>,
    rule: String,
    creds: Value,
    target: Map<String, Value>,
    expect: Expect,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Expect {
    Allow,
    Deny,
    Error,
}

/// How many vectors came out as they must.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// As they must.
    pub passed: usize,
    /// Otherwise; a file that cannot be read counts as one.
    pub failed: usize,
}

/// Runs the vectors of these files, and writes each failure with its evaluation tree, then the sum.
pub fn run_files(files: &[PathBuf], out: &mut dyn Write) -> io::Result<Summary> {
    let mut summary = Summary::default();
    for file in files {
        let vectors = fs::read_to_string(file)
            .map_err(|error| error.to_string())
            .and_then(|text| serde_json::from_str::<Vec<Vector>>(&text).map_err(|error| place_first(&error)));
        match vectors {
            Ok(vectors) => {
                for vector in vectors {
                    match vector.run() {
                        None => summary.passed += 1,
                        Some(failure) => {
                            summary.failed += 1;
                            writeln!(out, "{}: {failure}", file.display())?;
                        }
                    }
                }
            }
            Err(error) => {
                summary.failed += 1;
                let separator =
                    if error.starts_with(|letter: char| letter.is_ascii_digit()) { ":" } else { ": " };
                writeln!(out, "{}{separator}{error}", file.display())?;
            }
        }
    }
    writeln!(out, "{} passed, {} failed", summary.passed, summary.failed)?;
    Ok(summary)
}

/// `3:14: expected value`: what editors jump to.
fn place_first(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    format!("{}:{}: {text}", error.line(), error.column())
}

impl Vector {
    /// What is wrong with the answer.
    fn run(&self) -> Option<String> {
        let policy = Policy::from_rules(&self.rules);
        let decision = policy.check(policy.rule(&self.rule), &self.creds, &self.target);
        let (told, tree) = policy.explain(&self.rule, &self.creds, &self.target);
        let right = match self.expect {
            Expect::Allow => decision == Decision::Allow,
            Expect::Deny => decision == Decision::Deny,
            Expect::Error => !decision.allowed(),
        };
        let expected = match self.expect {
            Expect::Allow => "allow",
            Expect::Deny => "deny",
            Expect::Error => "error (anything but allow)",
        };
        let tree = tree.trim_end().replace('\n', "\n    ");
        (!right || told != decision)
            .then(|| format!("{}\n  expected: {expected}\n  got:      {decision}\n    {tree}", self.name))
    }
}
