//! Values as Python would print them: rules compare text, and the text is Python's.
//!
//! Source: oslo.policy compares `match == str(value)`; reference §6.4, "Text of values".

use std::{borrow::Cow, fmt::Write};

use serde_json::{Number, Value};

/// `str(value)`. Text, booleans and null cost no allocation.
pub(super) fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Bool(true) => Cow::Borrowed("True"),
        Value::Bool(false) => Cow::Borrowed("False"),
        Value::Null => Cow::Borrowed("None"),
        other => Cow::Owned(repr(other)),
    }
}

/// `repr(value)`: the same, but text stands in quotes.
pub(super) fn repr(value: &Value) -> String {
    let mut out = String::new();
    write_repr(value, &mut out);
    out
}

fn write_repr(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => quote(text, out),
        Value::Bool(_) | Value::Null => out.push_str(&text(value)),
        Value::Number(number) => out.push_str(&number_text(number)),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write_repr(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (index, (key, member)) in members.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                quote(key, out);
                out.push_str(": ");
                write_repr(member, out);
            }
            out.push('}');
        }
    }
}

fn number_text(number: &Number) -> String {
    match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (None, None, Some(float)) => float_text(float),
        _ => number.to_string(),
    }
}

/// `str(float)`: always with a point or an exponent, `5.0`, `1e+16`, `1e-05`.
pub(super) fn float_text(float: f64) -> String {
    // Rust changes to an exponent at the same sizes as Python; only the exponent looks different.
    let text = format!("{float:?}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    let mantissa = mantissa.strip_suffix(".0").unwrap_or(mantissa);
    format!("{mantissa}e{sign}{digits:0>2}")
}

fn quote(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if letter == quote => {
                out.push('\\');
                out.push(letter);
            }
            _ if letter.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\x{:02x}", letter as u32);
            }
            _ => out.push(letter),
        }
    }
    out.push(quote);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_print_as_in_python() {
        let cases = [
            (json!("a'b"), "a'b", r#""a'b""#),
            (json!("plain"), "plain", "'plain'"),
            (json!("a'\"b"), "a'\"b", r#"'a\'"b'"#),
            (json!("a\n\u{1}\\"), "a\n\u{1}\\", r"'a\n\x01\\'"),
            (json!(true), "True", "True"),
            (json!(null), "None", "None"),
            (json!(5), "5", "5"),
            (json!(-5), "-5", "-5"),
            (json!(18446744073709551615u64), "18446744073709551615", "18446744073709551615"),
            (json!(5.0), "5.0", "5.0"),
            (json!(1e16), "1e+16", "1e+16"),
            (json!(1.5e-5), "1.5e-05", "1.5e-05"),
            (json!(0.0001), "0.0001", "0.0001"),
            (json!(["a", 1, null]), "['a', 1, None]", "['a', 1, None]"),
            (json!({"a": {"b": false}}), "{'a': {'b': False}}", "{'a': {'b': False}}"),
        ];
        for (value, str_of, repr_of) in cases {
            assert_eq!(text(&value), str_of, "str({value})");
            assert_eq!(repr(&value), repr_of, "repr({value})");
        }
    }
}
