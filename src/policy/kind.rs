//! The left side of a check: a kind, a Python literal, or a path into the credentials.
//!
//! Source: oslo.policy, `GenericCheck` (`ast.literal_eval`, then `kind.split('.')`); reference §6.4.

use super::text::float_text;

/// Words that Python keeps for itself, and raises on.
const KEYWORDS: &[&str] = &[
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def",
    "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is",
    "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// What the left side of a check is.
#[derive(Debug, PartialEq)]
pub(super) enum Kind {
    Role,
    /// A literal, as Python prints it.
    Literal(String),
    /// A path into the credentials.
    Path(Box<[Box<str>]>),
    /// Neither: why.
    Senseless(String),
}

impl Kind {
    /// Understands the left side.
    pub(super) fn of(kind: &str) -> Self {
        match kind {
            "role" => return Self::Role,
            "True" | "False" | "None" => return Self::Literal(kind.into()),
            "" => return Self::Senseless("there is nothing on the left of the colon".into()),
            _ => {}
        }
        let literal = if kind.starts_with(['\'', '"']) {
            quoted(kind)
        } else if kind.starts_with(|letter: char| letter.is_ascii_digit() || "+-.".contains(letter)) {
            number(kind)
        } else {
            return path(kind);
        };
        literal.map_or_else(
            || Self::Senseless(format!("`{kind}` is neither text in quotes, nor a number, nor a name")),
            Self::Literal,
        )
    }
}

fn quoted(kind: &str) -> Option<String> {
    let quote = kind.chars().next()?;
    let inner = kind.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inner.contains([quote, '\\', '\n'])).then(|| inner.to_owned())
}

fn number(kind: &str) -> Option<String> {
    let (negative, digits) = match kind.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, kind.strip_prefix('+').unwrap_or(kind)),
    };
    let lower = digits.to_ascii_lowercase();
    let radix = [("0x", 16), ("0o", 8), ("0b", 2)].into_iter().find(|(prefix, _)| lower.starts_with(prefix));
    let signed = |text: String| if negative && text != "0" { format!("-{text}") } else { text };
    if let Some((prefix, radix)) = radix {
        let digits = lower.strip_prefix(prefix).filter(|digits| !digits.starts_with('+'))?;
        return Some(signed(u128::from_str_radix(digits, radix).ok()?.to_string()));
    }
    if digits.bytes().all(|digit| digit.is_ascii_digit()) {
        let plain =
            !digits.is_empty() && (!digits.starts_with('0') || digits.bytes().all(|digit| digit == b'0'));
        let digits = digits.trim_start_matches('0');
        return plain.then(|| signed(if digits.is_empty() { "0".into() } else { digits.into() }));
    }
    let float = lower.bytes().all(|letter| letter.is_ascii_digit() || b".e+-".contains(&letter));
    let value: f64 = digits.parse().ok().filter(|value: &f64| float && value.is_finite())?;
    digits.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.').then(|| {
        let text = float_text(value);
        if negative { format!("-{text}") } else { text }
    })
}

fn path(kind: &str) -> Kind {
    for segment in kind.split('.') {
        for (index, part) in segment.split('-').enumerate() {
            let mut letters = part.chars();
            let first = letters.next().is_some_and(|first| first.is_alphabetic() || first == '_');
            let word = first && letters.all(|letter| letter.is_alphanumeric() || letter == '_');
            let number = index > 0 && !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit());
            if !word && !number {
                return Kind::Senseless(format!("`{kind}` is no name of a credential"));
            }
            if KEYWORDS.contains(&part) {
                return Kind::Senseless(format!(
                    "`{part}` is a word of Python, and cannot be a credential's name"
                ));
            }
        }
    }
    Kind::Path(kind.split('.').map(Into::into).collect())
}

/// Most words that one is compared with, so that many wrong rules do not take for ever.
const CANDIDATES_MAX: usize = 1000;

/// The word that somebody may have meant: near, and not the same.
pub(crate) fn nearest<'a>(wrong: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = match wrong.chars().count() {
        0 => return None,
        letters => (letters / 3).clamp(1, 4),
    };
    let distance = |word: &str| strsim::damerau_levenshtein(wrong, word);
    words
        .into_iter()
        .filter(|word| *word != wrong && word.len().abs_diff(wrong.len()) <= 4 * most)
        .take(CANDIDATES_MAX)
        .map(|word| (distance(word), word))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_left_side_is_a_literal_a_path_or_nothing() {
        let literals = [
            ("True", "True"),
            ("None", "None"),
            ("'a b'", "a b"),
            ("\"it's\"", "it's"),
            ("''", ""),
            ("20", "20"),
            ("-1", "-1"),
            ("+5", "5"),
            ("-0", "0"),
            ("00", "0"),
            ("1.50", "1.5"),
            ("0x10", "16"),
            ("0b11", "3"),
            ("-0o17", "-15"),
            (".5", "0.5"),
            ("1.", "1.0"),
            ("1e3", "1000.0"),
            ("-0.0", "-0.0"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
        ];
        for (kind, text) in literals {
            assert_eq!(Kind::of(kind), Kind::Literal(text.into()), "{kind}");
        }
        for kind in ["user_id", "user-id", "token.project.domain.id", "Role", "é", "_x", "a-1", "true"] {
            let path = kind.split('.').map(Into::into).collect();
            assert_eq!(Kind::of(kind), Kind::Path(path), "{kind}");
        }
        for kind in [
            "",
            "!role",
            "a..b",
            "a.",
            ".a",
            "a.1b",
            "1a",
            "'open",
            "'",
            "'a'b'",
            "'a\\n'",
            "a b",
            "x-",
            "--x",
            "01",
            "0x",
            "0x+1",
            "1_0",
            "inf",
            "nan",
            "class",
            "a.is",
            "in-x",
            "a/b",
            "f()",
            "1e999",
            "--1",
            "\u{200b}x",
        ] {
            let found = Kind::of(kind);
            let name = matches!(kind, "inf" | "nan");
            assert_eq!(matches!(found, Kind::Senseless(_)), !name, "{kind}: {found:?}");
        }
    }

    #[test]
    fn a_near_word_is_found_and_a_far_one_is_not() {
        let words = ["admin_or_owner", "admin_api", "default"];
        assert_eq!(nearest("admin_or_onwer", words), Some("admin_or_owner"));
        assert_eq!(nearest("defualt", words), Some("default"));
        assert_eq!(nearest("default", words), None);
        assert_eq!(nearest("clouds", words), None);
        assert_eq!(nearest("", words), None);
    }
}
