//! From a rule's value to a tree of checks.
//!
//! Below it stand `format` (the right side of a check) and `kind` (its left side); above it `load`,
//! which knows files, and `lint`, which sees all rules at once. Nothing here fails: what cannot be
//! understood becomes a check that never says yes, and a [`Problem`] with its place.
//! Source: oslo.policy, `_parser.py`; reference §6.2–6.4.

use std::ops::Range;

use super::{
    check::{Check, Leaf, Test},
    format::Format,
    kind::{Kind, nearest},
    remote::Url,
};

/// Parentheses and `not` nested deeper than this are not understood.
pub(super) const MAX_NESTING: usize = 64;

/// Text in a rule's value, with its place in the file.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) text: String,
    /// The whole value, quotes included.
    pub(super) span: Range<usize>,
    /// Where the text begins, if the file has it as it is, without escapes: then a place in it is a place
    /// in the file.
    start: Option<usize>,
}

impl Item {
    /// Text that is the value at `span` of a file.
    pub(super) fn within(file: &str, text: String, span: Range<usize>) -> Self {
        let starts = |inset: usize| {
            let start = span.start + inset;
            (start < span.end && file.get(start..span.end - inset) == Some(&text)).then_some(start)
        };
        // Between quotes, or, in YAML, without any.
        let start = starts(1).or_else(|| starts(0));
        Self { text, span, start }
    }

    /// Where this part of the text stands in the file.
    fn place(&self, part: Range<usize>) -> Range<usize> {
        match self.start {
            Some(start) => start + part.start..start + part.end,
            None => self.span.clone(),
        }
    }
}

/// A rule's value.
#[derive(Debug)]
pub(super) enum Form {
    /// An expression.
    Text(Item),
    /// Any of the entries.
    List(Vec<Entry>),
    /// Something else: what it is.
    Wrong(&'static str, Range<usize>),
}

/// An entry of a list.
#[derive(Debug)]
pub(super) enum Entry {
    One(Item),
    All(Vec<Item>),
    Wrong(&'static str, Range<usize>),
}

/// What is wrong with a rule, and where in the file.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Problem {
    fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Understands a rule's value, as far as it can be understood.
pub(super) fn rule(form: &Form, problems: &mut Vec<Problem>) -> Check {
    match form {
        Form::Text(item) if item.text.is_empty() => constant("@", item.span.clone(), Test::Always),
        Form::Text(item) => expression(item, problems),
        Form::List(entries) if entries.is_empty() => constant("@", 0..0, Test::Always),
        Form::List(entries) => list(entries, problems),
        Form::Wrong(what, span) => unclear(what, span.clone(), problems),
    }
}

fn constant(text: &str, span: Range<usize>, test: Test) -> Check {
    Check::Leaf(Leaf { text: text.into(), span, test })
}

fn unclear(what: &str, span: Range<usize>, problems: &mut Vec<Problem>) -> Check {
    let problem = Problem::new(span.clone(), format!("{what} is no rule: a rule is text or a list of texts"))
        .help("`\"@\"` allows everybody, `\"!\"` nobody");
    let check = constant(what, span, Test::Unclear(problem.message.as_str().into()));
    problems.push(problem);
    check
}

fn list(entries: &[Entry], problems: &mut Vec<Problem>) -> Check {
    let mut any = Vec::new();
    for entry in entries {
        match entry {
            Entry::One(item) if item.text.is_empty() => {}
            Entry::One(item) => any.push(check(item, 0..item.text.len(), problems)),
            Entry::All(items) => {
                let all: Vec<_> =
                    items.iter().map(|item| check(item, 0..item.text.len(), problems)).collect();
                any.extend(joined(all, Check::All));
            }
            Entry::Wrong(what, span) => any.push(unclear(what, span.clone(), problems)),
        }
    }
    joined(any, Check::Any).unwrap_or_else(|| constant("!", 0..0, Test::Never))
}

fn joined(mut parts: Vec<Check>, join: fn(Box<[Check]>) -> Check) -> Option<Check> {
    match parts.len() {
        0 | 1 => parts.pop(),
        _ => Some(join(parts.into())),
    }
}

fn expression(item: &Item, problems: &mut Vec<Problem>) -> Check {
    let words = words(&item.text);
    let mut parser = Parser { item, words, next: 0, nesting: 0, problems: Vec::new() };
    match parser.whole() {
        Ok(check) => {
            problems.append(&mut parser.problems);
            check
        }
        Err(problem) => {
            let why = problem.message.as_str().into();
            problems.push(problem);
            constant(&item.text, item.span.clone(), Test::Unclear(why))
        }
    }
}

/// One check.
fn check(item: &Item, part: Range<usize>, problems: &mut Vec<Problem>) -> Check {
    let text = item.text.get(part.clone()).unwrap_or_default();
    let span = item.place(part);
    let test = match text {
        "@" => Test::Always,
        "!" => Test::Never,
        _ => match text.split_once(':') {
            Some((kind, right)) => test(kind, right),
            None => Test::Unclear(
                format!("`{text}` is no check: a check is KIND:VALUE, as in `role:admin`, or `@`, or `!`")
                    .into(),
            ),
        },
    };
    if let Test::Raises(why) | Test::Unclear(why) = &test {
        let mut problem = Problem::new(span.clone(), &**why);
        problem.help = match nearest(&text.to_lowercase(), ["and", "or", "not"]) {
            Some(word) if !text.contains(':') => Some(format!("did you mean `{word}`?")),
            _ => None,
        };
        problems.push(problem);
    }
    Check::Leaf(Leaf { text: text.into(), span, test })
}

fn test(kind: &str, right: &str) -> Test {
    match (kind, Kind::of(kind)) {
        ("rule", _) => Test::Rule { name: right.into(), to: None },
        ("http" | "https", _) => match Url::parse(kind, right) {
            Ok(url) => Test::Http(Box::new(url)),
            Err(why) => Test::Unclear(why.into()),
        },
        (_, Kind::Senseless(why)) => Test::Raises(why.into()),
        (_, kind) => match (kind, Format::parse(right)) {
            (_, Format::Bad(why)) => Test::Raises(why),
            (Kind::Role, Format::Text(name)) => Test::Role(Format::Text(name.to_lowercase().into())),
            (Kind::Role, right) => Test::Role(right),
            (Kind::Literal(text), right) => Test::Literal(text.into(), right),
            (Kind::Path(path), right) => Test::Creds(path, right),
            (Kind::Senseless(why), _) => Test::Raises(why.into()),
        },
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Word {
    Open,
    Close,
    And,
    Or,
    Not,
    Quoted,
    Check,
}

/// Python's white space: Unicode's, and the four separators of ASCII.
fn is_blank(letter: char) -> bool {
    letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter)
}

/// Splits an expression exactly as the library does: at blanks, then at leading `(` and trailing `)`.
fn words(text: &str) -> Vec<(Word, Range<usize>)> {
    let mut words = Vec::new();
    let mut start = 0;
    for piece in text.split(is_blank) {
        let mut at = start;
        start += piece.len() + text[start + piece.len()..].chars().next().map_or(0, char::len_utf8);
        let rest = piece.trim_start_matches('(');
        for _ in 0..piece.len() - rest.len() {
            words.push((Word::Open, at..at + 1));
            at += 1;
        }
        let core = rest.trim_end_matches(')');
        let quoted = rest.len() >= 2
            && ['\'', '"'].iter().any(|quote| rest.starts_with(*quote) && rest.ends_with(*quote));
        let word = match core.to_ascii_lowercase().as_str() {
            "and" => Some(Word::And),
            "or" => Some(Word::Or),
            "not" => Some(Word::Not),
            "" => None,
            _ if quoted => Some(Word::Quoted),
            _ => Some(Word::Check),
        };
        words.extend(word.map(|word| (word, at..at + core.len())));
        for close in at + core.len()..at + rest.len() {
            words.push((Word::Close, close..close + 1));
        }
    }
    words
}

struct Parser<'a> {
    item: &'a Item,
    words: Vec<(Word, Range<usize>)>,
    next: usize,
    nesting: usize,
    problems: Vec<Problem>,
}

impl Parser<'_> {
    fn whole(&mut self) -> Result<Check, Problem> {
        if self.words.is_empty() {
            return Err(Problem::new(self.item.span.clone(), "blanks alone are no rule")
                .help("`\"@\"` allows everybody, `\"!\"` nobody"));
        }
        let check = self.any()?;
        match self.peek() {
            None => Ok(check),
            Some(Word::Close) => Err(self.wrong("this parenthesis was never opened")),
            Some(Word::Not) => Err(self.wrong("`and` or `or` is missing before `not`")),
            Some(_) => {
                let word = self.text(self.next).to_owned();
                let problem = self.wrong(format!("`and` or `or` is missing before `{word}`"));
                let before = self.next.checked_sub(1).map_or("", |before| self.text(before));
                Err(match before.ends_with(':') {
                    true => problem.help(format!("no blank after the colon: `{before}{word}`")),
                    false => problem,
                })
            }
        }
    }

    fn any(&mut self) -> Result<Check, Problem> {
        let mut parts = vec![self.all()?];
        while self.take(Word::Or) {
            parts.push(self.all()?);
        }
        joined(parts, Check::Any).ok_or_else(|| self.wrong("there is nothing here"))
    }

    fn all(&mut self) -> Result<Check, Problem> {
        let mut parts = vec![self.one()?];
        while self.take(Word::And) {
            parts.push(self.one()?);
        }
        joined(parts, Check::All).ok_or_else(|| self.wrong("there is nothing here"))
    }

    fn one(&mut self) -> Result<Check, Problem> {
        let opened = self.next;
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(self.wrong(format!("this is nested deeper than {MAX_NESTING} levels")));
        }
        let check = if self.take(Word::Not) {
            Check::Not(Box::new(self.one()?))
        } else if self.take(Word::Open) {
            if self.peek() == Some(Word::Close) {
                return Err(self.wrong("there is nothing between these parentheses"));
            }
            let inner = self.any()?;
            if !self.take(Word::Close) {
                return Err(match self.peek() {
                    None => self.wrong_at(opened, "this parenthesis is never closed"),
                    Some(_) => {
                        let word = self.text(self.next).to_owned();
                        self.wrong(format!("`and`, `or` or `)` is missing before `{word}`"))
                    }
                });
            }
            inner
        } else if self.peek() == Some(Word::Check) {
            let part = self.words[self.next].1.clone();
            self.next += 1;
            check(self.item, part, &mut self.problems)
        } else {
            return Err(self.no_operand());
        };
        self.nesting -= 1;
        Ok(check)
    }

    /// Why there is no check where one is needed.
    fn no_operand(&self) -> Problem {
        let word = self.text(self.next);
        match self.peek() {
            Some(Word::Quoted) => self
                .wrong(format!("{word} is quoted text, and no check"))
                .help("write the check without quotes; only its left side may have them"),
            Some(_) if self.next == 0 => self.wrong(format!("`{word}` has nothing on its left")),
            Some(_) => self.wrong(format!("a check is missing before `{word}`")),
            None => {
                let last = self.next.saturating_sub(1);
                self.wrong_at(last, format!("`{}` has nothing on its right", self.text(last)))
            }
        }
    }

    fn peek(&self) -> Option<Word> {
        self.words.get(self.next).map(|(word, _)| *word)
    }

    fn take(&mut self, word: Word) -> bool {
        let found = self.peek() == Some(word);
        self.next += usize::from(found);
        found
    }

    fn text(&self, index: usize) -> &str {
        self.words.get(index).and_then(|(_, part)| self.item.text.get(part.clone())).unwrap_or_default()
    }

    fn wrong(&self, message: impl Into<String>) -> Problem {
        self.wrong_at(self.next, message)
    }

    fn wrong_at(&self, index: usize, message: impl Into<String>) -> Problem {
        let place = self.words.get(index).map(|(_, part)| self.item.place(part.clone()));
        let problem = Problem::new(place.unwrap_or_else(|| self.item.span.clone()), message);
        let glued = self.words.iter().find_map(|(word, part)| {
            let text = self.item.text.get(part.clone()).filter(|_| *word == Word::Check)?;
            let (left, _) = text.split_once('(')?;
            let left = left.rsplit(')').next().unwrap_or_default();
            ["and", "or", "not"].into_iter().find(|operator| left.eq_ignore_ascii_case(operator))
        });
        match glued {
            Some(word) => problem.help(format!("put a blank between `{word}` and its parenthesis")),
            None => problem,
        }
    }
}
