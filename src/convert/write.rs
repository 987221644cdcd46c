//! TOML, written for people: a comment behind each line says where it comes from.

use crate::diagnostic::Place;

/// `key = value  # comment`.
#[derive(Debug, Clone)]
pub struct Line {
    /// The key.
    pub key: String,
    /// The value, in TOML.
    pub value: String,
    /// Without its `#`; may be empty.
    pub comment: String,
}

impl Line {
    /// A line that says where it comes from.
    pub fn new(key: &str, value: impl Into<String>, from: &Place, what: &str) -> Self {
        let comment = format!("{}: {}", place(from), one_line(what));
        Self { key: self::key(key), value: value.into(), comment }
    }
}

/// `cloud_scheduler.conf:12`: without its folder.
pub fn place(from: &Place) -> String {
    let name = &from.source.name;
    format!("{}:{}", name.rsplit('/').next().unwrap_or(name), from.line())
}

/// Lines below each other, their values and comments too; `before` stands before each.
pub fn lines(lines: &[Line], before: &str) -> String {
    let widest = |width: fn(&Line) -> usize| lines.iter().map(width).max().unwrap_or(0);
    let keys = widest(|line| line.key.chars().count());
    let values =
        lines.iter().map(|line| line.value.chars().count()).filter(|it| *it <= 32).max().unwrap_or(0);
    let mut text = String::new();
    for Line { key, value, comment } in lines {
        let line = format!("{before}{key:<keys$} = {value}");
        let line = match comment.as_str() {
            "" => line,
            comment => format!("{before}{key:<keys$} = {value:<values$}  # {comment}"),
        };
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A text in quotes. TOML's are those of JSON, but for one character.
pub fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// A text that may have line breaks: each on a line of its own.
pub fn long_text(text: &str) -> String {
    if !text.contains('\n') {
        return self::text(text);
    }
    let inner: Vec<_> = text.split('\n').map(self::text).collect();
    let inner: Vec<_> = inner.iter().map(|line| &line[1..line.len() - 1]).collect();
    format!("\"\"\"\n{}\"\"\"", inner.join("\n"))
}

/// A key, in quotes where it needs them.
pub fn key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|it| it.is_ascii_alphanumeric() || b"_-".contains(&it));
    if bare { key.to_owned() } else { text(key) }
}

/// A list of texts.
pub fn list(list: &[impl AsRef<str>]) -> String {
    let inner: Vec<_> = list.iter().map(|it| text(it.as_ref())).collect();
    format!("[{}]", inner.join(", "))
}

/// The first names of a list, and how many there are beside them.
pub fn few(names: &[&str]) -> String {
    let shown: Vec<_> = names.iter().take(6).map(|name| format!("`{}`", one_line(name))).collect();
    match names.len().saturating_sub(6) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A comment that breaks no line, and does not go on for ever.
pub fn one_line(text: &str) -> String {
    let flat: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    match flat.char_indices().nth(72) {
        Some((end, _)) => format!("{}…", &flat[..end]),
        None => flat,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let texts = ["", "a", "\"", "\\", "a\nb", "\n", "ä\u{7f}\u{1}\t", "\"\"\"\n'''", "${x} # no comment"];
        for it in texts {
            for written in [text(it), long_text(it)] {
                let table: toml::Table = format!("{} = {written}", key(it)).parse().unwrap();
                assert_eq!(table.get(it).and_then(|it| it.as_str()), Some(it), "{written}");
            }
        }
        assert_eq!(list(&["a", "b c"]), r#"["a", "b c"]"#);
        assert_eq!((key("a-b_1"), key("/v2"), key("")), ("a-b_1".into(), "\"/v2\"".into(), "\"\"".into()));
        assert_eq!(one_line("a\nb"), "a b");
    }
}
