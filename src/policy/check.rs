//! A rule as a tree of checks: what `parse` makes, and `lint`, `eval` and `explain` walk.

use std::{fmt, ops::Range};

use super::{RuleId, format::Format, remote::Url};

/// A tree of checks.
#[derive(Debug)]
pub(super) enum Check {
    Not(Box<Check>),
    All(Box<[Check]>),
    Any(Box<[Check]>),
    Leaf(Leaf),
}

/// One check, with its text and place for people.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) text: Box<str>,
    pub(super) span: Range<usize>,
    pub(super) test: Test,
}

/// What a check asks.
#[derive(Debug)]
pub(super) enum Test {
    /// `@`.
    Always,
    /// `!`.
    Never,
    /// `rule:name`; `to` is the rule that decides, once all of them are known.
    Rule { name: Box<str>, to: Option<RuleId> },
    /// `role:name`, in lower case where it is plain text.
    Role(Format),
    /// `'Member':%(role.name)s`: the left side is a literal.
    Literal(Box<str>, Format),
    /// `token.project.id:%(project_id)s`: the left side is a path into the credentials.
    Creds(Box<[Box<str>]>, Format),
    /// `http://127.0.0.1:8000/may/%(project_id)s`: another server says.
    Http(Box<Url>),
    /// Makes no sense, and is an error when it is evaluated: why.
    Raises(Box<str>),
    /// Nobody understands it; neither yes nor no: why.
    Unclear(Box<str>),
}

/// A leaf, and where it stands in its tree.
pub(super) struct Seen<'a> {
    pub(super) leaf: &'a Leaf,
    /// How deep.
    pub(super) depth: usize,
    /// Whether it is evaluated whenever the whole is.
    pub(super) always: bool,
    /// Whether its no becomes a yes: below an odd number of `not`.
    pub(super) negated: bool,
}

impl Check {
    /// Every leaf from left to right, with where it stands in the tree.
    pub(super) fn leaves<'a>(&'a self, visit: &mut impl FnMut(Seen<'a>)) {
        self.walk(1, true, false, visit);
    }

    fn walk<'a>(&'a self, depth: usize, always: bool, negated: bool, visit: &mut impl FnMut(Seen<'a>)) {
        match self {
            Self::Leaf(leaf) => visit(Seen { leaf, depth, always, negated }),
            Self::Not(inner) => inner.walk(depth + 1, always, !negated, visit),
            Self::All(parts) | Self::Any(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    part.walk(depth + 1, always && index == 0, negated, visit);
                }
            }
        }
    }

    /// Every leaf, to change.
    pub(super) fn leaves_mut(&mut self, visit: &mut impl FnMut(&mut Leaf)) {
        match self {
            Self::Leaf(leaf) => visit(leaf),
            Self::Not(inner) => inner.leaves_mut(visit),
            Self::All(parts) | Self::Any(parts) => parts.iter_mut().for_each(|part| part.leaves_mut(visit)),
        }
    }
}

impl fmt::Display for Check {
    // As a person would write it today, whichever form the file has.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, parts: &[Check], word: &str| {
            for (index, part) in parts.iter().enumerate() {
                let before = if index == 0 { "" } else { word };
                match part {
                    Self::Any(_) | Self::All(_) => write!(f, "{before}({part})")?,
                    _ => write!(f, "{before}{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::Leaf(leaf) => f.write_str(&leaf.text),
            Self::Not(inner) if matches!(**inner, Self::Any(_) | Self::All(_)) => write!(f, "not ({inner})"),
            Self::Not(inner) => write!(f, "not {inner}"),
            Self::All(parts) => joined(f, parts, " and "),
            Self::Any(parts) => joined(f, parts, " or "),
        }
    }
}
