//! A mistake in a file, with its place, shown as a compiler would show it.
//!
//! Whoever reads a file makes [`Diagnostic`]s; a [`Report`] collects those of all files of one run
//! and renders them sorted, so that the same files always give the same text.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
    path::Path,
    sync::Arc,
};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};

/// Most problems that a report shows. The others are counted.
pub const SHOWN_MAX: usize = 100;

/// Most words that one is compared with.
const CANDIDATES_MAX: usize = 500;

/// Longest message, in bytes. A file may have a key of any length.
const MESSAGE_MAX: usize = 2000;

/// Longest part of a file that is shown with a problem, in bytes.
const SNIPPET_MAX: usize = 4096;

/// A file that was read, or text that stands for one.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// As people named it.
    pub name: String,
    /// All of it.
    pub text: String,
}

/// A place in a file: bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub source: Arc<Source>,
    /// The bytes meant.
    pub span: Range<usize>,
}

impl Place {
    /// The line, counted from 1.
    pub fn line(&self) -> usize {
        let start = self.span.start.min(self.source.text.len());
        self.source.text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// The column, counted from 1, in characters.
    pub fn column(&self) -> usize {
        let before = &self.source.text[..self.safe_span().start];
        before.rsplit('\n').next().unwrap_or_default().chars().count() + 1
    }

    /// The bytes meant, moved to character borders and into the text, whatever was asked for.
    fn safe_span(&self) -> Range<usize> {
        let text = &self.source.text;
        let mut start = self.span.start.min(text.len());
        let mut end = self.span.end.clamp(start, text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        while !text.is_char_boundary(end) {
            end += 1;
        }
        start..end
    }
}

impl Place {
    /// Returns the lines of the place, the number of the first one, and the span within them. `None` where they
    /// are too long to be shown.
    fn lines(&self) -> Option<(&str, usize, Range<usize>)> {
        let text = &*self.source.text;
        let span = self.safe_span();
        // Behind the last line break there is no line.
        let at_end = span.start == text.len() && text.ends_with('\n');
        let before = &text[..span.start - usize::from(at_end)];
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let end = text[span.end..].find('\n').map_or(text.len(), |at| span.end + at + 1);
        if end - start > SNIPPET_MAX {
            return None;
        }
        let first = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        Some((&text[start..end], first, span.start - start..span.end - start))
    }
}

/// `api-paste.toml:12`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source.name, self.line())
    }
}

// Without the text of the file, which a failed assertion would print once a place.
impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}:{:?}", self.span)
    }
}

/// One problem. All problems of all files are collected before anything is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the program goes on in spite of it.
    pub warning: bool,
    /// What is wrong: `[filter.limit] unknown field …`.
    pub message: String,
    /// Where; `None` where no file is at fault.
    pub place: Option<Place>,
    /// File that is missing or unusable. `None` where its text is at fault, or no file.
    pub file: Option<Box<str>>,
    /// What to do about it.
    pub help: Option<String>,
    /// Other problems that were found together with it, each of which stands for itself.
    pub more: Vec<Diagnostic>,
}

impl Diagnostic {
    /// An error.
    pub fn error(message: impl Into<String>) -> Self {
        let message = bounded(message.into());
        Self { warning: false, message, place: None, file: None, help: None, more: Vec::new() }
    }

    /// A warning.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { warning: true, ..Self::error(message) }
    }

    /// At this place.
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// About a file that is missing or unusable.
    pub fn about(mut self, file: impl AsRef<Path>) -> Self {
        self.file = Some(file.as_ref().display().to_string().into());
        self
    }

    /// With this advice.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(bounded(help.into()));
        self
    }

    /// With the advice to take the candidate that looks most like `word`; where none does, with
    /// the list of them, unless it is long.
    pub fn suggest<'a>(self, word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        let candidates: Vec<&str> = candidates.into_iter().collect();
        match nearest(word, candidates.iter().copied()) {
            Some(near) => self.help(format!("did you mean `{near}`?")),
            None if (1..=16).contains(&candidates.len()) => {
                let verb = if candidates.len() == 1 { "is" } else { "are" };
                self.help(format!("there {verb} {}", words(&candidates, "and")))
            }
            None => self,
        }
    }

    /// Together with another problem.
    pub fn and(mut self, other: Diagnostic) -> Self {
        self.more.push(other);
        self
    }

    /// As text, like `rustc` writes it, without a line break at its end. Says nothing of `more`.
    pub fn render(&self, colour: bool) -> String {
        let level = if self.warning { Level::WARNING } else { Level::ERROR };
        let mut group = Group::with_title(level.primary_title(normalize_untrusted_str(&self.message)));
        if let Some(place) = &self.place {
            let path = &place.source.name;
            group = match place.lines() {
                Some((lines, first, span)) => {
                    let snippet = Snippet::source(covered(lines)).line_start(first).path(path);
                    group.element(snippet.annotation(AnnotationKind::Primary.span(span)))
                }
                None => group.element(Origin::path(path).line(place.line()).char_column(place.column())),
            };
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(normalize_untrusted_str(help)));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

/// The text, with stars for what a key calls a password or a secret, and for a password in a URL: what is
/// wrong with a file goes into the log. Every place stays where it was.
fn covered(text: &str) -> Cow<'_, str> {
    if text.lines().all(|line| secret_at(line).is_none()) {
        return Cow::Borrowed(text);
    }
    let stars = |letter: char| match letter.is_whitespace() {
        true => letter.to_string(),
        false => "*".repeat(letter.len_utf8()),
    };
    let line = |line: &str| match secret_at(line).and_then(|at| line.split_at_checked(at)) {
        Some((open, secret)) => open.to_owned() + &secret.chars().map(stars).collect::<String>(),
        None => line.to_owned(),
    };
    Cow::Owned(text.split_inclusive('\n').map(line).collect())
}

/// Where on a line something secret begins; all behind it is taken for it.
fn secret_at(line: &str) -> Option<usize> {
    if line.trim_start().starts_with('#') {
        return None;
    }
    let said = line.match_indices('=').find_map(|(at, _)| {
        // A key of its own line, or of a table on one line.
        let key = line[..at].rsplit(['{', ',']).next()?.trim().trim_matches('"');
        let named = ["pass", "pasw", "secret"].iter().any(|word| key.contains(word));
        let elsewhere = key.ends_with("_file") || line[at + 1..].trim_start().starts_with("\"${");
        (named && !elsewhere).then_some(at + 1)
    });
    let in_url = line.match_indices("://").find_map(|(at, mark)| {
        let start = at + mark.len();
        let user = line[start..].split(['/', '"', '\'', ' ']).next()?.rsplit_once('@')?.0;
        Some(start + user.find(':')? + 1)
    });
    said.into_iter().chain(in_url).min()
}

/// The candidate that `word` was most likely meant to be; `None` where none is near.
///
/// Near is a third of wrong letters, as `rustc` has it, or a forgotten unit: `memory` for
/// `memory_mib`.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let flat = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    let word = flat(word);
    let length = word.chars().count();
    let limit = length.max(3) / 3;
    let starts = |long: &str, short: &str| {
        !short.is_empty() && long.strip_prefix(short).is_some_and(|rest| rest.starts_with('_'))
    };
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates.into_iter().take(CANDIDATES_MAX) {
        let flat = flat(candidate);
        // No word is nearer than the difference of the lengths.
        let far = length.abs_diff(flat.chars().count()) > limit;
        let mut distance = if far { usize::MAX } else { strsim::damerau_levenshtein(&word, &flat) };
        if distance > limit && (starts(&flat, &word) || starts(&word, &flat)) {
            distance = limit + 1;
        } else if distance > limit {
            continue;
        }
        if best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// `a`, `b` or `c`, in back quotes, with `last` before the last one.
pub fn words(list: &[impl AsRef<str>], last: &str) -> String {
    let quoted: Vec<String> = list.iter().map(|word| format!("`{}`", word.as_ref())).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((end, start)) => format!("{} {last} {end}", start.join(", ")),
    }
}

/// Longest text of a file that a message repeats, in characters.
const REPEATED_MAX: usize = 60;

/// Returns `text` for a message: its start alone where it is long, and how long it is.
pub fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(REPEATED_MAX) {
        None => Cow::Borrowed(text),
        Some((end, _)) => {
            let start = text[..end].trim_end();
            Cow::Owned(format!("{start}… ({} characters)", text.chars().count()))
        }
    }
}

/// Returns a message with what it quotes shortened, and no longer than [`MESSAGE_MAX`].
fn bounded(message: String) -> String {
    if message.len() <= 2 * REPEATED_MAX {
        return message;
    }
    let mut message = message;
    for mark in ['`', '"'] {
        let quoted = |(at, part): (usize, &str)| match at % 2 {
            0 => part.to_owned(),
            _ => shortened(part).into_owned(),
        };
        let parts: Vec<String> = message.split(mark).enumerate().map(quoted).collect();
        message = parts.join(&mark.to_string());
    }
    if message.len() > MESSAGE_MAX {
        let end = (0..=MESSAGE_MAX).rev().find(|at| message.is_char_boundary(*at));
        message.truncate(end.unwrap_or(0));
        message.push('…');
    }
    message
}

/// Every problem of every file of one run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    diagnostics: Vec<Diagnostic>,
    /// Indices of the problems by their hash.
    known: HashMap<u64, Vec<usize>>,
}

impl Report {
    /// Takes a problem, and those that came with it. One that is known already changes nothing.
    pub fn push(&mut self, mut diagnostic: Diagnostic) {
        let more = std::mem::take(&mut diagnostic.more);
        let known = self.known.entry(hash(&diagnostic)).or_default();
        if !known.iter().any(|at| self.diagnostics.get(*at) == Some(&diagnostic)) {
            known.push(self.diagnostics.len());
            self.diagnostics.push(diagnostic);
        }
        self.extend(more);
    }

    /// What is good of a result; its problems are taken.
    pub fn take<T>(&mut self, result: Result<T, Diagnostic>) -> Option<T> {
        result.map_err(|diagnostic| self.push(diagnostic)).ok()
    }

    /// Returns `true` if there are more problems than are shown: advice for another one is not worth its time.
    pub fn is_full(&self) -> bool {
        self.diagnostics.len() > SHOWN_MAX
    }

    /// How many errors there are. With none, the program may start.
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|it| !it.warning).count()
    }

    /// How many warnings there are.
    pub fn warnings(&self) -> usize {
        self.diagnostics.iter().filter(|it| it.warning).count()
    }

    /// By file and position; what has no place comes first.
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        sorted(self.diagnostics.iter().collect())
    }

    /// Returns the problems to show, sorted, and how many are left out. Errors come before warnings.
    pub fn shown(&self) -> (Vec<&Diagnostic>, usize) {
        let (errors, warnings): (Vec<_>, Vec<_>) = self.sorted().into_iter().partition(|it| !it.warning);
        let shown = errors.into_iter().chain(warnings).take(SHOWN_MAX).collect();
        (sorted(shown), self.diagnostics.len().saturating_sub(SHOWN_MAX))
    }

    /// Returns the files at fault: those that are missing or unusable, and those whose text is wrong.
    pub fn files(&self) -> BTreeSet<String> {
        let errors = self.diagnostics.iter().filter(|it| !it.warning);
        let file = |it: &Diagnostic| {
            let place = it.place.as_ref().map(|place| place.source.name.as_str());
            it.file.as_deref().or(place).map(str::to_owned)
        };
        errors.filter_map(file).collect()
    }

    /// `2 errors, 1 warning`.
    pub fn summary(&self) -> String {
        let count = |n, word| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        format!("{}, {}", count(self.errors(), "error"), count(self.warnings(), "warning"))
    }

    /// Returns the report for programs: `{"errors", "warnings", "left_out", "diagnostics": [{"severity",
    /// "message", "file", "line", "column", "help"}]}`. Lines and columns count from 1, columns in characters.
    pub fn to_json(&self) -> serde_json::Value {
        let one = |it: &&Diagnostic| {
            let place = it.place.as_ref();
            serde_json::json!({
                "severity": if it.warning { "warning" } else { "error" },
                "message": it.message,
                "file": place.map(|place| place.source.name.as_str()).or(it.file.as_deref()),
                "line": place.map(Place::line),
                "column": place.map(Place::column),
                "help": it.help,
            })
        };
        let (shown, left_out) = self.shown();
        let shown: Vec<_> = shown.iter().map(one).collect();
        let (errors, warnings) = (self.errors(), self.warnings());
        serde_json::json!({
            "errors": errors, "warnings": warnings, "left_out": left_out, "diagnostics": shown,
        })
    }

    /// All of it as text: the problems with an empty line after each, and the summary.
    pub fn render(&self, colour: bool) -> String {
        let mut text = String::new();
        let (shown, left_out) = self.shown();
        for diagnostic in shown {
            text.push_str(&diagnostic.render(colour));
            text.push_str("\n\n");
        }
        if left_out > 0 {
            text.push_str(&format!("{left_out} more are not shown\n\n"));
        }
        text + &self.summary() + "\n"
    }
}

fn sorted(mut diagnostics: Vec<&Diagnostic>) -> Vec<&Diagnostic> {
    diagnostics.sort_by_key(|it| {
        let place = it.place.as_ref();
        (place.map(|it| (&it.source.name, it.span.start, it.span.end)), it.warning, &it.message)
    });
    diagnostics
}

fn hash(diagnostic: &Diagnostic) -> u64 {
    let Diagnostic { warning, message, place, .. } = diagnostic;
    let mut hasher = DefaultHasher::new();
    (warning, message, place.as_ref().map(|it| (&it.source.name, &it.span))).hash(&mut hasher);
    hasher.finish()
}

impl Extend<Diagnostic> for Report {
    fn extend<I: IntoIterator<Item = Diagnostic>>(&mut self, diagnostics: I) {
        diagnostics.into_iter().for_each(|diagnostic| self.push(diagnostic));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, span: Range<usize>) -> Place {
        Place { source: Arc::new(Source { name: "f.toml".into(), text: text.into() }), span }
    }

    #[test]
    fn looks_like_rustc() {
        let text = "[filter.limit]\nbrust = 20\n";
        let diagnostic = Diagnostic::error("[filter.limit] unknown field `brust`, expected `burst`")
            .at(place(text, 15..20))
            .suggest("brust", ["rate", "burst"]);
        let expected = "\
error: [filter.limit] unknown field `brust`, expected `burst`
 --> f.toml:2:1
  |
2 | brust = 20
  | ^^^^^
  |
  = help: did you mean `burst`?";
        assert_eq!(diagnostic.render(false), expected);
        assert!(diagnostic.render(true).contains("\u{1b}["));
    }

    #[test]
    fn what_a_key_calls_a_secret_is_covered() {
        let cases = [
            ("password = \"hunter2\"\n", "password = *********\n"),
            (
                "a = 1\n\"db_password\" = 'hünter' # x\r\nb = 2",
                "a = 1\n\"db_password\" = ********* * *\r\nb = 2",
            ),
            ("pasword=7\nclient_secret = 'x y'", "pasword=*\nclient_secret = ** **"),
            ("password = \"${env:X}\"\npassword_file = \"x\"", ""),
            ("# a password = x\nbypass", ""),
            ("set = { a = 1, db_password = \"x\" }", "set = { a = 1, db_password = *** *"),
            ("auth_url = \"http://me:hunter2@host/v3\"", "auth_url = \"http://me:****************"),
            ("a = \"http://[::1]:5000/v3\" # me@host", ""),
        ];
        for (text, expected) in cases {
            let found = covered(text);
            assert_eq!(&*found, if expected.is_empty() { text } else { expected });
            assert_eq!(found.len(), text.len());
        }
        let told = Diagnostic::error("x").at(place("pasword = \"hunter2\"\n", 0..7)).render(false);
        assert!(told.contains("1 | pasword = *********") && !told.contains("hunter"), "{told}");
    }

    #[test]
    fn any_span_is_safe() {
        let cases = [
            // text, span, line:column, what is marked
            ("ä = 1\tb", 7..8, "1:7", "1 | ä = 1    b\n  |          ^"),
            ("ä = 1", 1..2, "1:1", "1 | ä = 1\n  | ^"),
            ("a = 1", 5..5, "1:6", "1 | a = 1\n  |      ^"),
            ("a = 1\n", 90..99, "1:7", "1 | a = 1\n  |      ^"),
            ("", 0..0, "1:1", "1 |\n  | ^"),
            ("a = 1\r\nb = 2\r\n", 7..8, "2:1", "2 | b = 2\n  | ^"),
        ];
        for (text, span, at, marked) in cases {
            let rendered = Diagnostic::warning("x").at(place(text, span)).render(false);
            assert_eq!(rendered, format!("warning: x\n --> f.toml:{at}\n  |\n{marked}"));
        }
        #[allow(clippy::reversed_empty_ranges)]
        let backwards = Diagnostic::error("x").at(place("abc", 2..1)).render(false);
        assert!(backwards.contains("f.toml:1:3"), "{backwards}");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let text = "a = \"\u{1b}[31m\"";
        let rendered = Diagnostic::error("bad \u{1b}[31m").at(place(text, 0..1)).help("\u{7}").render(false);
        assert!(!rendered.contains(['\u{1b}', '\u{7}']), "{rendered:?}");
    }

    #[test]
    fn a_report_is_sorted_counted_and_says_nothing_twice() {
        let mut report = Report::default();
        report.push(Diagnostic::warning("last").at(place("a\nb\n", 2..3)));
        report.push(Diagnostic::error("second").at(place("a\nb\n", 0..1)).and(Diagnostic::error("first")));
        report.push(Diagnostic::error("first"));
        let expected = "\
error: first

error: second
 --> f.toml:1:1
  |
1 | a
  | ^

warning: last
 --> f.toml:2:1
  |
2 | b
  | ^

2 errors, 1 warning
";
        assert_eq!(report.render(false), expected);
        assert_eq!(Report::default().render(false), "0 errors, 0 warnings\n");
    }

    #[test]
    fn a_long_value_is_shortened() {
        let long = "ä".repeat(100_000);
        let cases = [
            (format!("unknown field `{long}`, expected `a`"), "unknown field `äää", "`, expected `a`"),
            (format!("expected a list, found the string {long:?}"), "the string \"äää", "characters)\""),
            (format!("{long} has no name"), "äää", "ä…"),
            (format!("`{long}` and `{long}` are one"), "`äää", "` are one"),
        ];
        for (message, start, end) in cases {
            let found = Diagnostic::error(message).help(format!("did you mean `{long}`?"));
            let help = found.help.unwrap_or_default();
            assert!(found.message.len() <= MESSAGE_MAX + 3 && help.len() < 400, "{}", found.message.len());
            assert!(found.message.contains(start) && found.message.ends_with(end), "{}", found.message);
        }
        let short = "x".repeat(REPEATED_MAX);
        assert_eq!(shortened(&short), short);
        let text = format!("{short}{short} is no rule: `{short}`");
        assert_eq!(Diagnostic::error(text.clone()).message, text);
    }

    #[test]
    fn a_report_shows_a_hundred_problems_and_counts_the_others() {
        let text: String = (0..20_000).map(|line| format!("unknown_{line} = 1\n")).collect();
        let source = Arc::new(Source { name: "f.toml".into(), text });
        let mut report = Report::default();
        for (start, line) in source.text.match_indices("unknown") {
            let at = Place { source: source.clone(), span: start..start + line.len() };
            report.push(Diagnostic::warning(format!("warning {start}")).at(at.clone()));
            report.push(Diagnostic::error(format!("error {start}")).at(at));
        }
        assert_eq!((report.errors(), report.warnings()), (20_000, 20_000));
        let text = report.render(false);
        assert_eq!(text.matches("error: ").count(), SHOWN_MAX);
        assert!(!text.contains("warning: "), "errors come first");
        assert!(text.contains("\n --> f.toml:1:1\n") && text.contains("\n   --> f.toml:100:1\n"), "{text}");
        assert!(text.ends_with("39900 more are not shown\n\n20000 errors, 20000 warnings\n"), "{text}");
        let json = report.to_json();
        assert_eq!((&json["errors"], &json["left_out"]), (&20_000.into(), &39_900.into()));
        assert_eq!(json["diagnostics"].as_array().map(Vec::len), Some(SHOWN_MAX));
    }

    #[test]
    fn a_long_line_is_named_and_not_shown() {
        let text = format!("a = 1\nb = \"{}\" # c\n", "x".repeat(100_000));
        let found = Diagnostic::error("x").at(place(&text, 100_014..100_015)).render(false);
        assert_eq!(found, "error: x\n--> f.toml:2:100009");
    }

    #[test]
    fn nearest_word() {
        let cases = [
            ("polcy", Some("policy")),
            ("Policy", Some("policy")),
            ("request-id", Some("request_id")),
            ("trcae", Some("trace")),
            ("request", Some("request_id")),
            ("keystone", None),
            ("", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, ["trace", "policy", "request_id"]), expected, "{word}");
        }
        assert_eq!(words(&["a", "b", "c"], "or"), "`a`, `b` or `c`");
    }
}
