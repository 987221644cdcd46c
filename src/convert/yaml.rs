//! YAML and JSON as a tree with places, read as PyYAML reads them.
//!
//! `saphyr-parser` finds the events and their places (`serde_yaml` is kept up no more, and knows no
//! places of values); which plain text is which value is said here,
//! since PyYAML follows YAML 1.1 (`yes` is true there). Anchors are followed, up to a size.
//! JSON is read by `serde_json`, which knows the places of what it leaves unread.
//! Source: PyYAML, `resolver.py`.

use std::{collections::HashMap, fmt, ops::Range, sync::Arc};

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::diagnostic::{Diagnostic, Place, Source};

/// How deep lists and maps may stand in each other.
const MAX_DEPTH: usize = 32;

/// Most values in a file, those that anchors repeat included.
const MAX_NODES: usize = 200_000;

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// The bytes meant.
    pub span: Range<usize>,
}

/// What it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A truth.
    Bool(bool),
    /// A number, as written.
    Number(String),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Names and values, in their order.
    Map(Vec<(Node, Node)>),
}

/// A node is its value, wherever it stands.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// Reads YAML; an empty text is nothing.
pub fn yaml(source: &Arc<Source>) -> Result<Node, Diagnostic> {
    let text = &source.text;
    let bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let byte = |index: usize| bytes.get(index).copied().unwrap_or(text.len());
    let wrong = |message: String, span: Range<usize>| {
        Diagnostic::error(message).at(Place { source: source.clone(), span })
    };
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let at = byte(error.marker().index());
            wrong(format!("this is no YAML: {}", error.info()), at..at + 1)
        })?;
        let span = byte(span.start.index())..byte(span.end.index());
        builder.event(event, span.clone()).map_err(|message| wrong(message, span))?;
    }
    Ok(builder.root.unwrap_or(Node { value: Value::Null, span: 0..0 }))
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<(usize, Node)>,
    anchors: HashMap<usize, Node>,
    count: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let value = if plain { resolve(&text) } else { Value::Text(text.into_owned()) };
                self.done(anchor, Node { value, span })
            }
            Event::SequenceStart(anchor, _) => self.start(anchor, Value::List(Vec::new()), span),
            Event::MappingStart(anchor, _) => self.start(anchor, Value::Map(Vec::new()), span),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some((anchor, mut node)) => {
                    node.span.end = span.end.max(node.span.start);
                    self.done(anchor, node)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => self.done(0, Node { span, ..node }),
                None => Err("an alias names itself".into()),
            },
            Event::DocumentStart(_) if self.root.is_some() => Err("a second document begins here".into()),
            _ => Ok(()),
        }
    }

    fn start(&mut self, anchor: usize, value: Value, span: Range<usize>) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} lists and maps stand in each other"));
        }
        self.open.push((anchor, Node { value, span }));
        Ok(())
    }

    fn done(&mut self, anchor: usize, node: Node) -> Result<(), String> {
        self.count += size(&node);
        if self.count > MAX_NODES {
            return Err(format!("more than {MAX_NODES} values"));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|(_, open)| &mut open.value) {
            None => self.root = Some(node),
            Some(Value::List(list)) => list.push(node),
            Some(Value::Map(map)) => match map.last_mut() {
                // A key waits for its value with an empty one, which stands before the text.
                Some((_, value)) if value.span.end == usize::MAX => *value = node,
                _ => map.push((node, Node { value: Value::Null, span: 0..usize::MAX })),
            },
            Some(_) => {}
        }
        Ok(())
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::List(list) => 1 + list.iter().map(size).sum::<usize>(),
        Value::Map(map) => 1 + map.iter().map(|(key, value)| size(key) + size(value)).sum::<usize>(),
        _ => 1,
    }
}

/// What plain text is, to PyYAML.
fn resolve(text: &str) -> Value {
    let lower = text.to_lowercase();
    let one_case = text == lower || text == text.to_uppercase() || {
        let mut letters = text.chars();
        letters.next().is_some_and(char::is_uppercase) && letters.all(|it| !it.is_uppercase())
    };
    match lower.as_str() {
        "" | "~" => return Value::Null,
        "null" if one_case => return Value::Null,
        "yes" | "true" | "on" if one_case => return Value::Bool(true),
        "no" | "false" | "off" if one_case => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = digits.starts_with(|it: char| it.is_ascii_digit() || it == '.')
        && (digits.replace('_', "").parse::<f64>().is_ok() || number_of_python(digits));
    if is_number { Value::Number(text.into()) } else { Value::Text(text.into()) }
}

/// `0x1f`, `0b1`.
fn number_of_python(digits: &str) -> bool {
    let radix = [("0x", 16), ("0b", 2)].into_iter().find(|(prefix, _)| digits.starts_with(prefix));
    radix.is_some_and(|(_, radix)| digits.len() > 2 && digits[2..].chars().all(|it| it.is_digit(radix)))
}

/// Reads JSON.
pub fn json(source: &Arc<Source>) -> Result<Node, Diagnostic> {
    let text = source.text.trim_start_matches('\u{feff}');
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
        let line: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let at = source.text.len() - text.len() + line + error.column().saturating_sub(1);
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
        Diagnostic::error(format!("this is no JSON: {message}"))
            .at(Place { source: source.clone(), span: at..at + 1 })
    })?;
    Ok(tree(&source.text, raw))
}

fn tree(text: &str, raw: &RawValue) -> Node {
    let json = raw.get();
    let start = (json.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let span = start..start + json.len();
    let value = match json.bytes().next() {
        Some(b'n') => Value::Null,
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'"') => Value::Text(serde_json::from_str(json).unwrap_or_default()),
        Some(b'[') => {
            let list: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
            Value::List(list.into_iter().map(|raw| tree(text, raw)).collect())
        }
        Some(b'{') => {
            let members = serde_json::from_str::<Members<'_>>(json).map(|it| it.0).unwrap_or_default();
            let pair = |(key, raw): (&RawValue, &RawValue)| (tree(text, key), tree(text, raw));
            Value::Map(members.into_iter().map(pair).collect())
        }
        _ => Value::Number(json.into()),
    };
    Node { value, span }
}

/// An object's members in their order, with those that stand there twice.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Vec<(&'de RawValue, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Arc<Source> {
        Arc::new(Source { name: "f".into(), text: text.into() })
    }

    fn short(node: &Node) -> String {
        match &node.value {
            Value::Null => "null".into(),
            Value::Bool(it) => it.to_string(),
            Value::Number(it) => format!("#{it}"),
            Value::Text(it) => format!("{it:?}"),
            Value::List(list) => format!("[{}]", list.iter().map(short).collect::<Vec<_>>().join(" ")),
            Value::Map(map) => {
                let pairs = map.iter().map(|(key, value)| format!("{}={}", short(key), short(value)));
                format!("{{{}}}", pairs.collect::<Vec<_>>().join(" "))
            }
        }
    }

    #[test]
    fn yaml_is_read_as_pyyaml_does() {
        let cases = [
            ("", "null"),
            ("# nothing but a comment\n", "null"),
            ("\"a\": \"role:x\"\nb: rule:a\n", r#"{"a"="role:x" "b"="rule:a"}"#),
            (
                "a: yes\nb: Off\nc: ~\nd:\ne: 'no'\nf: nO\n",
                r#"{"a"=true "b"=false "c"=null "d"=null "e"="no" "f"="nO"}"#,
            ),
            (
                "a: 1\nb: 1.5\nc: 0x1F\nd: 1_0\ne: 1a\nf: .\n",
                r##"{"a"=#1 "b"=#1.5 "c"=#0x1F "d"=#1_0 "e"="1a" "f"="."}"##,
            ),
            ("a: [[\"role:x\", rule:b], []]\n", r#"{"a"=[["role:x" "rule:b"] []]}"#),
            ("{\"a\": \"@\", # c\n \"b\": {},}", r#"{"a"="@" "b"={}}"#),
            ("a: >\n  role:x\n  or role:y\nb: !!str 1\n", r#"{"a"="role:x or role:y\n" "b"="1"}"#),
            ("a: &x role:x\nb: *x\n", r#"{"a"="role:x" "b"="role:x"}"#),
            ("- 1\n- é\n", r##"[#1 "é"]"##),
        ];
        for (text, expected) in cases {
            assert_eq!(short(&yaml(&source(text)).unwrap()), expected, "{text:?}");
        }
        let text = "é: \"role:x\"\nb:\n  - role:y\n";
        let node = yaml(&source(text)).unwrap();
        let Value::Map(map) = &node.value else { panic!("{node:?}") };
        assert_eq!(&text[map[0].1.span.clone()], "\"role:x\"");
        assert!(text[map[1].1.span.clone()].starts_with("- role:y"));
    }

    #[test]
    fn mistakes_have_a_place_and_nothing_grows_for_ever() {
        let bomb: String = (1..30).map(|i| format!("a{i}: &a{i} [*a{0}, *a{0}, *a{0}]\n", i - 1)).collect();
        let cases = [
            ("a: \"x\nb: 1\n".to_owned(), "this is no YAML"),
            ("a: @x\n".to_owned(), "this is no YAML"),
            ("--- a\n--- b\n".to_owned(), "a second document"),
            ("[".repeat(100), "stand in each other"),
            (format!("a0: &a0 x\n{bomb}"), "more than 200000 values"),
        ];
        for (text, expected) in cases {
            let told = yaml(&source(&text)).unwrap_err();
            assert!(told.message.contains(expected), "{}", told.message);
            assert!(told.place.is_some());
        }
    }

    #[test]
    fn json_keeps_order_doubles_and_places() {
        let text = "{\"b\": [\"x\", [1]], \"a\": null,\n \"b\": \"\\u00e9\"}";
        let node = json(&source(text)).unwrap();
        assert_eq!(short(&node), r##"{"b"=["x" [#1]] "a"=null "b"="é"}"##);
        let Value::Map(map) = &node.value else { panic!("{node:?}") };
        assert_eq!(&text[map[2].1.span.clone()], "\"\\u00e9\"");
        let told = json(&source("{\n  \"a\": 1,\n}")).unwrap_err();
        assert_eq!(told.place.map(|it| it.line()), Some(3));
    }
}
