//! Configuration files as Python 2's `ConfigParser` reads them, continuation lines and comments included.
//!
//! Source: CPython 2.7, `Lib/ConfigParser.py`, `RawConfigParser._read` and `ConfigParser._interpolate`.

use std::{collections::HashMap, fmt};

use crate::parse::quoted;

/// How deep values may stand in values.
const MAX_DEPTH: usize = 10;

/// A file that was read.
#[derive(Debug, Default)]
pub struct Ini {
    sections: HashMap<String, Section>,
    defaults: Section,
}

type Section = HashMap<String, String>;

/// Why a file cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A line stands before the first `[section]`.
    NoSection(usize, String),
    /// Lines that are neither a section nor an option.
    Lines(Vec<(usize, String)>),
}

impl Wrong {
    /// What Python says of it, with the class that it says it in.
    pub fn told(&self, path: &str) -> String {
        match self {
            Self::NoSection(number, line) => format!(
                "ConfigParser.MissingSectionHeaderError: File contains no section headers.\nfile: {path}, line: {number}\n{}",
                quoted(line)
            ),
            Self::Lines(lines) => {
                let head = format!("ConfigParser.ParsingError: File contains parsing errors: {path}");
                let lines =
                    lines.iter().map(|(number, line)| format!("\n\t[line {number:2}]: {}", quoted(line)));
                std::iter::once(head).chain(lines).collect()
            }
        }
    }
}

/// `%(name)s`, and nothing of that name, or nothing but names.
#[derive(Debug, PartialEq, Eq)]
pub struct NoValue(pub String);

impl fmt::Display for NoValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigParser.InterpolationError: Bad value substitution: {}", self.0)
    }
}

impl Ini {
    /// Reads a whole file.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let mut ini = Ini::default();
        let mut section: Option<String> = None;
        let mut option = String::new();
        let mut wrong = Vec::new();
        for (at, line) in text.split_inclusive('\n').enumerate() {
            let remark = line.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("rem"));
            if line.trim().is_empty()
                || line.starts_with(['#', ';'])
                || remark && line.starts_with(['r', 'R'])
            {
                continue;
            }
            let current = section.as_ref().map(|name| ini.section(name));
            match (current, header(line)) {
                (Some(current), _) if line.starts_with(char::is_whitespace) && !option.is_empty() => {
                    let value = current.entry(option.clone()).or_default();
                    value.push('\n');
                    value.push_str(line.trim());
                }
                (_, Some(name)) => {
                    ini.section(name);
                    section = Some(name.to_owned());
                    option.clear();
                }
                (None, None) => return Err(Wrong::NoSection(at + 1, line.to_owned())),
                (Some(current), None) => match entry(line) {
                    Some((name, value)) => {
                        option = name.to_lowercase();
                        current.insert(option.clone(), value);
                    }
                    None => wrong.push((at + 1, line.to_owned())),
                },
            }
        }
        if wrong.is_empty() { Ok(ini) } else { Err(Wrong::Lines(wrong)) }
    }

    fn section(&mut self, name: &str) -> &mut Section {
        match name {
            "DEFAULT" => &mut self.defaults,
            _ => self.sections.entry(name.to_owned()).or_default(),
        }
    }

    /// A value as it stands.
    pub fn raw(&self, section: &str, option: &str) -> Option<&str> {
        let section = self.sections.get(section)?;
        section.get(option).or_else(|| self.defaults.get(option)).map(String::as_str)
    }

    /// A value, with others put in for `%(name)s`.
    pub fn get(&self, section: &str, option: &str) -> Result<Option<String>, NoValue> {
        let Some(mut value) = self.raw(section, option).map(str::to_owned) else { return Ok(None) };
        for _ in 0..MAX_DEPTH {
            if !value.contains("%(") {
                return Ok(Some(value));
            }
            value = self.interpolate(section, &value)?;
        }
        Err(NoValue(value))
    }

    fn interpolate(&self, section: &str, value: &str) -> Result<String, NoValue> {
        let mut out = String::new();
        let mut rest = value;
        while let Some((before, after)) = rest.split_once('%') {
            out.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                out.push('%');
                rest = after;
                continue;
            }
            let name = after.strip_prefix('(').and_then(|after| after.split_once(")s"));
            let (name, after) = name.ok_or_else(|| NoValue(value.to_owned()))?;
            let found = self.raw(section, &name.to_lowercase());
            out.push_str(found.ok_or_else(|| NoValue(value.to_owned()))?);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// The name in `[name]`; what follows it is ignored.
fn header(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.split_once(']').map(|(name, _)| name).filter(|name| !name.is_empty())
}

/// Name and value of `name = value` or `name: value`.
fn entry(line: &str) -> Option<(&str, String)> {
    let (name, value) = line.split_at_checked(line.find([':', '='])?)?;
    if name.is_empty() || name.starts_with(char::is_whitespace) {
        return None;
    }
    let mut value = value.get(1..)?.trim_start().trim_end_matches('\n');
    // A `;` begins a comment only behind a space.
    if let Some(at) = value.find(';') {
        let before = value.get(..at)?;
        if before.ends_with(char::is_whitespace) {
            value = before;
        }
    }
    let value = value.trim();
    Some((name.trim_end(), if value == "\"\"" { String::new() } else { value.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are CPython 2.7.18's.
    #[test]
    fn values_are_read_as_python_reads_them() {
        let cases = [
            ("[global]\nport: 9 ; hi\n", Some("9")),
            ("[global]\nport=9;hi\n", Some("9;hi")),
            ("[global]\nport: 9 # hi\n", Some("9 # hi")),
            ("[global]\nport: 9\n  12\n", Some("9\n12")),
            ("[global]\nport: 9\n\n  12\n", Some("9\n12")),
            ("[global]\nport = 1\nport = 2\n", Some("2")),
            ("[global]\n[other]\nport = 2\n[global]\nport = 3\n", Some("3")),
            ("[DEFAULT]\nport= 7\n[global]\n", Some("7")),
            ("[DEFAULT]\nport= 7\n", None),
            ("[global]\nx=8\nport= %(X)s\n", Some("8")),
            ("[global]\nPORT  :  5 \n# c\n;d\nrem hello\n", Some("5")),
            ("[global]\nport= \"\"\n", Some("")),
            ("[global] trailing\nport= 4", Some("4")),
            ("[Global]\nport= 5\n", None),
            ("[global]\nb 9 = 3\nport: a=4\n", Some("a=4")),
        ];
        for (text, value) in cases {
            let ini = Ini::parse(text).unwrap();
            assert_eq!(ini.get("global", "port").unwrap().as_deref(), value, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_as_python_tells_it() {
        let none =
            "ConfigParser.MissingSectionHeaderError: File contains no section headers.\nfile: F, line: 1\n";
        let many = "ConfigParser.ParsingError: File contains parsing errors: F\n\t[line  2]: ";
        let cases = [
            ("port: 9\n", format!("{none}'port: 9\\n'")),
            ("[global\nport= 4\n", format!("{none}'[global\\n'")),
            ("\u{feff}[global]\n", format!("{none}'\\xef\\xbb\\xbf[global]\\n'")),
            ("[global]\nport\n", format!("{many}'port\\n'")),
            ("[global]\n port= 5\n", format!("{many}' port= 5\\n'")),
            ("[global]\na b\nc d\nport: 9\n", format!("{many}'a b\\n'\n\t[line  3]: 'c d\\n'")),
        ];
        for (text, told) in cases {
            assert_eq!(Ini::parse(text).unwrap_err().told("F"), told, "{text}");
        }
    }

    #[test]
    fn names_that_stand_for_nothing_are_found_out() {
        for text in ["[global]\nport= %(nope)s\n", "[global]\nport=%(port)s\n", "[global]\nport=%(port\n"] {
            assert!(Ini::parse(text).unwrap().get("global", "port").is_err(), "{text}");
        }
    }
}
