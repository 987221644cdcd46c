//! Query parameters: declared by routes, checked once before a handler runs.
//!
//! On `/v2` a parameter that a route does not declare, a second value, and a value that a parameter
//! does not accept are 400. A misspelt filter would otherwise show more than was asked for.

use std::{borrow::Cow, str::FromStr};

use crate::Fault;

/// Words that [`Values::Boolean`] accepts, in any letter case; the first [`YES`] of them are yes.
/// Source: oslo.utils, `strutils.py`, `TRUE_STRINGS` and `FALSE_STRINGS`.
const BOOLEANS: [&str; 12] = ["1", "t", "true", "y", "yes", "on", "0", "f", "false", "n", "no", "off"];

/// Number of words in [`BOOLEANS`] that are yes.
const YES: usize = 6;

/// Longest part of a value that a message repeats, in characters.
const SHOWN_MAX: usize = 64;

/// Query parameter that a route accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryParam {
    /// Name in the query.
    pub name: &'static str,
    /// Values that it accepts.
    pub values: Values,
    /// `true` if it may be given more than once.
    pub repeats: bool,
    /// Meaning, in one line.
    pub about: &'static str,
}

/// Values that a query parameter accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values {
    /// Any text.
    Text,
    /// A whole number.
    Integer,
    /// A word for yes or no.
    Boolean,
    /// One of these words.
    Word(Vec<&'static str>),
    /// Words of these, separated by commas.
    Words(Vec<&'static str>),
}

impl QueryParam {
    /// Returns a parameter that is given at most once.
    pub fn new(name: &'static str, values: Values, about: &'static str) -> Self {
        Self { name, values, repeats: false, about }
    }

    /// Returns a parameter that means yes or no.
    pub fn flag(name: &'static str, about: &'static str) -> Self {
        Self::new(name, Values::Boolean, about)
    }

    /// Checks one value. The error names the accepted words.
    fn check(&self, value: &str) -> Result<(), Fault> {
        let name = self.name;
        let refuse = |words: &[&str], value: &str| {
            let words = words.join(", ");
            Err(Fault::BadRequest(format!("{name} param must be one of {words}, not `{}`", shown(value))))
        };
        match &self.values {
            Values::Text | Values::Integer => Ok(()),
            Values::Boolean if boolean(value).is_none() => refuse(&BOOLEANS, value),
            Values::Boolean => Ok(()),
            Values::Word(words) if words.contains(&value) => Ok(()),
            Values::Word(words) => refuse(words, value),
            Values::Words(words) => {
                let given = value.split(',').map(str::trim).filter(|word| !word.is_empty());
                given.filter(|word| !words.contains(word)).try_for_each(|word| refuse(words, word))
            }
        }
    }
}

/// Returns the meaning of a word for yes or no.
fn boolean(text: &str) -> Option<bool> {
    BOOLEANS.iter().position(|word| word.eq_ignore_ascii_case(text)).map(|index| index < YES)
}

/// Returns the start of a value that comes from outside.
fn shown(value: &str) -> Cow<'_, str> {
    match value.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &value[..end]).into(),
        None => value.into(),
    }
}

/// Decoded parameters; of one that is given twice, the last counts.
#[derive(Debug, Clone, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Parses a query or a urlencoded form. Accepts anything: the legacy ports ignore what they do not
    /// read.
    pub fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// Parses a query and checks it against the parameters that a route accepts.
    #[cold]
    pub fn checked(query: &str, accepted: &[QueryParam]) -> Result<Self, Fault> {
        let params = Self::parse(query.as_bytes());
        // Bytes that are not UTF-8 have become U+FFFD.
        let replaced =
            params.iter().any(|(name, value)| name.contains('\u{fffd}') || value.contains('\u{fffd}'));
        if replaced && !query.to_ascii_uppercase().contains("%EF%BF%BD") {
            return Err(Fault::BadRequest("The query must be UTF-8, percent-encoded.".into()));
        }
        for (index, (name, value)) in params.iter().enumerate() {
            let Some(param) = accepted.iter().find(|param| param.name == name) else {
                return Err(unknown(name, accepted));
            };
            if !param.repeats && params.iter().take(index).any(|(other, _)| other == name) {
                return Err(Fault::BadRequest(format!("{name} param must be given once, not twice")));
            }
            param.check(value)?;
        }
        Ok(params)
    }

    /// The last value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of this name, in the order in which they were sent.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter().filter(move |(key, _)| *key == name).map(|(_, value)| value)
    }

    /// All parameters, in the order in which they were sent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A number of this name; a 400 that names it where it is none.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Fault> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number = text.parse().map_err(|_| {
            Fault::BadRequest(format!("{name} param must be an integer in range, not `{}`", shown(text)))
        })?;
        Ok(Some(number))
    }

    /// `true` if the parameter is a word for yes.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(boolean).unwrap_or(false)
    }
}

impl From<Vec<(String, String)>> for Params {
    fn from(fields: Vec<(String, String)>) -> Self {
        Self(fields)
    }
}

impl Extend<(String, String)> for Params {
    fn extend<I: IntoIterator<Item = (String, String)>>(&mut self, fields: I) {
        self.0.extend(fields);
    }
}

fn unknown(name: &str, accepted: &[QueryParam]) -> Fault {
    let accepted: Vec<_> = accepted.iter().map(|param| param.name).collect();
    let accepted = match accepted[..] {
        [] => "no query parameters".to_owned(),
        _ => format!("the query parameters {}", accepted.join(", ")),
    };
    Fault::BadRequest(format!("This resource accepts {accepted}, and not `{}`", shown(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_checked_against_what_a_route_accepts() {
        let mut sort = QueryParam::new("sort_key", Values::Word(vec!["id", "state"]), "Order");
        sort.repeats = true;
        let accepted = [
            QueryParam::new("marker", Values::Text, "Position"),
            QueryParam::new("limit", Values::Integer, "Size"),
            QueryParam::flag("all_projects", "Every project"),
            QueryParam::new("kind", Values::Words(vec!["a", "b"]), "Kinds"),
            sort,
        ];
        let booleans =
            "all_projects param must be one of 1, t, true, y, yes, on, 0, f, false, n, no, off, not ";
        let others = "This resource accepts the query parameters marker, limit, all_projects, kind, sort_key, and not ";
        let long = "x".repeat(65);
        let cases = [
            ("", Ok(0)),
            ("marker=%FC%2", Err("The query must be UTF-8, percent-encoded.".to_owned())),
            ("marker=%EF%BF%BD", Ok(1)),
            ("marker=", Ok(1)),
            ("marker=a&limit=x", Ok(2)),
            ("marker=a&marker=a", Err("marker param must be given once, not twice".into())),
            ("sort_key=id&sort_key=state", Ok(2)),
            ("sort_key=id&sort_key=x", Err("sort_key param must be one of id, state, not `x`".into())),
            ("all_projects=TRUE", Ok(1)),
            ("all_projects=bogus", Err(format!("{booleans}`bogus`"))),
            ("all_projects=", Err(format!("{booleans}``"))),
            ("kind=a, b,", Ok(1)),
            ("kind=a,c", Err("kind param must be one of a, b, not `c`".into())),
            ("user=ada", Err(format!("{others}`user`"))),
            ("Limit=1", Err(format!("{others}`Limit`"))),
            ("=", Err(format!("{others}``"))),
            (&*long, Err(format!("{others}`{}…`", "x".repeat(64)))),
        ];
        for (query, expected) in cases {
            let found = Params::checked(query, &accepted);
            let found = found.map(|params| params.iter().count()).map_err(|fault| fault.to_string());
            assert_eq!(found, expected, "{query}");
        }
        let none = Params::checked("a=b", &[]).unwrap_err().to_string();
        assert_eq!(none, "This resource accepts no query parameters, and not `a`");
    }

    #[test]
    fn words_for_yes_and_no_are_those_of_openstack() {
        for (index, word) in BOOLEANS.into_iter().enumerate() {
            for word in [word.to_owned(), word.to_uppercase()] {
                let params = Params::parse(format!("x={word}").as_bytes());
                assert_eq!(params.flag("x"), index < YES, "{word}");
            }
        }
        assert!(!Params::parse(b"x=maybe").flag("x") && !Params::default().flag("x"));
    }
}
