//! From the text of a file to the values of its rules, each with its place.
//!
//! JSON is read by `serde_json`, which reads the file once and leaves each value as a piece of the text:
//! where the piece stands is where a caret has to. YAML, by the name of the file, is read as `pileus
//! convert` reads it. What the values mean is `parse`'s to say.

use std::{fmt, ops::Range, sync::Arc};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value, value::RawValue};

use super::parse::{Entry, Form, Item};
use crate::{
    convert::yaml::{self, Node, Value as Yaml},
    diagnostic::{Diagnostic, Place, Source},
};

/// A rule as it stands in a file.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    /// Where the name stands.
    pub(super) key: Range<usize>,
    /// Where the value stands.
    pub(super) value: Range<usize>,
    pub(super) form: Form,
}

/// The endings of file names that are read.
pub(super) const ENDINGS: [&str; 3] = ["json", "yaml", "yml"];

/// The rules of a file, in their order, those that stand there twice included.
pub(super) fn members(source: &Arc<Source>) -> Result<Vec<Member>, Diagnostic> {
    let is_yaml = ["yaml", "yml"].iter().any(|ending| source.name.ends_with(&format!(".{ending}")));
    if is_yaml {
        return of_yaml(source);
    }
    let text = &source.text;
    let members = serde_json::from_str::<Members<'_>>(text).map_err(|error| broken(source, &error))?;
    let member = |(key, value): (&RawValue, &RawValue)| Member {
        name: serde_json::from_str(key.get()).unwrap_or_default(),
        key: span_of(text, key.get()),
        value: span_of(text, value.get()),
        form: form(text, value),
    };
    Ok(members.0.into_iter().map(member).collect())
}

fn of_yaml(source: &Arc<Source>) -> Result<Vec<Member>, Diagnostic> {
    let root = yaml::yaml(source)?;
    let wrong = |message: &str, span: Range<usize>| {
        Diagnostic::error(message).at(Place { source: source.clone(), span })
    };
    let members = match root.value {
        Yaml::Map(members) => members,
        // A file of comments alone.
        Yaml::Null => Vec::new(),
        _ => {
            return Err(wrong(
                "this is no map of rules: write `\"clouds:show\": \"role:member\"`",
                root.span,
            ));
        }
    };
    let member = |(key, value): (Node, Node)| {
        let (Yaml::Text(name) | Yaml::Number(name)) = key.value else {
            return Err(wrong("the name of a rule has to be text", key.span));
        };
        // What has no value at all has no place either.
        let at = if value.span.end == usize::MAX { key.span.clone() } else { value.span.clone() };
        let form = form_of_yaml(&source.text, &value, &at);
        Ok(Member { name, key: key.span, value: at, form })
    };
    members.into_iter().map(member).collect()
}

fn form_of_yaml(source: &str, node: &Node, at: &Range<usize>) -> Form {
    let one = |node: &Node, at: &Range<usize>| match &node.value {
        // YAML takes a bare `!` for a tag of nothing, and nothing allows everybody.
        Yaml::Text(text)
            if text.is_empty() && !source.get(at.start..).is_some_and(|it| it.starts_with(['"', '\''])) =>
        {
            Err(("text that is not there (a bare `!` is none: `\"!\"`)", at.clone()))
        }
        Yaml::Text(text) => {
            // A folded text ends in a line break. One of blanks alone is no rule, and stays.
            let text = if text.trim().is_empty() { text } else { text.trim_end() };
            Ok(Item::within(source, text.to_owned(), at.clone()))
        }
        other => Err((what_of_yaml(other), at.clone())),
    };
    match &node.value {
        Yaml::List(entries) => {
            let entry = |entry: &Node| match &entry.value {
                Yaml::List(items) => {
                    let items = items.iter().map(|item| one(item, &item.span));
                    items
                        .collect::<Result<_, _>>()
                        .map_or_else(|(what, at)| Entry::Wrong(what, at), Entry::All)
                }
                _ => one(entry, &entry.span).map_or_else(|(what, at)| Entry::Wrong(what, at), Entry::One),
            };
            Form::List(entries.iter().map(entry).collect())
        }
        _ => one(node, at).map_or_else(|(what, at)| Form::Wrong(what, at), Form::Text),
    }
}

fn what_of_yaml(value: &Yaml) -> &'static str {
    match value {
        Yaml::Null => "null",
        Yaml::Bool(true) => "true",
        Yaml::Bool(false) => "false",
        Yaml::Number(_) => "a number",
        Yaml::Map(_) => "a map",
        Yaml::List(_) => "a list within a list within a list",
        Yaml::Text(_) => "text",
    }
}

/// An object's members in their order, with those that stand there twice.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Vec<(&'de RawValue, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of rules, `{\"clouds:show\": \"role:member\"}`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Read).map(Self)
    }
}

/// Where `part`, a piece of `text`, stands in it.
fn span_of(text: &str, part: &str) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    start..start + part.len()
}

fn item(text: &str, raw: &RawValue) -> Option<Item> {
    let inner: String = serde_json::from_str(raw.get()).ok()?;
    Some(Item::within(text, inner, span_of(text, raw.get())))
}

fn form(text: &str, raw: &RawValue) -> Form {
    if let Some(item) = item(text, raw) {
        return Form::Text(item);
    }
    match serde_json::from_str::<Vec<&RawValue>>(raw.get()) {
        Ok(entries) => Form::List(entries.into_iter().map(|entry| entry_of(text, entry)).collect()),
        Err(_) => Form::Wrong(what(raw.get()), span_of(text, raw.get())),
    }
}

fn entry_of(text: &str, raw: &RawValue) -> Entry {
    if let Some(item) = item(text, raw) {
        return Entry::One(item);
    }
    let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) else {
        return Entry::Wrong(what(raw.get()), span_of(text, raw.get()));
    };
    let mut all = Vec::new();
    for raw in items {
        match item(text, raw) {
            Some(item) => all.push(item),
            None => return Entry::Wrong(what(raw.get()), span_of(text, raw.get())),
        }
    }
    Entry::All(all)
}

/// What a JSON text is, for people.
fn what(json: &str) -> &'static str {
    match json.bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "a list within a list within a list",
        Some(b'n') => "null",
        Some(b't') => "true",
        Some(b'f') => "false",
        _ => "a number",
    }
}

/// A rule from a value that stands in no file.
pub(super) fn form_of_value(value: &Value) -> Form {
    let item = |text: &str| Item::within("", text.to_owned(), 0..0);
    let wrong = |value: &Value| what(&value.to_string());
    let entry = |entry: &Value| match entry {
        Value::String(text) => Entry::One(item(text)),
        Value::Array(items) => match items.iter().find(|inner| !inner.is_string()) {
            None => Entry::All(items.iter().filter_map(Value::as_str).map(item).collect()),
            Some(inner) => Entry::Wrong(wrong(inner), 0..0),
        },
        other => Entry::Wrong(wrong(other), 0..0),
    };
    match value {
        Value::String(text) => Form::Text(item(text)),
        Value::Array(entries) => Form::List(entries.iter().map(entry).collect()),
        other => Form::Wrong(wrong(other), 0..0),
    }
}

/// A file that is no JSON, or no object.
fn broken(source: &Arc<Source>, error: &serde_json::Error) -> Diagnostic {
    let text = &source.text;
    let line_start: usize =
        text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let mut start = (line_start + error.column().saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let end = start + text[start..].chars().next().map_or(0, char::len_utf8);
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    let diagnostic = Diagnostic::error(format!("this is no JSON object of rules: {message}"));
    diagnostic.at(Place { source: source.clone(), span: start..end })
}
