//! Reads a command line as Python's optparse did: the old scripts rely on its habits.
//!
//! A long option may be abbreviated while one fits (an old one before one of ours), takes its value
//! after `=` or as the next word; short ones bundle, and take the rest of their word. Words that
//! belong to no option are ignored, and `--` ends the options. clap does none of: `-c=x` meaning the
//! value `=x`, words to be ignored, a value that starts with a dash, these error texts.
//! Source: CPython 2.7, `Lib/optparse.py`.

use std::collections::HashMap;

use crate::{
    options::{Era, Id, Kind, Opt},
    program::Program,
};

/// What was said.
#[derive(Default)]
pub struct Given(HashMap<Id, String>);

impl Given {
    /// Whether a flag was set.
    pub fn is(&self, id: Id) -> bool {
        self.0.contains_key(&id)
    }

    /// An option's value; one that is empty counts as not said, as in Python.
    pub fn text(&self, id: Id) -> Option<&str> {
        self.0.get(&id).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// A number of seconds.
    pub fn seconds(&self, id: Id) -> Option<u64> {
        self.text(id)?.parse().ok()
    }
}

/// Reads the words behind the program's name. `Err`: what is wrong.
pub fn parse(program: &Program, words: impl IntoIterator<Item = String>) -> Result<Given, String> {
    let mut given = Given::default();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            break;
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, mut value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let option = find_long(program, name)?;
            let spelling = format!("--{}", option.long.unwrap_or_default());
            if option.kind == Kind::Flag && value.is_some() {
                return Err(format!("{spelling} option does not take a value"));
            }
            if option.kind != Kind::Flag && value.is_none() {
                value = Some(words.next().ok_or_else(|| lacks(&spelling))?);
            }
            set(&mut given, option, &spelling, value)?;
        } else if word.len() > 1 && word.starts_with('-') {
            let mut rest = word.chars();
            rest.next();
            while let Some(letter) = rest.next() {
                let spelling = format!("-{letter}");
                let option = program.options().find(|option| option.short == Some(letter));
                let option = option.ok_or_else(|| format!("no such option: {spelling}"))?;
                let value = if option.kind == Kind::Flag {
                    None
                } else {
                    let value = std::mem::replace(&mut rest, "".chars()).as_str().to_owned();
                    Some(if value.is_empty() { words.next().ok_or_else(|| lacks(&spelling))? } else { value })
                };
                set(&mut given, option, &spelling, value)?;
                if given.is(Id::Help) {
                    return Ok(given);
                }
            }
        }
        if given.is(Id::Help) {
            break;
        }
    }
    Ok(given)
}

fn lacks(spelling: &str) -> String {
    format!("{spelling} option requires an argument")
}

/// The option of this name, else the only one that it abbreviates.
fn find_long(program: &Program, name: &str) -> Result<&'static Opt, String> {
    if let Some(exact) = program.options().find(|option| option.long == Some(name)) {
        return Ok(exact);
    }
    for era in [Era::Old, Era::New] {
        let fits =
            |option: &&Opt| option.era == era && option.long.is_some_and(|long| long.starts_with(name));
        let found: Vec<&'static Opt> = program.options().filter(fits).collect();
        match found[..] {
            [] => {}
            [one] => return Ok(one),
            _ => {
                let mut names: Vec<String> =
                    found.iter().filter_map(|option| option.long).map(|long| format!("--{long}")).collect();
                names.sort();
                return Err(format!("ambiguous option: --{name} ({}?)", names.join(", ")));
            }
        }
    }
    Err(format!("no such option: --{name}"))
}

fn set(given: &mut Given, option: &Opt, spelling: &str, value: Option<String>) -> Result<(), String> {
    let value = value.unwrap_or_default();
    match option.kind {
        Kind::Choice(_, words) if !words.contains(&value.as_str()) => {
            let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            let (value, words) = (quoted(&value), words.join(", "));
            return Err(format!("option {spelling}: invalid choice: {value} (choose from {words})"));
        }
        Kind::Seconds if !value.parse::<u64>().is_ok_and(|seconds| seconds > 0) => {
            return Err(format!("option {spelling}: invalid number of seconds: {}", quoted(&value)));
        }
        _ => {}
    }
    given.0.insert(option.id, value);
    Ok(())
}

/// As Python's `repr` of a byte string.
pub fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for byte in text.bytes() {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x20..=0x7e if char::from(byte) == quote => out.extend(['\\', quote]),
            0x20..=0x7e => out.push(byte.into()),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{CLOUD_ADMIN, CLOUD_STATUS};

    fn status(line: &str) -> Result<Given, String> {
        parse(&CLOUD_STATUS, line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned))
    }

    #[test]
    fn values_are_found_where_optparse_finds_them() {
        let cases = [
            ("-c NAME", Id::Cloud, Some("NAME")),
            ("-cNAME", Id::Cloud, Some("NAME")),
            ("-c=NAME", Id::Cloud, Some("=NAME")),
            ("-ajcNAME", Id::Cloud, Some("NAME")),
            ("-ajc NAME", Id::Cloud, Some("NAME")),
            ("-c -a", Id::Cloud, Some("-a")),
            ("-c a -c b", Id::Cloud, Some("b")),
            ("--cluster NAME", Id::Cloud, Some("NAME")),
            ("--cluster=NAME", Id::Cloud, Some("NAME")),
            ("--cluster=a=b", Id::Cloud, Some("a=b")),
            ("--clu=NAME", Id::Cloud, Some("NAME")),
            ("--clu=", Id::Cloud, None),
            ("word - -c NAME word", Id::Cloud, Some("NAME")),
            ("-- -c NAME", Id::Cloud, None),
            ("--job all", Id::Queue, Some("all")),
            ("--po 1", Id::Port, Some("1")),
            ("--p 1", Id::Port, Some("1")),
            ("--pr demo", Id::Project, Some("demo")),
            ("--tok x", Id::Token, None),
            ("--token x", Id::Token, Some("x")),
            ("--watch 5", Id::Watch, Some("5")),
        ];
        for (line, id, value) in cases {
            match status(line) {
                Ok(given) => assert_eq!(given.text(id), value, "{line}"),
                Err(error) => assert_eq!((line, value), ("--tok x", None), "{error}"),
            }
        }
    }

    #[test]
    fn flags_bundle_and_old_ones_are_abbreviated_first() {
        let cases: [(&str, &[Id]); 7] = [
            ("-aj", &[Id::All, Id::ShortJson]),
            ("--js", &[Id::Json]),
            ("--diff", &[Id::DiffTypes]),
            ("--diff_type", &[Id::DiffTypes]),
            ("--t", &[Id::Total]),
            ("--to", &[Id::Total]),
            ("-mux", &[Id::Vms, Id::States, Id::HeartBeats]),
        ];
        for (line, ids) in cases {
            let given = status(line).unwrap();
            assert!(ids.iter().all(|id| given.is(*id)), "{line}");
            assert_eq!(given.0.len(), ids.len(), "{line}");
        }
    }

    /// The texts are CPython 2.7.18's, but for the options that are ours.
    #[test]
    fn mistakes_are_told_as_optparse_tells_them() {
        let choices = "'all', 'new', 'sched', 'high', 'running', 'idle', 'held', 'complete'";
        let cases = [
            ("-q zz", format!("option -q: invalid choice: 'zz' (choose from {choices})")),
            ("--job=it's", format!("option --job-queue: invalid choice: \"it's\" (choose from {choices})")),
            ("-q", "-q option requires an argument".into()),
            ("-ac", "-c option requires an argument".into()),
            ("--cl", "ambiguous option: --cl (--cloud-conf, --cluster?)".into()),
            ("--clus", "--cluster option requires an argument".into()),
            ("--he", "ambiguous option: --he (--heart-beats, --help?)".into()),
            ("--zz", "no such option: --zz".into()),
            ("--zz=1", "no such option: --zz".into()),
            ("-Z", "no such option: -Z".into()),
            ("-aZ", "no such option: -Z".into()),
            ("--all-cluster=3", "--all-cluster option does not take a value".into()),
            ("--all-c=3", "--all-cluster option does not take a value".into()),
            ("--watch 0", "option --watch: invalid number of seconds: '0'".into()),
            ("--timeout=1.5", "option --timeout: invalid number of seconds: '1.5'".into()),
            ("--tok x", "ambiguous option: --tok (--token, --token-file?)".into()),
        ];
        for (line, text) in cases {
            assert_eq!(status(line).err(), Some(text), "{line}");
        }
    }

    #[test]
    fn help_ends_the_reading() {
        for line in ["-h --zz", "-ah", "-hZ", "--help -q zz"] {
            assert!(status(line).is_ok_and(|given| given.is(Id::Help)), "{line}");
        }
        assert!(status("--zz -h").is_err());
    }

    #[test]
    fn no_spelling_is_used_twice() {
        for program in [&CLOUD_STATUS, &CLOUD_ADMIN] {
            for (at, one) in program.options().enumerate() {
                for other in program.options().skip(at + 1) {
                    let short = one.short.is_some() && one.short == other.short;
                    let long = one.long.is_some() && one.long == other.long;
                    assert!(!short && !long && one.id != other.id, "{one:?} {other:?}");
                }
            }
        }
    }
}
