//! The audit log of `cloud_admin`: what was done, and why, as Python's `logging` wrote it.
//!
//! Source: cloud-scheduler 1.13.2, `cloud_admin`; CPython 2.7, `Lib/logging`.

use std::{
    fs::{File, OpenOptions},
    io::Write,
};

use jiff::Zoned;

use crate::config::Logging;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// An attempt that came to nothing.
    Debug,
    /// Something was done.
    Info,
}

/// The log.
#[derive(Debug)]
pub struct Audit {
    logging: Logging,
    file: Option<File>,
    least: u8,
    now: fn() -> Zoned,
}

impl Audit {
    /// Opens the log, before anything is changed. `Err`: what is wrong with the configuration.
    pub fn new(logging: Logging, now: fn() -> Zoned) -> Result<Self, String> {
        let least = match logging.level.as_str() {
            "VERBOSE" => 9,
            "DEBUG" => 10,
            "INFO" => 20,
            "WARNING" => 30,
            "ERROR" => 40,
            "CRITICAL" => 50,
            other => return Err(format!("Configuration file problem: log_level `{other}` is none.\n")),
        };
        let open = |path| OpenOptions::new().create(true).append(true).open(path);
        let file = logging.file.as_ref().map(open).transpose().map_err(|error| {
            let path = logging.file.as_deref().unwrap_or("".as_ref()).display();
            format!("Configuration file problem: log_location_cloud_admin {path}: {error}\n")
        })?;
        Ok(Self { logging, file, least, now })
    }

    /// Whether changes need a comment.
    pub fn wants_comments(&self) -> bool {
        self.logging.comments
    }

    /// Writes a line wherever the configuration wants it. `Err`: it could not be written.
    pub fn write(&self, level: Level, message: &str) -> Result<(), String> {
        let (name, number) = match level {
            Level::Debug => ("DEBUG", 10),
            Level::Info => ("INFO", 20),
        };
        if number < self.least || (self.file.is_none() && !self.logging.stderr) {
            return Ok(());
        }
        // A log has a line for each thing.
        let message = message.replace(['\n', '\r'], " ");
        let line = self.line(name, number, &message);
        if self.logging.stderr {
            std::io::stderr().write_all(line.as_bytes()).ok();
        }
        let Some(mut file) = self.file.as_ref() else { return Ok(()) };
        file.write_all(line.as_bytes()).map_err(|error| error.to_string())
    }

    /// `log_format`, filled in. A field that is not known stays as it is written.
    fn line(&self, level: &str, number: u8, message: &str) -> String {
        let mut out = String::new();
        let mut rest = self.logging.format.as_str();
        while let Some((before, after)) = rest.split_once("%(") {
            out.push_str(before);
            rest = after;
            let field = after.split_once(')').and_then(|(name, after)| {
                let kind = after.find(|letter: char| letter.is_ascii_alphabetic())?;
                let (width, after) = after.split_at_checked(kind)?;
                let value = match name {
                    "asctime" => (self.now)().strftime("%Y-%m-%d %H:%M:%S,%3f").to_string(),
                    "levelname" => level.to_owned(),
                    "levelno" => number.to_string(),
                    "message" => message.to_owned(),
                    "name" => "cloudadmin".to_owned(),
                    "process" => std::process::id().to_string(),
                    "processName" => "MainProcess".to_owned(),
                    "threadName" => "MainThread".to_owned(),
                    _ => return None,
                };
                Some((padded(&value, width)?, after.get(1..)?))
            });
            match field {
                Some((value, after)) => {
                    out.push_str(&value);
                    rest = after;
                }
                None => out.push_str("%("),
            }
        }
        out.push_str(rest);
        out.push('\n');
        out
    }
}

/// `-8` pads on the right, `8` on the left.
fn padded(value: &str, width: &str) -> Option<String> {
    let (left, digits) = match width.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, width),
    };
    let width: usize = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    Some(if left { format!("{value:<width$}") } else { format!("{value:>width$}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        jiff::civil::datetime(2016, 1, 8, 13, 14, 15, 678_000_000).to_zoned(jiff::tz::TimeZone::UTC).unwrap()
    }

    #[test]
    fn lines_are_as_python_writes_them() {
        let folder = tempfile::tempdir().unwrap();
        let cases = [
            (Logging::default().format, "2016-01-08 13:14:15,678 - INFO - MainThread - Comment: tidy\n"),
            ("%(levelname)-8s|%(name)12s|%(message)s".into(), "INFO    |  cloudadmin|Comment: tidy\n"),
            ("%(nope)s %(levelno)d 100%".into(), "%(nope)s 20 100%\n"),
        ];
        for (format, line) in cases {
            let file = folder.path().join("log");
            std::fs::remove_file(&file).ok();
            let logging = Logging { format, file: Some(file.clone()), ..Logging::default() };
            let audit = Audit::new(logging, now).unwrap();
            audit.write(Level::Debug, "below the level").unwrap();
            audit.write(Level::Info, "Comment: tidy").unwrap();
            assert_eq!(std::fs::read_to_string(file).unwrap(), line);
        }
    }

    #[test]
    fn a_comment_makes_no_second_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        let logging =
            Logging { format: "%(message)s".into(), file: Some(file.clone()), ..Logging::default() };
        Audit::new(logging, now).unwrap().write(Level::Info, "one\nINFO two").unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "one INFO two\n");
    }

    #[test]
    fn a_level_is_one_of_six_in_capitals() {
        let level =
            |level: &str| Audit::new(Logging { level: level.into(), ..Logging::default() }, now).is_ok();
        assert!(level("VERBOSE") && level("CRITICAL") && !level("info") && !level("LOUD"));
    }
}
