//! `${name}` in parsed values, never in the text: quotes cannot break out, and places stay true.
//!
//! | written | becomes |
//! | --- | --- |
//! | `${name}` | another setting of the section, or else of `[default]` |
//! | `${here}` | the absolute folder of the file in which it is written |
//! | `${env:NAME}` | a variable of the environment; one that is not set is an error |
//! | `$${` | `${` |
//!
//! A string that is nothing but `${name}` keeps the type of what it names; inside a longer string
//! only what can be written there may stand. A setting that names itself means that of `[default]`.
//! Settings of `[default]` see `[default]` alone. In an inherited section, names mean what they
//! mean in its own file.

use std::collections::BTreeMap;

use super::value::{Kind, Setting, Table, Value};
use crate::diagnostic::{Diagnostic, nearest};

/// Where `${env:NAME}` looks.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How deep names may lead to names. More is a mistake, and would be a danger to the stack.
const MAX_DEPTH: usize = 32;
/// Sections with more settings get no *did you mean* from their own names.
const MAX_COMPARED: usize = 1000;

/// How large a string may grow, in bytes: doubling names grow fast.
const MAX_TEXT: usize = 64 * 1024;

/// Settings whose names are replaced.
#[derive(Debug, Default)]
pub struct Interpolated {
    /// Those that are good.
    pub settings: Table,
    /// What is wrong with the others.
    pub gaps: BTreeMap<String, Diagnostic>,
}

/// Replaces all names in the values of `section`. `default` has been through this already.
pub fn interpolate(
    section: &Table,
    default: &Interpolated,
    here: &str,
    environment: Environment<'_>,
) -> Interpolated {
    let mut scope = Scope { section, default, here, environment, done: BTreeMap::new(), way: Vec::new() };
    let mut result = Interpolated::default();
    for (key, setting) in section {
        match scope.setting(key, setting) {
            Ok(value) => {
                let setting = Setting { key: setting.key.clone(), value };
                result.settings.insert(key.clone(), setting);
            }
            Err(problem) => {
                result.gaps.insert(key.clone(), problem);
            }
        }
    }
    result
}

struct Scope<'a> {
    section: &'a Table,
    default: &'a Interpolated,
    here: &'a str,
    environment: Environment<'a>,
    /// Settings that are done already: without it, doubling names take time without end.
    done: BTreeMap<String, Result<Value, Diagnostic>>,
    /// The settings on whose way we are, to find cycles.
    way: Vec<String>,
}

impl Scope<'_> {
    fn setting(&mut self, key: &str, setting: &Setting) -> Result<Value, Diagnostic> {
        if let Some(done) = self.done.get(key) {
            return done.clone();
        }
        self.way.push(key.to_owned());
        let value = self.value(&setting.value);
        self.way.pop();
        self.done.insert(key.to_owned(), value.clone());
        value
    }

    fn value(&mut self, value: &Value) -> Result<Value, Diagnostic> {
        let (kind, hidden) = match &value.kind {
            Kind::Text(text) => return self.text(text, value),
            Kind::List(list) => {
                (Kind::List(list.iter().map(|it| self.value(it)).collect::<Result<_, _>>()?), None)
            }
            Kind::Table(table) => {
                let mut inner = Table::new();
                for (key, setting) in table {
                    let value = self.value(&setting.value)?;
                    inner.insert(key.clone(), Setting { key: setting.key.clone(), value });
                }
                (Kind::Table(inner), None)
            }
            other => (other.clone(), value.hidden.clone()),
        };
        Ok(Value { place: value.place.clone(), kind, hidden })
    }

    fn text(&mut self, text: &str, value: &Value) -> Result<Value, Diagnostic> {
        let wrong = |what: String| Diagnostic::error(what).at(value.place.clone());
        let mut out = String::with_capacity(text.len());
        let mut hidden = false;
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                out.push_str(&rest[..at - 1]);
                out.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            out.push_str(&rest[..at]);
            let Some(end) = rest[at..].find('}') else {
                return Err(wrong("`${` without its `}`".into()).help("for the two characters write `$${`"));
            };
            let name = rest[at + 2..at + end].trim();
            let mut found = self.name(name, value)?;
            hidden |= found.hidden.is_some();
            if at == 0 && end + 1 == text.len() {
                found.place = value.place.clone();
                if found.hidden.is_some() || value.hidden.is_some() {
                    found.hidden = Some(text.into());
                }
                return Ok(found);
            }
            match &found.kind {
                Kind::Text(inner) => out.push_str(inner),
                Kind::List(_) | Kind::Table(_) => {
                    let kind = found.kind_name();
                    return Err(wrong(format!("`${{{name}}}` is {kind}, and cannot stand inside a string")));
                }
                _ => out.push_str(&found.to_string()),
            }
            if out.len() > MAX_TEXT {
                return Err(wrong(format!("the string grows over {MAX_TEXT} bytes")));
            }
            rest = &rest[at + end + 1..];
        }
        out.push_str(rest);
        let hidden = value.hidden.clone().or_else(|| hidden.then(|| text.into()));
        Ok(Value { place: value.place.clone(), kind: Kind::Text(out), hidden })
    }

    /// What `${name}` means at `at`.
    fn name(&mut self, name: &str, at: &Value) -> Result<Value, Diagnostic> {
        let wrong = |what: String| Diagnostic::error(what).at(at.place.clone());
        if let Some(variable) = name.strip_prefix("env:") {
            let Some(text) = (self.environment)(variable) else {
                return Err(wrong(format!("the environment has no variable `{variable}`"))
                    .help(format!("set {variable} before the start")));
            };
            return Ok(Value { hidden: Some("".into()), ..Value::text(&text, &at.place) });
        }
        if name == "here" {
            return Ok(Value::text(self.here, &at.place));
        }
        let itself = self.way.last().is_some_and(|key| key == name);
        if itself && let Some(default) = self.default(name) {
            return default;
        }
        if let Some(from) = self.way.iter().position(|key| key == name) {
            let cycle = self.way[from..].iter().map(String::as_str).chain([name]);
            return Err(wrong(format!(
                "`{name}` leads to itself: {}",
                cycle.collect::<Vec<_>>().join(" → ")
            )));
        }
        if self.way.len() >= MAX_DEPTH {
            return Err(wrong(format!("more than {MAX_DEPTH} names lead to each other")));
        }
        let section = self.section;
        if let Some(setting) = section.get(name) {
            return self.setting(name, setting);
        }
        if let Some(default) = self.default(name) {
            return default;
        }
        // A name is compared with every other one: above some number that takes too long.
        let compared = if section.len() <= MAX_COMPARED { section.len() } else { 0 };
        let own = section.keys().take(compared).filter(|key| self.way.last() != Some(*key));
        let names = own.chain(self.default.settings.keys()).map(String::as_str).chain(["here"]);
        let unknown = wrong(format!("`${{{name}}}` names no setting of this section or of [default]"));
        Err(match nearest(name, names) {
            Some(near) => unknown.help(format!("did you mean `${{{near}}}`?")),
            None => unknown.help("for a variable of the environment write `${env:NAME}`"),
        })
    }

    fn default(&self, name: &str) -> Option<Result<Value, Diagnostic>> {
        let good = self.default.settings.get(name).map(|setting| Ok(setting.value.clone()));
        good.or_else(|| self.default.gaps.get(name).cloned().map(Err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paste::Section;

    fn run(default: &str, section: &str) -> (Table, Vec<String>) {
        let environment = |name: &str| (name == "SECRET").then(|| "s3cret".to_owned());
        let empty = Interpolated::default();
        let default = Section::from_text("default", default).settings;
        let default = interpolate(&default, &empty, "/etc/pileus", &environment);
        let section = Section::from_text("filter.x", section).settings;
        let table = interpolate(&section, &default, "/etc/pileus", &environment);
        let problems = default.gaps.into_values().chain(table.gaps.into_values());
        (table.settings, problems.map(|it| it.message).collect())
    }

    fn json(table: &Table) -> serde_json::Value {
        table.iter().map(|(key, it)| (key.clone(), it.value.to_json())).collect()
    }

    #[test]
    fn names_are_replaced_in_parsed_values() {
        let default = "base = \"${here}/data\"\nrate = 5\nlimits = [1, 2]\nproject = \"default\"";
        let section = r#"
path = "${base}/x"            # by way of a default that itself uses `here`
rate = "${rate}"              # itself: the default's, type and all
text = "${rate}/s $${rate} $5 $"
list = ["${path}", { inner = "${rate}" }]
whole = "${limits}"
quote = "${ project }\"${project}"
"#;
        let (table, problems) = run(default, section);
        assert_eq!(problems, [""; 0]);
        let expected = serde_json::json!({
            "path": "/etc/pileus/data/x", "rate": 5, "text": "5/s ${rate} $5 $",
            "list": ["/etc/pileus/data/x", { "inner": 5 }], "whole": [1, 2], "quote": "default\"default",
        });
        assert_eq!(json(&table), expected);
    }

    #[test]
    fn what_comes_from_the_environment_is_used_and_not_shown() {
        let (table, problems) = run("", "a = \"${env:SECRET}\"\nb = \"x${a}\"\nc = \"${b}\"");
        assert_eq!(problems, [""; 0]);
        assert_eq!(table["b"].value.as_text(), Some("xs3cret"));
        assert_eq!(json(&table), serde_json::json!({ "a": "${env:SECRET}", "b": "x${a}", "c": "${b}" }));
        assert!(!format!("{table:?}").contains("s3cret"));
        let wrong = Section { settings: table, ..Section::from_text("filter.x", "") };
        let wrong = wrong.parse::<BTreeMap<String, u32>>().unwrap_err();
        assert_eq!(wrong.message, "[filter.x] expected a whole number from 0 to 4294967295, found a string");
        assert!(!format!("{wrong:?}").contains("s3cret"));
    }

    #[test]
    fn mistakes() {
        let cases = [
            ("", "a = \"${b}\"\nb = \"${a}\"", "`a` leads to itself: a → b → a"),
            ("", "a = \"${a}\"", "`a` leads to itself: a → a"),
            ("", "a = \"x${nope}\"", "`${nope}` names no setting of this section or of [default]"),
            ("", "a = \"${}\"", "`${}` names no setting of this section or of [default]"),
            ("", "a = \"x ${y\"", "`${` without its `}`"),
            ("", "a = \"${env:NOPE}\"", "the environment has no variable `NOPE`"),
            ("l = [1]", "a = \"x${l}\"", "`${l}` is a list, and cannot stand inside a string"),
            ("a = \"${b}\"", "b = 1", "`${b}` names no setting of this section or of [default]"),
        ];
        for (default, section, expected) in cases {
            let (_, problems) = run(default, section);
            assert_eq!(problems.first().map(String::as_str), Some(expected), "{section}");
        }
    }

    #[test]
    fn doubling_names_end() {
        for leaf in ["", "x"] {
            let mut text = format!("a30 = \"{leaf}\"\n");
            for i in 0..30 {
                text += &format!("a{i} = \"${{a{next}}}${{a{next}}}\"\n", next = i + 1);
            }
            let (_, problems) = run("", &text);
            assert_eq!(problems.is_empty(), leaf.is_empty());
        }
        let chain: String = (0..999).map(|i| format!("a{i} = \"${{a{}}}\"\n", i + 1)).collect();
        assert!(!run("", &chain).1.is_empty());
    }
}
