//! How Python 2 writes: `json.dumps` with its default separators, `repr` of text and of truth.
//! The old wire shows both.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

/// `json.dumps(value)`: `", "` and `": "`, and nothing but printable ASCII.
pub fn dumps(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(1024);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Python))?;
    Ok(bytes)
}

struct Python;

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, to: &mut W, text: &str) -> io::Result<()> {
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| !(' '..='~').contains(&c)) {
            let (plain, other) = rest.split_at(at);
            to.write_all(plain.as_bytes())?;
            let mut chars = other.chars();
            for unit in chars.next().into_iter().flat_map(|c| c.encode_utf16(&mut [0; 2]).to_vec()) {
                write!(to, "\\u{unit:04x}")?;
            }
            rest = chars.as_str();
        }
        to.write_all(rest.as_bytes())
    }
}

/// `repr` of a `unicode`: `u'bob'`, with double quotes where the text holds single ones alone.
pub fn repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = format!("u{quote}");
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c if u32::from(c) < 0x100 => out += &format!("\\x{:02x}", u32::from(c)),
            c if u32::from(c) < 0x1_0000 => out += &format!("\\u{:04x}", u32::from(c)),
            c => out += &format!("\\U{:08x}", u32::from(c)),
        }
    }
    out.push(quote);
    out
}

/// `repr` of a `dict`: `{u'bob': 5, u'alice': 2}`; in the order given, where Python's is arbitrary.
pub fn repr_dict<K: AsRef<str>>(entries: impl IntoIterator<Item = (K, String)>) -> String {
    let entries = entries.into_iter().map(|(key, value)| format!("{}: {value}", repr(key.as_ref())));
    format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
}

/// `str` of a `bool`: `True`, `False`.
pub fn truth(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// `int(text)`: blanks around are allowed; a number beyond the type's range is the nearest in it.
pub fn int(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let most = if text.starts_with('-') { i64::MIN } else { i64::MAX };
    Some(text.parse().unwrap_or(most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn json_is_written_as_python_writes_it() {
        // Expected: CPython 2.7, json.dumps(…, sort_keys=True).
        let cases = [
            (json!({ "a": [1, 2.0, null], "b": {} }), r#"{"a": [1, 2.0, null], "b": {}}"#),
            (json!([]), "[]"),
            (json!([true, "a\"b\\c\n\u{1}"]), r#"[true, "a\"b\\c\n\u0001"]"#),
            (json!("ü€😀\u{7f}"), r#""\u00fc\u20ac\ud83d\ude00\u007f""#),
        ];
        for (value, expected) in cases {
            assert_eq!(String::from_utf8(dumps(&value).unwrap()).unwrap(), expected);
        }
    }

    #[test]
    fn repr_is_pythons() {
        // Expected: CPython 2.7, repr(u"…").
        let cases = [
            ("bob", "u'bob'"),
            ("o'neil", r#"u"o'neil""#),
            (r#"o'n"eil"#, r#"u'o\'n"eil'"#),
            ("a\\b\n\t\r\u{7}", r"u'a\\b\n\t\r\x07'"),
            ("ü€😀", r"u'\xfc\u20ac\U0001f600'"),
            ("", "u''"),
        ];
        for (text, expected) in cases {
            assert_eq!(repr(text), expected);
        }
        assert_eq!(repr_dict([("bob", "5".into()), ("al", "2".into())]), "{u'bob': 5, u'al': 2}");
        assert_eq!(repr_dict(Vec::<(String, String)>::new()), "{}");
    }

    #[test]
    fn int_is_pythons() {
        let cases = [
            ("5", Some(5)),
            (" +5\n", Some(5)),
            ("-1", Some(-1)),
            ("99999999999999999999", Some(i64::MAX)),
            ("-99999999999999999999", Some(i64::MIN)),
            ("", None),
            ("-", None),
            ("All", None),
            ("5.0", None),
            ("+-5", None),
            ("٣", None),
        ];
        for (text, expected) in cases {
            assert_eq!(int(text), expected, "{text:?}");
        }
    }
}
