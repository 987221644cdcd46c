//! From `policy.json` to rules, and what is wrong with it.
//!
//! `serde_json` reads the file once and leaves each value as a piece of the text: where the piece
//! stands is where a caret has to.

use std::{fmt, ops::Range, sync::Arc};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, value::RawValue};

use super::{
    Policy, Rule, RuleId, lint,
    parse::{self, Entry, Form, Item, Test},
};
use crate::diagnostic::{Diagnostic, Place, Source};

impl Policy {
    /// Reads the text of `policy.json`: an object of rules. All that is wrong is told at once; a
    /// rule with a mistake denies.
    pub fn parse(source: Arc<Source>) -> (Self, Vec<Diagnostic>) {
        let members = match serde_json::from_str::<Members<'_>>(&source.text) {
            Ok(members) => members.0,
            Err(error) => return (Self::default(), vec![broken(&source, &error)]),
        };
        let mut diagnostics = Vec::new();
        let mut policy = Self::default();
        for (name, value) in members {
            let span = span_of(&source.text, value.get());
            if policy.defines(&name) {
                let message = format!("rule `{name}` stands here a second time");
                let place = Place { source: source.clone(), span };
                diagnostics.push(Diagnostic::error(message).at(place).help("take one of them away"));
                continue;
            }
            let form = form(&source.text, value);
            let mut problems = Vec::new();
            policy.add(&name, &form, &mut problems);
            diagnostics.extend(problems.into_iter().map(|problem| {
                let place = Place { source: source.clone(), span: problem.span };
                let diagnostic = Diagnostic::error(format!("rule `{name}`: {}", problem.message)).at(place);
                Diagnostic { help: problem.help, ..diagnostic }
            }));
        }
        policy.resolve();
        diagnostics.extend(lint::lint(&policy, &source));
        (policy, diagnostics)
    }

    /// Rules from values, as far as they can be understood; what cannot be denies.
    pub fn from_rules(rules: &Map<String, Value>) -> Self {
        let mut policy = Self::default();
        for (name, value) in rules {
            policy.add(name, &form_of_value(value), &mut Vec::new());
        }
        policy.resolve();
        policy
    }

    fn add(&mut self, name: &str, form: &Form, problems: &mut Vec<parse::Problem>) {
        let check = parse::rule(form, problems);
        let mut flaw = None;
        check.leaves(&mut |leaf, _, _| {
            if let Test::Unclear(why) = &leaf.test {
                flaw.get_or_insert_with(|| why.clone());
            }
        });
        // A file of four thousand million rules does not fit into the memory.
        let id = RuleId(u32::try_from(self.rules.len()).unwrap_or(u32::MAX));
        self.rules.push(Rule { name: name.into(), check, flaw });
        self.names.insert(name.into(), id);
    }

    /// Lets every reference know its rule.
    fn resolve(&mut self) {
        let mut rules = std::mem::take(&mut self.rules);
        for rule in &mut rules {
            rule.check.leaves_mut(&mut |leaf| {
                if let Test::Rule { name, to } = &mut leaf.test {
                    *to = Some(self.rule(name)).filter(|id| *id != RuleId::NONE);
                }
            });
        }
        self.rules = rules;
    }
}

/// An object's members in their order, with those that stand there twice.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Vec<(String, &'de RawValue)>;

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
    // Without an escape, what stands between the quotes is the text itself.
    let plain = inner.len() + 2 == raw.get().len();
    Some(Item { text: inner, span: span_of(text, raw.get()), plain })
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

fn form_of_value(value: &Value) -> Form {
    let item = |text: &str| Item { text: text.to_owned(), span: 0..0, plain: false };
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
