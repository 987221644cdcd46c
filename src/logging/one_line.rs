//! Control characters in the general log and in what commands print: a name or a cloud's answer must not begin a
//! line of its own, nor speak to the terminal that shows it.

use std::borrow::Cow;

/// Escapes control characters and marks of text direction in a line of text, except its end. `colored`: colors,
/// which the formatter writes on a terminal, stay.
pub fn one_line(line: &[u8], colored: bool) -> Cow<'_, [u8]> {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    // Characters of several bytes are seldom here, and are looked at below.
    if !text.iter().any(|byte| *byte < b' ' || *byte >= 0x7f) {
        return Cow::Borrowed(line);
    }
    let mut out = escaped(&String::from_utf8_lossy(text), colored).into_bytes();
    out.extend_from_slice(&line[text.len()..]);
    Cow::Owned(out)
}

/// Returns a value with its control characters and marks of text direction escaped.
pub fn visible(text: &str) -> String {
    escaped(text, false)
}

#[cold]
fn escaped(text: &str, colored: bool) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let color = if colored { color(rest) } else { None };
        let (piece, after) = rest.split_at(color.unwrap_or(letter.len_utf8()));
        if color.is_none() && is_hidden(letter) {
            out.extend(letter.escape_default());
        } else {
            out += piece;
        }
        rest = after;
    }
    out
}

/// Returns the length of the color (`ESC [ 1 ; 31 m`) that the text begins with.
fn color(text: &str) -> Option<usize> {
    let start = "\u{1b}[";
    let end = text.strip_prefix(start)?.find(|letter: char| !letter.is_ascii_digit() && letter != ';')?;
    let end = start.len() + end;
    text[end..].starts_with('m').then_some(end + 1)
}

/// `true` for control characters, line separators of Unicode and marks of text direction.
fn is_hidden(letter: char) -> bool {
    let marks = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    letter.is_control() || marks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_no_other_line_and_no_command_of_a_terminal() {
        // Line, result, result where colors stay.
        let cases = [
            ("a b\n", "a b\n", "a b\n"),
            ("no end", "no end", "no end"),
            ("user=a\nb\n", "user=a\\nb\n", "user=a\\nb\n"),
            ("a\n\n", "a\\n\n", "a\\n\n"),
            ("a\r\tb\0\n", "a\\r\\tb\\u{0}\n", "a\\r\\tb\\u{0}\n"),
            ("\u{1b}[2mINFO\u{1b}[0m a\n", "\\u{1b}[2mINFO\\u{1b}[0m a\n", "\u{1b}[2mINFO\u{1b}[0m a\n"),
            ("\u{1b}[1;31mred\n", "\\u{1b}[1;31mred\n", "\u{1b}[1;31mred\n"),
            ("\u{1b}[2J\n", "\\u{1b}[2J\n", "\\u{1b}[2J\n"),
            ("\u{1b}]0;x\u{7}\n", "\\u{1b}]0;x\\u{7}\n", "\\u{1b}]0;x\\u{7}\n"),
            ("\u{1b}[\n", "\\u{1b}[\n", "\\u{1b}[\n"),
            ("\u{7f}\u{9b}31m\n", "\\u{7f}\\u{9b}31m\n", "\\u{7f}\\u{9b}31m\n"),
            (
                "a\u{2028}b\u{202e}c\u{2066}\n",
                "a\\u{2028}b\\u{202e}c\\u{2066}\n",
                "a\\u{2028}b\\u{202e}c\\u{2066}\n",
            ),
            ("K\u{f6}ln \u{4e16}\n", "K\u{f6}ln \u{4e16}\n", "K\u{f6}ln \u{4e16}\n"),
        ];
        for (line, plain, colored) in cases {
            for (colors, expected) in [(false, plain), (true, colored)] {
                let found = one_line(line.as_bytes(), colors);
                assert_eq!(String::from_utf8_lossy(&found), expected, "{line:?}, colors: {colors}");
            }
        }
        assert_eq!(&*one_line(b"a\xffb\n", false), "a\u{fffd}b\n".as_bytes());
    }
}
