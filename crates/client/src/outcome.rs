//! What came of a run: what is printed, and how it ended. Exit codes are made of it here, and nowhere else.

use std::io::Write;

use crate::program::Which;

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// For standard output.
    pub out: Vec<u8>,
    /// For standard error.
    pub err: String,
    /// How it ended.
    pub end: End,
}

/// How a run ended, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum End {
    /// Done.
    #[default]
    Done,
    /// The server said no, or did a part of it.
    Refused,
    /// Options are lacking.
    Incomplete,
    /// There is no such thing to ask for.
    NotOffered,
    /// No answer, or none that makes sense.
    NoAnswer,
    /// A configuration that cannot be read.
    BadConfig,
}

/// What an exit code has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codes {
    /// As the old programs: `cloud_status` 0 or 1, `cloud_admin` 0.
    Old(Which),
    /// What happened.
    Strict,
}

/// A wrong option: optparse's own code.
pub const USAGE: u8 = 2;

impl End {
    /// The exit code.
    pub fn code(self, codes: Codes) -> u8 {
        match (codes, self) {
            (_, Self::Done) => 0,
            (Codes::Old(_), Self::BadConfig) => 1,
            (Codes::Old(Which::Status), Self::NoAnswer) => 1,
            (Codes::Old(_), _) => 0,
            (Codes::Strict, Self::Refused) => 1,
            (Codes::Strict, Self::Incomplete) => USAGE,
            (Codes::Strict, Self::NotOffered | Self::NoAnswer) => 69,
            (Codes::Strict, Self::BadConfig) => 78,
        }
    }
}

impl Outcome {
    /// A line of output.
    pub fn say(&mut self, line: &str) {
        self.print(line.as_bytes());
    }

    /// Bytes as they are, and a new line, as Python's `print`.
    pub fn print(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        self.out.push(b'\n');
    }

    /// A line of standard error.
    pub fn complain(&mut self, line: &str) {
        self.err.push_str(line);
        self.err.push('\n');
    }

    /// The worst end is the end.
    pub fn ends(&mut self, end: End) {
        self.end = self.end.max(end);
    }

    /// Prints both. A closed pipe means that the reader has seen enough.
    pub fn show(&self) {
        let mut out = std::io::stdout().lock();
        out.write_all(&self.out).and_then(|()| out.flush()).ok();
        std::io::stderr().write_all(self.err.as_bytes()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_old_ones_or_tell_what_happened() {
        #[rustfmt::skip]
        let cases = [
            (End::Done,       0, 0, 0),
            (End::Refused,    0, 0, 1),
            (End::Incomplete, 0, 0, 2),
            (End::NotOffered, 0, 0, 69),
            (End::NoAnswer,   1, 0, 69),
            (End::BadConfig,  1, 1, 78),
        ];
        for (end, status, admin, strict) in cases {
            let codes = [Codes::Old(Which::Status), Codes::Old(Which::Admin), Codes::Strict];
            assert_eq!(codes.map(|codes| end.code(codes)), [status, admin, strict], "{end:?}");
        }
    }
}
