//! From `policy.json` to rules, and what is wrong with it.
//!
//! `serde_json` reads the file once and leaves each value as a piece of the text: where the piece
//! stands is where a caret has to.

use std::{fmt, ops::Range, sync::Arc};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, value::RawValue};

use super::{
    Policy, Rule, RuleId,
    check::Test,
    lint,
    parse::{self, Entry, Form, Item},
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

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use crate::{
        diagnostic::Diagnostic,
        policy::{Decision, tests::load},
    };

    /// What a diagnostic says, and the text that its caret is under.
    fn shown(diagnostic: &Diagnostic) -> (bool, &str, &str, Option<&str>) {
        let place = diagnostic.place.as_ref().unwrap();
        let under = &place.source.text[place.span.clone()];
        (diagnostic.warning, &diagnostic.message, under, diagnostic.help.as_deref())
    }

    #[test]
    fn a_good_file_has_nothing_to_tell() {
        let (policy, diagnostics) = load(
            r#"{
            "admin": "is_admin:True or role:admin",
            "owner": [["project_id:%(project_id)s"], ["rule:admin"]],
            "default": "rule:admin",
            "clouds:show": "rule:owner and not role:guest",
            "open": "", "shut": "!"
        }"#,
        );
        assert_eq!(diagnostics, []);
        let names: Vec<_> = policy.rules().collect();
        assert_eq!(names[1], ("owner", "project_id:%(project_id)s or rule:admin".to_owned()));
        assert_eq!(names[3], ("clouds:show", "rule:owner and not role:guest".to_owned()));
        assert_eq!(policy.refers_to("owner"), ["admin"]);
        assert!(policy.defines("open") && !policy.defines("gone"));
    }

    #[test]
    fn mistakes_are_shown_where_they_are() {
        let close = "did you mean `rule:owner`?";
        let cases = [
            (r#"{"a": null}"#, "null is no rule", "null", Some("`\"@\"` allows everybody, `\"!\"` nobody")),
            (r#"{"a": false}"#, "false is no rule", "false", Some("`\"@\"`")),
            (r#"{"a": true}"#, "true is no rule", "true", Some("`\"@\"`")),
            (r#"{"a": 0}"#, "a number is no rule", "0", Some("`\"@\"`")),
            (r#"{"a": {}}"#, "an object is no rule", "{}", Some("`\"@\"`")),
            (r#"{"a": [null]}"#, "null is no rule", "null", Some("`\"@\"`")),
            (r#"{"a": [["@", 5]]}"#, "a number is no rule", "5", Some("`\"@\"`")),
            (r#"{"a": [[["@"]]]}"#, "a list within a list within a list", "[\"@\"]", Some("`\"@\"`")),
            (r#"{"a": " \t "}"#, "blanks alone", r#"" \t ""#, Some("`\"@\"`")),
            (r#"{"a": "(role:a"}"#, "this parenthesis is never closed", "(", None),
            (r#"{"a": "role:a)"}"#, "this parenthesis was never opened", ")", None),
            (r#"{"a": "()"}"#, "nothing between", ")", None),
            (r#"{"a": "role:a role:b"}"#, "missing before `role:b`", "role:b", None),
            (r#"{"a": "role: b"}"#, "missing before `b`", "b", Some("no blank after the colon: `role:b`")),
            (r#"{"a": "role:a and"}"#, "`and` has nothing on its right", "and", None),
            (r#"{"a": "or role:a"}"#, "`or` has nothing on its left", "or", None),
            (r#"{"a": "role:a and or role:b"}"#, "a check is missing before `or`", "or", None),
            (r#"{"a": "'admin'"}"#, "quoted text", "'admin'", Some("write the check without quotes")),
            (r#"{"a": "not(role:a)"}"#, "never opened", ")", Some("put a blank between `not`")),
            (
                r#"{"a": "role:a or(role:b)"}"#,
                "missing before `or(role:b`",
                "or(role:b",
                Some("blank between `or`"),
            ),
            (r#"{"a": "admin or role:b"}"#, "`admin` is no check", "admin", None),
            (r#"{"a": "role:a adn role:b"}"#, "missing before `adn`", "adn", None),
            (r#"{"a": ["adn"]}"#, "`adn` is no check", "adn", Some("did you mean `and`?")),
            (r#"{"a": "http://x/y"}"#, "not supported", "http://x/y", None),
            (r#"{"a": "@ or :x"}"#, "nothing on the left of the colon", ":x", None),
            (r#"{"a": "!role:x"}"#, "no name of a credential", "!role:x", None),
            (r#"{"a": "x:100%"}"#, "a `%` at the end", "x:100%", None),
            (r#"{"a": "role:%(x)q"}"#, "`q` is no conversion", "role:%(x)q", None),
            (
                r#"{"owner": "@", "a": "rule:onwer"}"#,
                "no rule is called `onwer`, and there",
                "rule:onwer",
                Some(close),
            ),
            (r#"{"a": "rule:a"}"#, "in a circle: `a` → `a`", "rule:a", None),
            (
                r#"{"a": "not rule:b and @", "b": "(rule:a) or @"}"#,
                "in a circle: `a` → `b` → `a`",
                "rule:a",
                None,
            ),
            (r#"{"default": "rule:gone"}"#, "in a circle: `default` → `default`", "rule:gone", None),
            (r#"{"a": "@", "a": "!"}"#, "rule `a` stands here a second time", "\"!\"", Some("take one")),
            // A place within escaped text is not known: the whole value is shown.
            (r#"{"a": "role:\u0061 role:b"}"#, "missing before", r#""role:\u0061 role:b""#, None),
        ];
        for (text, message, under, help) in cases {
            let (policy, diagnostics) = load(text);
            let errors: Vec<_> = diagnostics.iter().filter(|it| !it.warning).collect();
            assert_eq!(errors.len(), 1, "{text}: {diagnostics:?}");
            let (_, found, found_under, found_help) = shown(errors[0]);
            assert!(found.contains(message), "{text}: {found}");
            assert_eq!(found_under, under, "{text}");
            match help {
                Some(help) => {
                    assert!(found_help.unwrap_or_default().contains(help), "{text}: {found_help:?}")
                }
                None => assert_eq!(found_help, None, "{text}"),
            }
            if text.starts_with(r#"{"a""#) && !text.contains("@") && !text.contains(" or ") {
                let creds = json!({"roles": ["a", "b", "admin"], "x": "100%"});
                let decision = policy.check(policy.rule("a"), &creds, &Map::new());
                assert!(!decision.allowed(), "{text}");
            }
        }
    }

    #[test]
    fn a_broken_file_is_one_mistake_and_denies() {
        let cases = [
            ("", "EOF", ""),
            ("[]", "an object of rules", "["),
            ("\"@\"", "an object of rules", "\""),
            ("{\n \"a\": @\n}", "expected value", "@"),
            ("{\"a\": \"@\",}", "trailing comma", "}"),
            ("{\"a\": \"@\"} x", "trailing characters", "x"),
            ("{\"é\": \"@\" \"ü\"}", "expected `,`", "\""),
            ("{\"a\": \"@\"", "EOF", "\""),
        ];
        for (text, message, under) in cases {
            let (policy, diagnostics) = load(text);
            assert_eq!(diagnostics.len(), 1, "{text}");
            let (warning, found, found_under, _) = shown(&diagnostics[0]);
            assert!(!warning && found.contains(message), "{text}: {found}");
            assert_eq!(found_under, under, "{text}");
            assert_eq!(policy.check(policy.rule("a"), &json!({}), &Map::new()), Decision::Deny);
        }
    }

    #[test]
    fn what_may_be_meant_is_a_warning() {
        let cases = [
            (
                r#"{"default": "!", "own": "@", "a": "rule:owm"}"#,
                "so `default` decides",
                "rule:owm",
                Some("`rule:own`"),
            ),
            (r#"{"a": "role:x or rule:a"}"#, "ends only where", "rule:a", None),
            (r#"{"a": "role:x and rule:b", "b": "rule:a"}"#, "ends only where", "rule:a", None),
            (r#"{"a": "Role:x"}"#, "`Role` is looked for", "Role:x", Some("did you mean `role`?")),
            (
                r#"{"a": "projct_id:%(project_id)s"}"#,
                "`projct_id`",
                "projct_id:%(project_id)s",
                Some("`project_id`"),
            ),
            (r#"{"a": "is_admin:true"}"#, "never true", "is_admin:true", Some("`is_admin:True`")),
            (r#"{"a": "user_id:'ann'"}"#, "with its quotes", "user_id:'ann'", Some("leave the quotes out")),
        ];
        for (text, message, under, help) in cases {
            let (_, diagnostics) = load(text);
            assert_eq!(diagnostics.len(), 1, "{text}: {diagnostics:?}");
            let (warning, found, found_under, found_help) = shown(&diagnostics[0]);
            assert!(warning && found.contains(message), "{text}: {found}");
            assert_eq!(found_under, under, "{text}");
            assert_eq!(help.is_some(), found_help.is_some(), "{text}: {found_help:?}");
            assert!(
                found_help.unwrap_or_default().contains(help.unwrap_or_default()),
                "{text}: {found_help:?}"
            );
        }
    }
}
