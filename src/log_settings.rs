//! `PILEUS_LOG` and `PILEUS_LOG_FORMAT`: filter and format of the log.
//!
//! A wrong value is an error, as one of a file is. `EnvFilter` takes an unknown word for a target, and a
//! wrong directive away without an error: then the log lacks what the operator asked for.

use std::{env, ffi::OsString, str::FromStr};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::diagnostic::{Diagnostic, Report, nearest, shortened};

/// Levels of `PILEUS_LOG`.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Words of `PILEUS_LOG_FORMAT`.
const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

/// Form of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For terminals and journals.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// Settings of the log that come from the environment.
#[derive(Debug)]
pub struct LogSettings {
    /// Events that are logged.
    pub filter: EnvFilter,
    /// Form of a line.
    pub format: LogFormat,
}

impl LogSettings {
    /// Reads the variables of this process. `None` where one is wrong; the report has the reason.
    pub fn from_environment(report: &mut Report) -> Option<Self> {
        let said = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let filter = report.take(filter(said("PILEUS_LOG")));
        let format = report.take(format(said("PILEUS_LOG_FORMAT")));
        Some(Self { filter: filter?, format: format? })
    }
}

fn text(name: &str, value: Option<OsString>) -> Result<Option<String>, Diagnostic> {
    let text = value.map(OsString::into_string).transpose();
    text.map_err(|_| Diagnostic::error(format!("{name} is not UTF-8")))
}

fn filter(value: Option<OsString>) -> Result<EnvFilter, Diagnostic> {
    let Some(text) = text("PILEUS_LOG", value)? else { return Ok(EnvFilter::new("info")) };
    let directives: Vec<&str> = text.split(',').map(str::trim).collect();
    directives.iter().try_for_each(|directive| check(directive))?;
    let text = directives.join(",");
    let wrong = |error| wrong(&format!("`{}`: {error}", shortened(&text)));
    EnvFilter::builder().parse(&text).map_err(wrong)
}

fn check(directive: &str) -> Result<(), Diagnostic> {
    let shown = shortened(directive);
    if directive.is_empty() {
        return Err(wrong("nothing stands between two commas"));
    }
    let (target, level) = match directive.rsplit_once('=') {
        // A span's fields have an equals sign of their own.
        Some((_, level)) if level.contains([']', '}']) => (directive, None),
        Some((target, level)) => (target, Some(level)),
        None if directive.contains('[') => (directive, None),
        None => ("", Some(directive)),
    };
    let known = |level: &str| !level.is_empty() && LevelFilter::from_str(level).is_ok();
    if let Some(level) = level.filter(|level| !known(level)) {
        let problem = wrong(&format!("`{}` in `{shown}` is no level", shortened(level)));
        return Err(match nearest(level, LEVELS) {
            Some(near) => {
                let help = problem.help.clone().unwrap_or_default();
                problem.help(format!("did you mean `{near}`? {help}"))
            }
            None => problem,
        });
    }
    let target_is_name = target.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-:.".contains(&byte));
    let has_target = !target.is_empty() || !directive.contains('=');
    match target.contains('[') || target_is_name && has_target {
        true => Ok(()),
        false => Err(wrong(&format!("`{shown}` has no target in front of `=`"))),
    }
}

fn wrong(what: &str) -> Diagnostic {
    let help = format!(
        "write LEVEL or TARGET=LEVEL, separated by commas, as in `info,pileus=debug`; levels are {}",
        LEVELS.join(", ")
    );
    Diagnostic::error(format!("PILEUS_LOG: {what}")).help(help)
}

fn format(value: Option<OsString>) -> Result<LogFormat, Diagnostic> {
    let Some(text) = text("PILEUS_LOG_FORMAT", value)? else { return Ok(LogFormat::Text) };
    let found = FORMATS.iter().find(|(word, _)| *word == text).map(|(_, format)| *format);
    found.ok_or_else(|| {
        let words = FORMATS.map(|(word, _)| format!("`{word}`")).join(" or ");
        let text = format!("PILEUS_LOG_FORMAT: there is no format `{}`", shortened(&text));
        Diagnostic::error(text).help(format!("write {words}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_filters_are_errors_with_the_accepted_words() {
        let good = [
            "info",
            "INFO",
            "off",
            "pileus=debug",
            "warn, pileus::serve=trace",
            "info,[request{id=7}]=debug",
            "[request]",
            "pileus[request]=trace",
            "info,h2=off",
            "3",
        ];
        for text in good {
            assert!(filter(Some(text.into())).is_ok(), "{text}");
        }
        assert_eq!(filter(None).unwrap().to_string(), "info");
        let bad = [
            ("pileus=dbug", "`dbug` in `pileus=dbug` is no level", "did you mean `debug`?"),
            ("dbug", "`dbug` in `dbug` is no level", "did you mean `debug`?"),
            ("pileus=debug,,x", "nothing stands between two commas", "TARGET=LEVEL"),
            ("info,x", "`x` in `x` is no level", "trace"),
            ("info,", "nothing stands between two commas", "error, warn"),
            (",", "nothing stands between two commas", "error, warn"),
            (" ", "nothing stands between two commas", "error, warn"),
            ("pileus=", "`` in `pileus=` is no level", "off"),
            ("=debug", "`=debug` has no target", "TARGET=LEVEL"),
            ("pileus debug", "`pileus debug` in `pileus debug` is no level", "TARGET=LEVEL"),
            ("pileus=debug=info", "has no target", "TARGET=LEVEL"),
            ("[request{a=1,b=2}]=debug", "PILEUS_LOG", "TARGET=LEVEL"),
            ("pileus[x=debug", "PILEUS_LOG", "TARGET=LEVEL"),
            ("6", "`6` in `6` is no level", "levels are off"),
        ];
        for (text, message, help) in bad {
            let problem = filter(Some(text.into())).expect_err(text);
            assert!(problem.message.contains(message), "{text}: {}", problem.message);
            let said = problem.help.unwrap_or_default();
            assert!(said.contains(help) && said.contains("debug, trace"), "{text}: {said}");
        }
        let long = filter(Some("x".repeat(100_000).into())).unwrap_err();
        assert!(long.message.len() < 500, "{}", long.message.len());
    }

    #[test]
    fn a_wrong_format_is_an_error() {
        assert_eq!(format(None), Ok(LogFormat::Text));
        assert_eq!(format(Some("json".into())), Ok(LogFormat::Json));
        assert_eq!(format(Some("text".into())), Ok(LogFormat::Text));
        for text in ["jsn", "JSON", "pretty", " "] {
            let problem = format(Some(text.into())).unwrap_err();
            assert_eq!(problem.help.as_deref(), Some("write `text` or `json`"), "{text}");
        }
    }
}
