//! INI files, as Python's `ConfigParser` reads them, with the place of everything.
//!
//! | rule | here |
//! | --- | --- |
//! | a line is split at | the first `=` or `:`, whichever comes first |
//! | a deeper indented line | continues the value; the line break stays in it |
//! | `#` and `;` | make a comment of a whole line; behind a value they are part of it |
//! | an empty line | goes on inside of a value; at its end it is dropped |
//! | a section or key that stands there twice | the last one holds, as in Python 2; the caller is told |
//! | `[DEFAULT]` | its keys are seen in every section |
//! | capitals | tell names apart; who does not want that asks [`Section::any_case`] |
//!
//! The crates for INI files (`rust-ini`, `configparser`) know no places, and other rules.
//! Source: Python, `Lib/configparser.py`; Paste Deploy, `paste/deploy/loadwsgi.py`.
//!
//! **Secrets.** Places lead into a copy of the text in which the values of keys that look like
//! secrets are covered: a snippet under a diagnostic cannot show one.

use std::{ops::Range, sync::Arc};

use crate::diagnostic::{Diagnostic, Place, Source};

/// How often names may lead to each other: Python's own limit.
const MAX_DEPTH: usize = 10;

/// Longest value that names may grow to, in bytes.
const MAX_TEXT: usize = 64 * 1024;

/// What a secret is replaced by.
pub const COVER: &str = "***";

/// A file.
#[derive(Debug)]
pub struct Ini {
    /// `[DEFAULT]`; empty where there is none.
    pub default: Section,
    /// All others, in their order.
    pub sections: Vec<Section>,
    /// What `%(here)s` stands for; nothing, where it is a name like any other.
    pub here: Option<&'static str>,
    /// What holds, though it is not good.
    pub warnings: Vec<Diagnostic>,
}

/// A section.
#[derive(Debug, Clone)]
pub struct Section {
    /// Without its brackets.
    pub name: String,
    /// Its header.
    pub place: Place,
    /// In their order.
    pub options: Vec<Opt>,
}

/// A line `key = value`, with those that continue it.
#[derive(Debug, Clone)]
pub struct Opt {
    /// As written.
    pub key: String,
    /// Its lines, stripped, with line breaks between them.
    pub value: String,
    /// The whole line up to the value's end, in the covered text.
    pub place: Place,
}

impl Section {
    /// The option of this very name.
    pub fn get(&self, key: &str) -> Option<&Opt> {
        self.options.iter().find(|option| option.key == key)
    }

    /// Names in small letters, as files of Cloud Scheduler are read; of two that become the same,
    /// the last one stays.
    pub fn any_case(&self) -> Self {
        let mut options: Vec<Opt> = Vec::new();
        for option in &self.options {
            let key = option.key.to_lowercase();
            options.retain(|other| other.key != key);
            options.push(Opt { key, ..option.clone() });
        }
        Self { options, ..self.clone() }
    }
}

/// Whether a key of this name has a value that nobody should see.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    let words = ["pass", "secret", "token", "credential", "access_key", "api_key", "private_key"];
    words.iter().any(|word| key.contains(word))
}

/// Reads a file. What it cannot be read beyond is told at once, with its place.
pub fn parse(name: &str, text: &str) -> Result<Ini, Vec<Diagnostic>> {
    let covered = covered(text);
    let source = Arc::new(Source { name: name.into(), text: covered });
    let shown = read(&source, &source.text)?;
    // The same lines with other values: the same structure.
    let mut ini = read(&source, text)?;
    let pairs = ini.sections.iter_mut().zip(&shown.sections);
    for (real, shown) in pairs.chain([(&mut ini.default, &shown.default)]) {
        real.place = shown.place.clone();
        for (real, shown) in real.options.iter_mut().zip(&shown.options) {
            real.place = shown.place.clone();
        }
    }
    ini.warnings = shown.warnings;
    Ok(ini)
}

/// The text with every secret replaced, line by line.
fn covered(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // How deep the key stands whose value is a secret that may go on.
    let mut open: Option<usize> = None;
    for line in text.split_inclusive('\n') {
        let (body, end) = line.split_at(line.trim_end_matches(['\n', '\r']).len());
        let trimmed = body.trim_start();
        let indent = body.len() - trimmed.len();
        let blank = trimmed.trim_end().is_empty();
        let key = trimmed.split(['=', ':']).next().unwrap_or_default();
        if open.is_some_and(|depth| indent > depth) && !blank && !trimmed.starts_with(['#', ';']) {
            out.push_str(&body[..indent]);
            out.push_str(COVER);
        } else if !trimmed.starts_with(['[', '#', ';']) && is_secret(key) {
            open = Some(indent);
            // Without a `=` it is a mistake that will be shown: its first word is enough.
            let shown = match trimmed.find(['=', ':']) {
                Some(at) => &trimmed[..=at],
                None => trimmed.split_whitespace().next().unwrap_or_default(),
            };
            out.push_str(&body[..indent]);
            out.push_str(shown);
            if shown.len() < trimmed.trim_end().len() {
                out.push(' ');
                out.push_str(COVER);
            }
        } else {
            if !blank && !trimmed.starts_with(['#', ';']) {
                open = None;
            }
            out.push_str(&without_userinfo(body));
        }
        out.push_str(end);
    }
    out
}

/// Covers `user:password@` of URLs.
pub fn without_userinfo(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(['/', '?', '#', ' ', '\t', ',', '"', '\'']).unwrap_or(after.len());
        match after[..end].rfind('@') {
            Some(at) if after[..at].contains(':') => {
                out.push_str(COVER);
                rest = &after[at..];
            }
            _ => rest = after,
        }
    }
    out + rest
}

/// A line, its place, and what of it counts.
struct Line<'a> {
    at: usize,
    text: &'a str,
}

impl Line<'_> {
    fn span(&self) -> Range<usize> {
        let start = self.at + self.text.len() - self.text.trim_start().len();
        start..(self.at + self.text.trim_end().len()).max(start)
    }
}

fn read(source: &Arc<Source>, text: &str) -> Result<Ini, Vec<Diagnostic>> {
    let place = |span: Range<usize>| Place { source: source.clone(), span };
    let empty = |name: &str| Section { name: name.into(), place: place(0..0), options: Vec::new() };
    let mut ini = Ini { default: empty("DEFAULT"), sections: Vec::new(), here: None, warnings: Vec::new() };
    let mut wrong = Vec::new();
    let mut current: Option<Section> = None;
    // The option that a deeper line continues, and how deep it stands.
    let mut open = false;
    let mut depth = 0;
    let mut at = 0;
    // A byte order mark is no part of the first name.
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    for line in text.split_inclusive('\n') {
        let skip = if at == 0 { start } else { 0 };
        let line = Line { at: at + skip, text: &line[skip..] };
        at = line.at + line.text.len();
        let value = line.text.trim();
        if value.starts_with(['#', ';']) {
            continue;
        }
        let last = current.as_mut().and_then(|section| section.options.last_mut()).filter(|_| open);
        if value.is_empty() {
            if let Some(option) = last {
                option.value.push('\n');
            }
            continue;
        }
        let indent = line.text.chars().take_while(|letter| letter.is_whitespace()).count();
        if let Some(option) = last
            && indent > depth
        {
            option.value.push('\n');
            option.value.push_str(value);
            option.place.span.end = line.span().end;
            continue;
        }
        depth = indent;
        open = false;
        if value.starts_with('[')
            && let Some(end) = value.rfind(']').filter(|end| *end > 1)
        {
            ini.close(current.take());
            current = Some(Section { name: value[1..end].into(), ..empty("") });
            if let Some(section) = &mut current {
                section.place = place(line.span());
            }
            continue;
        }
        let Some(section) = &mut current else {
            let told = Diagnostic::error("a line stands before the first section").at(place(line.span()));
            wrong.push(told.help("every file of this kind begins with a header like `[global]`"));
            break;
        };
        let Some((key, value)) = value.split_once(['=', ':']).filter(|(key, _)| !key.trim().is_empty())
        else {
            let told = Diagnostic::error("neither a section, nor an option with its value");
            wrong.push(told.at(place(line.span())).help("write `name = value`"));
            continue;
        };
        let (key, value) = (key.trim_end().to_owned(), value.trim().to_owned());
        section.options.push(Opt { key, value, place: place(line.span()) });
        open = true;
    }
    ini.close(current);
    if wrong.is_empty() { Ok(ini) } else { Err(wrong) }
}

impl Ini {
    /// Takes in a section that has ended.
    fn close(&mut self, section: Option<Section>) {
        let Some(mut section) = section else { return };
        for option in &mut section.options {
            option.value.truncate(option.value.trim_end().len());
        }
        if section.name == "DEFAULT" {
            if self.default.options.is_empty() {
                self.default.place = section.place;
            }
            for option in section.options {
                replace(&mut self.default.options, option, &mut self.warnings);
            }
            return;
        }
        let known = self.sections.iter().position(|other| other.name == section.name);
        let options = std::mem::take(&mut section.options);
        let into = match known {
            Some(at) => {
                let text = format!("the section [{}] stands here a second time", section.name);
                let told = Diagnostic::warning(text).at(section.place);
                self.warnings.push(told.help("both are read as one, as Python 2 did; today's refuses it"));
                at
            }
            None => {
                self.sections.push(section);
                self.sections.len() - 1
            }
        };
        let Some(into) = self.sections.get_mut(into) else { return };
        for option in options {
            replace(&mut into.options, option, &mut self.warnings);
        }
    }

    /// The value of an option with its `%(name)s` replaced, as Python would. `others` are the names
    /// of its section, which come before those of `[DEFAULT]`.
    pub fn interpolated(&self, section: &Section, option: &Opt) -> Result<String, Diagnostic> {
        let mut out = String::new();
        self.expand(section, option, &option.value, 0, &mut out)?;
        Ok(out)
    }

    fn expand(
        &self,
        section: &Section,
        at: &Opt,
        text: &str,
        depth: usize,
        out: &mut String,
    ) -> Result<(), Diagnostic> {
        let wrong = |text: String| Diagnostic::error(text).at(at.place.clone());
        if depth > MAX_DEPTH {
            return Err(wrong(format!("`{}`: more than {MAX_DEPTH} names lead to each other", at.key)));
        }
        for piece in pieces(text) {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Name(name) => {
                    if let Some(here) = self.here.filter(|_| name == "here") {
                        out.push_str(here);
                        continue;
                    }
                    let found = section.get(name).or_else(|| self.default.get(name));
                    let Some(found) = found else {
                        let text = format!("`{}`: `%({name})s` names no option", at.key);
                        return Err(wrong(text).help(
                            "an option of this section or of [DEFAULT]; for a percent sign write `%%`",
                        ));
                    };
                    self.expand(section, at, &found.value, depth + 1, out)?;
                }
            }
            if out.len() > MAX_TEXT {
                return Err(wrong(format!("`{}` grows over {MAX_TEXT} bytes", at.key)));
            }
        }
        Ok(())
    }
}

fn replace(options: &mut Vec<Opt>, option: Opt, warnings: &mut Vec<Diagnostic>) {
    if let Some(other) = options.iter_mut().find(|other| other.key == option.key) {
        let text = format!("`{}` stands here a second time, after line {}", option.key, other.place.line());
        let told = Diagnostic::warning(text).at(option.place.clone());
        warnings.push(told.help("the last one holds, as in Python 2; today's refuses it"));
        *other = option;
    } else {
        options.push(option);
    }
}

/// Part of a value.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// As it stands.
    Text(&'a str),
    /// `%(name)s`.
    Name(&'a str),
}

/// What `%` makes of a value: `%%` is a percent sign, and a lone one stands for itself, as it did
/// in 2012.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let (before, after) = rest.split_at(at);
        let name = after.strip_prefix("%(").and_then(|inner| inner.split_once(")s"));
        if let Some((name, tail)) = name.filter(|(name, _)| !name.contains(['(', ')', '\n'])) {
            pieces.extend([Piece::Text(before), Piece::Name(name)]);
            rest = tail;
        } else {
            let double = if after.starts_with("%%") { 2 } else { 1 };
            pieces.push(Piece::Text(&rest[..=at]));
            rest = &after[double..];
        }
    }
    pieces.push(Piece::Text(rest));
    pieces.retain(|piece| *piece != Piece::Text(""));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(ini: &Ini) -> Vec<(&str, &str, &str, usize)> {
        let mut all = Vec::new();
        for section in &ini.sections {
            for it in &section.options {
                all.push((&*section.name, &*it.key, &*it.value, it.place.line()));
            }
        }
        all
    }

    #[test]
    fn reads_as_python_does() {
        let text = "\u{feff}# comment\n; another\n[a]\nx = 1\ny: 2\n/v2: app = b\nuser:alice = (GET)\nurl = http://h/ # no comment\n\
                    local conf=  spaces in the name \nempty =\n\n[b c:d ]\nlist = one\n  two\n# not in it\n\n  three = 3\n  ; nor this\n\nz = é\n";
        let ini = parse("f.ini", text).unwrap();
        let expected = [
            ("a", "x", "1", 4),
            ("a", "y", "2", 5),
            ("a", "/v2", "app = b", 6),
            ("a", "user", "alice = (GET)", 7),
            ("a", "url", "http://h/ # no comment", 8),
            ("a", "local conf", "spaces in the name", 9),
            ("a", "empty", "", 10),
            ("b c:d ", "list", "one\ntwo\n\nthree = 3", 13),
            ("b c:d ", "z", "é", 20),
        ];
        assert_eq!(all(&ini), expected);
        assert_eq!((ini.warnings.len(), ini.sections[1].place.line()), (0, 12));
        let place = &ini.sections[0].options[8 - 2].place;
        assert_eq!(&place.source.text[place.span.clone()], "empty =");
        // An indented first option is none that continues; an indented section header is one.
        let indented = parse("f", "  [a]\n  x = 1\n    2\n  y = 3\nz = 4\n [b]\n").unwrap();
        assert_eq!(all(&indented), [("a", "x", "1\n2", 2), ("a", "y", "3", 4), ("a", "z", "4\n[b]", 5)]);
        let crlf = parse("f", "[a]\r\nx = 1\r\n 2\r\n").unwrap();
        assert_eq!(all(&crlf), [("a", "x", "1\n2", 2)]);
        assert!(parse("f", "").unwrap().sections.is_empty());
    }

    #[test]
    fn what_stands_there_twice_is_merged_and_told() {
        let ini =
            parse("f", "[a]\nx = 1\nX = 2\n[b]\n[a]\nx = 3\n[DEFAULT]\nd = 4\n[DEFAULT]\ne = 5\n").unwrap();
        assert_eq!(all(&ini), [("a", "x", "3", 6), ("a", "X", "2", 3)]);
        let told: Vec<_> = ini.warnings.iter().map(|it| &*it.message).collect();
        let section = "the section [a] stands here a second time";
        assert_eq!(told, [section, "`x` stands here a second time, after line 2"]);
        assert_eq!(ini.default.options.len(), 2);
        let small = ini.sections[0].any_case();
        assert_eq!(small.options.iter().map(|it| &*it.value).collect::<Vec<_>>(), ["2"]);
    }

    #[test]
    fn mistakes_are_shown_where_they_are() {
        let cases: [(&str, &[(&str, usize)]); 3] = [
            ("x = 1\n", &[("a line stands before the first section", 1)]),
            (
                "[a]\ngarbage\n = 1\n",
                &[
                    ("neither a section, nor an option with its value", 2),
                    ("neither a section, nor an option with its value", 3),
                ],
            ),
            ("[]\n", &[("a line stands before the first section", 1)]),
        ];
        for (text, expected) in cases {
            let told = parse("f", text).unwrap_err();
            let told: Vec<_> =
                told.iter().map(|it| (&*it.message, it.place.as_ref().unwrap().line())).collect();
            assert_eq!(told, expected, "{text:?}");
        }
    }

    #[test]
    fn names_are_replaced() {
        let text = "[DEFAULT]\nbase = /srv\nown = default\n[a]\nown = mine\npath = %(base)s/%(own)s\nmore = %(path)s/x\n\
                    percent = 100%% of %USER% %\nnope = %(gone)s\nx = %(y)s\ny = %(x)s\n";
        let ini = parse("f", text).unwrap();
        let section = &ini.sections[0];
        let get = |key: &str| ini.interpolated(section, section.get(key).unwrap()).map_err(|it| it.message);
        assert_eq!(get("more").unwrap(), "/srv/mine/x");
        assert_eq!(get("percent").unwrap(), "100% of %USER% %");
        assert_eq!(get("nope").unwrap_err(), "`nope`: `%(gone)s` names no option");
        assert_eq!(get("x").unwrap_err(), "`x`: more than 10 names lead to each other");
    }

    #[test]
    fn no_snippet_shows_a_secret() {
        let text = "[a]\npassword = hunter2\n  hunter3\n\n  # c\n  hunter4\nname = x\nmonitor_url = http://u:hunter5@h/p\n\
                    secret_access_key: hunter6=\nempty_token =\n";
        let ini = parse("f", text).unwrap();
        assert_eq!(ini.sections[0].options[0].value, "hunter2\nhunter3\n\nhunter4");
        assert_eq!(ini.sections[0].options[3].value, "hunter6=");
        for option in &ini.sections[0].options {
            let shown = Diagnostic::warning("x").at(option.place.clone()).render(false);
            assert!(!shown.contains("hunter") && shown.contains(&option.key), "{shown}");
        }
        let source = &ini.default.place.source.text;
        assert!(source.contains("http://***@h/p"), "{source}");
        let shown = parse("f", "[a]\npassword hunter2\n").unwrap_err()[0].render(false);
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
