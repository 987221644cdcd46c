//! The right side of a check: text with `%(key)s`, filled from the target by Python's `%` rules.
//!
//! Understood once, when the rules are loaded. A use of `%` that Python would raise on, or that
//! nobody needs here (`%s` without a key, `%e`), makes the check an error when it is evaluated; it
//! is never skipped. Source: reference §6.5; Python, "printf-style String Formatting".

use std::borrow::Cow;

use serde_json::Value;

use super::{
    Field, Target,
    text::{repr, text},
};

/// A width or precision beyond this is no rule but an attempt to fill the memory.
const MAX_WIDTH: usize = 256;

/// The right side of a check.
#[derive(Debug, PartialEq)]
pub(super) enum Format {
    /// No `%` in it.
    Text(Box<str>),
    /// Just `%(key)s`: the usual case.
    Key(Box<str>),
    /// A mixture.
    Pieces(Box<[Piece]>),
    /// Raises when it is evaluated.
    Bad(Box<str>),
}

#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    Text(Box<str>),
    Value(Conversion),
}

/// `%(key)-5.2s`.
#[derive(Debug, PartialEq)]
pub(super) struct Conversion {
    key: Box<str>,
    left: bool,
    zeros: bool,
    alternate: bool,
    /// `+` or a blank before a number that is not negative.
    plus: Option<char>,
    width: usize,
    precision: Option<usize>,
    letter: char,
}

impl Format {
    /// Understands `source`; what cannot be understood becomes [`Format::Bad`] with the reason.
    pub(super) fn parse(source: &str) -> Self {
        match pieces(source) {
            Err(reason) => Self::Bad(reason.into()),
            Ok(mut pieces) => match (pieces.pop(), pieces.is_empty()) {
                (None, _) => Self::Text("".into()),
                (Some(Piece::Text(text)), true) => Self::Text(text),
                (
                    Some(Piece::Value(Conversion { key, letter: 's', width: 0, precision: None, .. })),
                    true,
                ) => Self::Key(key),
                (Some(last), _) => {
                    pieces.push(last);
                    Self::Pieces(pieces.into())
                }
            },
        }
    }

    /// The keys that it takes from a target.
    pub(super) fn keys(&self) -> Vec<&str> {
        match self {
            Self::Text(_) | Self::Bad(_) => Vec::new(),
            Self::Key(key) => vec![key],
            Self::Pieces(pieces) => pieces
                .iter()
                .filter_map(|piece| match piece {
                    Piece::Value(conversion) => Some(&*conversion.key),
                    Piece::Text(_) => None,
                })
                .collect(),
        }
    }

    /// The text for this target; `None` where the target lacks a key.
    pub(super) fn fill<'a>(&'a self, target: &'a dyn Target) -> Result<Option<Cow<'a, str>>, String> {
        match self {
            Self::Text(text) => Ok(Some(Cow::Borrowed(text))),
            Self::Key(key) => Ok(target.get(key).map(Field::into_text)),
            Self::Bad(reason) => Err(reason.to_string()),
            Self::Pieces(pieces) => {
                let mut filled = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => filled.push_str(text),
                        Piece::Value(conversion) => match target.get(&conversion.key) {
                            Some(value) => conversion.write(value, &mut filled)?,
                            None => return Ok(None),
                        },
                    }
                }
                Ok(Some(Cow::Owned(filled)))
            }
        }
    }
}

fn pieces(source: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = source;
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            plain.push('%');
            rest = after;
            continue;
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
        }
        let (conversion, after) = conversion(after)?;
        pieces.push(Piece::Value(conversion));
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain.into()));
    }
    Ok(pieces)
}

/// Reads what follows a `%`, and gives the rest.
fn conversion(source: &str) -> Result<(Conversion, &str), String> {
    let inner = source.strip_prefix('(').ok_or_else(|| match source.chars().next() {
        None => "a `%` at the end says nothing: write `%%` for a percent sign".to_owned(),
        Some(_) => "a `%` needs a key, as in `%(project_id)s`; write `%%` for a percent sign".to_owned(),
    })?;
    let mut open = 1;
    let end = inner.char_indices().find_map(|(at, letter)| {
        open += i32::from(letter == '(') - i32::from(letter == ')');
        (open == 0).then_some(at)
    });
    let end = end.ok_or_else(|| format!("the key of `%({inner}` is never closed"))?;
    let (key, mut rest) = (&inner[..end], &inner[end + 1..]);
    let mut found = Conversion {
        key: key.into(),
        left: false,
        zeros: false,
        alternate: false,
        plus: None,
        width: 0,
        precision: None,
        letter: 's',
    };
    while let Some(flag) = rest.chars().next().filter(|letter| "-0+ #".contains(*letter)) {
        match flag {
            '-' => found.left = true,
            '0' => found.zeros = true,
            '#' => found.alternate = true,
            '+' => found.plus = Some('+'),
            _ => found.plus = found.plus.or(Some(' ')),
        }
        rest = &rest[1..];
    }
    let (width, after) = number(rest)?;
    found.width = width;
    rest = after;
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = number(after)?;
        found.precision = Some(precision);
        rest = after;
    }
    rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
    found.letter =
        rest.chars().next().ok_or_else(|| format!("`%({key})` lacks its letter, as in `%({key})s`"))?;
    rest = &rest[found.letter.len_utf8()..];
    match found.letter {
        's' | 'r' | 'd' | 'i' | 'u' | 'x' | 'X' | 'o' => Ok((found, rest)),
        'a' | 'c' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            Err(format!("`%({key}){}` is not supported: use `%({key})s`", found.letter))
        }
        letter => Err(format!("`{letter}` is no conversion: use `%({key})s`")),
    }
}

fn number(source: &str) -> Result<(usize, &str), String> {
    let end = source.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(source.len());
    let (digits, rest) = source.split_at(end);
    if digits.is_empty() {
        return Ok((0, rest));
    }
    let number = digits.parse().ok().filter(|number| *number <= MAX_WIDTH);
    Ok((number.ok_or_else(|| format!("a width of {digits} is more than {MAX_WIDTH}"))?, rest))
}

impl Conversion {
    fn write(&self, field: Field<'_>, out: &mut String) -> Result<(), String> {
        let body: Cow<'_, str> = match (self.letter, &field) {
            ('s', Field::Text(text)) => Cow::Borrowed(text),
            ('s', Field::Json(value)) => text(value),
            ('r', Field::Text(text)) => Cow::Owned(repr(&Value::String(text.to_string()))),
            ('r', Field::Json(value)) => Cow::Owned(repr(value)),
            (_, field) => return self.write_number(field, out),
        };
        let body: Cow<'_, str> = match self.precision {
            Some(most) => Cow::Owned(body.chars().take(most).collect()),
            None => body,
        };
        self.pad("", &body, false, out);
        Ok(())
    }

    fn write_number(&self, field: &Field<'_>, out: &mut String) -> Result<(), String> {
        let whole = "diu".contains(self.letter);
        let value = match field {
            Field::Json(Value::Bool(yes)) => Some(i128::from(*yes)),
            Field::Json(Value::Number(number)) => number
                .as_i128()
                // Python cuts a float for %d and refuses it for %x.
                .or_else(|| number.as_f64().filter(|_| whole).map(|float| float.trunc() as i128)),
            _ => None,
        };
        let value = value.ok_or_else(|| format!("`%({}){}` needs a number", self.key, self.letter))?;
        let digits = match self.letter {
            'x' => format!("{:x}", value.unsigned_abs()),
            'X' => format!("{:X}", value.unsigned_abs()),
            'o' => format!("{:o}", value.unsigned_abs()),
            _ => value.unsigned_abs().to_string(),
        };
        let digits = format!("{digits:0>width$}", width = self.precision.unwrap_or(0));
        let mut sign =
            if value < 0 { "-".to_owned() } else { self.plus.map(String::from).unwrap_or_default() };
        if self.alternate && !whole {
            sign.push('0');
            sign.push(self.letter);
        }
        self.pad(&sign, &digits, self.zeros, out);
        Ok(())
    }

    fn pad(&self, sign: &str, body: &str, zeros: bool, out: &mut String) {
        let gap = self.width.saturating_sub(sign.len() + body.chars().count());
        let fill = |out: &mut String, letter| out.extend(std::iter::repeat_n(letter, gap));
        match (self.left, zeros) {
            (true, _) => {
                out.push_str(sign);
                out.push_str(body);
                fill(out, ' ');
            }
            (false, true) => {
                out.push_str(sign);
                fill(out, '0');
                out.push_str(body);
            }
            (false, false) => {
                fill(out, ' ');
                out.push_str(sign);
                out.push_str(body);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fills_as_python_does() {
        let target = json!({
            "a": "x", "n": 7, "neg": -255, "f": 2.9, "t": true, "z": null, "l": ["a"], "a(b)c": "in", "": "nothing",
        });
        let target = target.as_object().unwrap();
        // Each row was printed by Python 3 with the same mapping.
        let cases = [
            ("%(a)s", "x"),
            ("u-%(n)s-%(a)s", "u-7-x"),
            ("100%%", "100%"),
            ("%%(a)s", "%(a)s"),
            ("%(a(b)c)s", "in"),
            ("%()s", "nothing"),
            ("%(a)5s|", "    x|"),
            ("%(a)-5s|", "x    |"),
            ("%(a)05s|", "    x|"),
            ("%(a).0s|", "|"),
            ("%(a)r", "'x'"),
            ("%(l)s", "['a']"),
            ("%(z)s%(t)s", "NoneTrue"),
            ("%(t)d", "1"),
            ("%(f)d", "2"),
            ("%(n)d%(n)i%(n)u", "777"),
            ("%(n)03d", "007"),
            ("%(n)+d", "+7"),
            ("%(n) d", " 7"),
            ("%(neg)x", "-ff"),
            ("%(neg)#X", "-0XFF"),
            ("%(neg)08d", "-0000255"),
            ("%(n).3d", "007"),
            ("%(n)#o", "0o7"),
            ("%(n)ld", "7"),
        ];
        for (format, filled) in cases {
            assert_eq!(Format::parse(format).fill(target).unwrap().as_deref(), Some(filled), "{format}");
        }
        assert_eq!(Format::parse("%(gone)s").fill(target), Ok(None));
        assert_eq!(Format::parse("x%(gone)dy").fill(target), Ok(None));
    }

    #[test]
    fn what_python_raises_on_is_an_error() {
        let target = json!({ "a": "x", "f": 2.5, "z": null });
        let target = target.as_object().unwrap();
        for format in [
            "%",
            "x%",
            "%s",
            "%d",
            "%(a",
            "%(a)",
            "%(a)q",
            "%(a)d",
            "%(f)x",
            "%(z)d",
            "%(a)*s",
            "%(a)99999s",
            "%5%",
        ] {
            assert!(Format::parse(format).fill(target).is_err(), "{format}");
        }
    }

    #[test]
    fn the_usual_forms_are_recognised() {
        assert_eq!(Format::parse("p1"), Format::Text("p1".into()));
        assert_eq!(Format::parse(""), Format::Text("".into()));
        assert_eq!(Format::parse("%(project_id)s"), Format::Key("project_id".into()));
    }
}
