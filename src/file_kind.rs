//! Kinds of files, recognised by their text: one given for another is one error, not one for each line.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;
use toml::de::DeTable;

use crate::{
    diagnostic::{Diagnostic, Place, Source},
    paste::Group,
};
/// Kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `pileus.toml`.
    Config,
    /// `api-paste.toml`.
    Paste,
    /// `policy.json`.
    Policy,
    /// Aliases of clouds, named by `cloud_aliases`.
    Aliases,
    /// Limits of users, named by `user_limits`.
    Limits,
    /// A file in PEM: a certificate or a key.
    Pem,
    /// A paste file of another program: `api-paste.ini`.
    PasteIni,
    /// Another file of sections, of Cloud Scheduler or OpenStack.
    Ini,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Config => "settings, as of pileus.toml",
            Self::Paste => "pipelines, as of api-paste.toml",
            Self::Policy => "rules, as of policy.json",
            Self::Aliases => "aliases of clouds",
            Self::Limits => "limits of users",
            Self::Pem => "a certificate or a key in PEM",
            Self::PasteIni => "pipelines in the form of Paste Deploy",
            Self::Ini => "sections of an INI file",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Config => "name it by `--config`",
            Self::Paste => "name it by `--paste`",
            Self::Policy => "name it by `--policy`",
            Self::Aliases => "name it by `cloud_aliases` in pileus.toml",
            Self::Limits => "name it by `user_limits` in pileus.toml",
            Self::Pem => {
                "name it by the setting that is for it, as `certificate` in `tls` of a [server.NAME]"
            }
            Self::PasteIni | Self::Ini => "`pileus convert` makes Pileus's own files of it",
        }
    }
}

/// Returns the error of a file that is plainly of another kind than the one that is wanted.
pub fn check(source: &Arc<Source>, wanted: Kind) -> Result<(), Diagnostic> {
    match of(&source.text) {
        Some(kind) if kind != wanted => {
            let text = format!("expected {}, found {}", wanted.name(), kind.name());
            let start = Place { source: source.clone(), span: 0..0 };
            Err(Diagnostic::error(text).at(start).help(kind.help()))
        }
        _ => Ok(()),
    }
}

/// Recognises a text; `None` where it is not plainly of one kind.
fn of(text: &str) -> Option<Kind> {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    if start.starts_with('{') {
        return json(start);
    }
    let (top, errors) = DeTable::parse_recoverable(text);
    let keys: BTreeSet<&str> = top.get_ref().keys().map(|key| &**key.get_ref()).collect();
    let paste = keys.iter().filter(|key| PASTE.contains(key) || Group::named(key).is_some()).count();
    let config = keys.iter().filter(|key| CONFIG.contains(key)).count();
    if errors.is_empty() {
        return match (paste, config) {
            (0, 0) => rules_in_yaml(text),
            (_, 0) => Some(Kind::Paste),
            (0, _) => Some(Kind::Config),
            _ => None,
        };
    }
    if pem(text) {
        return Some(Kind::Pem);
    }
    // A mistake in a file of the right kind is told by its own reader.
    if paste + config > 0 && !ini_headers(text).any(|header| header.contains(':')) {
        return None;
    }
    ini(text).or_else(|| rules_in_yaml(text))
}

/// Keys at the top of `api-paste.toml`, besides the kinds of sections.
const PASTE: [&str; 3] = ["default", "base", "change"];

/// Keys at the top of `pileus.toml`.
const CONFIG: [&str; 10] = [
    "auth_strategy",
    "extensions",
    "store",
    "cloud_aliases",
    "user_limits",
    "scheduler",
    "credentials",
    "job_defaults",
    "policy",
    "clouds",
];

fn json(text: &str) -> Option<Kind> {
    let Ok(Value::Object(members)) = serde_json::from_str(text) else {
        // Broken JSON is no TOML, whatever it was to be.
        return Some(Kind::Policy);
    };
    let is_word = |value: &Value| {
        value.as_str().is_some_and(|text| !matches!(text, "" | "@" | "!") && !text.contains(':'))
    };
    let names =
        |value: &Value| value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(is_word));
    match () {
        () if members.is_empty() => None,
        () if members.keys().any(|name| name.contains(':') || name == "default") => Some(Kind::Policy),
        () if members.values().all(Value::is_u64) => Some(Kind::Limits),
        () if members.values().all(names) => Some(Kind::Aliases),
        () => Some(Kind::Policy),
    }
}

/// Most lines in front of what tells a kind: comments, and the text of a certificate.
const LINES: usize = 200;

fn pem(text: &str) -> bool {
    text.lines().take(LINES).any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with("-----"))
}

fn ini_headers(text: &str) -> impl Iterator<Item = &str> {
    let header = |line: &'_ str| -> Option<(usize, usize)> {
        let end = line.trim_end();
        (end.starts_with('[') && end.ends_with(']') && !end.starts_with("[[")).then(|| (1, end.len() - 1))
    };
    text.lines().filter_map(move |line| header(line).and_then(|(start, end)| line.get(start..end)))
}

/// A file of sections whose values stand without quotes.
fn ini(text: &str) -> Option<Kind> {
    let mut headers = ini_headers(text).peekable();
    headers.peek()?;
    let words = ["app:", "application:", "pipeline:", "filter:", "composite:", "filter-app:", "server:"];
    let paste = headers.any(|header| words.iter().any(|word| header.starts_with(word)));
    let bare = text.lines().any(|line| {
        let value = line.split_once('=').filter(|_| !line.trim_start().starts_with(['#', ';']));
        value.is_some_and(|(_, value)| {
            let value = value.trim();
            let first = value.chars().next();
            first.is_some_and(|letter| letter.is_ascii_alphabetic() || letter == '/')
                && !["true", "false", "inf", "nan"].iter().any(|word| value.starts_with(word))
        })
    });
    match (paste, bare) {
        (true, _) => Some(Kind::PasteIni),
        (false, true) => Some(Kind::Ini),
        (false, false) => None,
    }
}

/// `"clouds:index": "rule:member"`, one a line.
fn rules_in_yaml(text: &str) -> Option<Kind> {
    let mut lines = text.lines().map(str::trim_end).filter(|line| {
        let start = line.trim_start();
        !start.is_empty() && !start.starts_with('#') && *line != "---"
    });
    let rule = |line: &str| match line.strip_prefix(['"', '\'']) {
        Some(rest) => {
            rest.split_once(['"', '\'']).is_some_and(|(_, rest)| rest.trim_start().starts_with(':'))
        }
        None => line.split_once(": ").is_some_and(|(name, _)| !name.contains([' ', '=', '['])),
    };
    lines.next().is_some_and(rule).then_some(Kind::Policy)
}
