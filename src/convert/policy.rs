//! `policy.json` and `policy.yaml` of Nova → `policy.json`.
//!
//! Both generations: lists of lists, and the language of texts. A rule that is read here as it was
//! there is kept as it stands; one that is not is told. What cannot be decided here lets nobody in,
//! `"!"`, and never everybody. Rules of Pileus's own routes that the file does not have come from the
//! shipped `policy.json`, behind its own.
//! Source: oslo.policy, `_parser.py`; Nova (Folsom), `nova/openstack/common/policy.py`; reference §6.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value as Json;

use super::{
    Input,
    ini::COVER,
    note::{Fate, Notes},
    yaml::{self, Node, Value},
};
use crate::{
    diagnostic::{Diagnostic, Place, Source},
    files::SHIPPED_POLICY,
    policy::{Policy, is_credential},
};

/// Attributes of a target that Nova's objects had, and that no route here has in its path.
const NO_TARGETS: [&str; 2] = ["user_id", "domain_id"];

/// Prefix of the rules that the shipped rules refer to: no file of a site defines such a name.
const OWN: &str = "pileus_";

/// A rule on its way.
struct Rule {
    name: String,
    value: Json,
    place: Place,
    /// Whether something was said of it.
    told: bool,
}

/// Converts the file.
pub fn convert(input: &Input, notes: &mut Notes) -> Result<String, Vec<Diagnostic>> {
    let source = Arc::new(Source { name: input.name.clone(), text: covered(&input.text) });
    let root = read(&source).map_err(|problem| vec![problem])?;
    let place = |span: &std::ops::Range<usize>| Place { source: source.clone(), span: span.clone() };
    let members = match root.value {
        Value::Map(members) => members,
        Value::Null => Vec::new(),
        _ => {
            let told = Diagnostic::error("a policy is a map of rules: name to rule").at(place(&root.span));
            return Err(vec![told]);
        }
    };
    let lists = members.iter().filter(|(_, value)| matches!(value.value, Value::List(_))).count();
    let old = lists * 2 > members.len();
    let mut rules: Vec<Rule> = Vec::new();
    let mut wrong = Vec::new();
    for (key, node) in &members {
        let place = Place { source: source.clone(), span: key.span.start..node.span.end.max(key.span.end) };
        let name = match &key.value {
            Value::Text(name) => name.clone(),
            Value::Number(name) => name.clone(),
            _ => {
                wrong.push(Diagnostic::error("the name of a rule has to be text").at(place));
                continue;
            }
        };
        let mut rule = Rule { name, value: Json::Null, place, told: false };
        match rule.read(node, old, notes) {
            Ok(()) => {
                if let Some(at) = rules.iter().position(|other| other.name == rule.name) {
                    let told =
                        format!("it stands in line {}, too, and the last one holds", rules[at].place.line());
                    rule.tell(Fate::Differs, told, notes);
                    rules[at] = rule;
                } else {
                    rules.push(rule);
                }
            }
            Err(problem) => wrong.push(problem),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    rules.iter_mut().for_each(Rule::by_project);
    check(&mut rules, notes);
    by_tls(&mut rules, notes);
    unasked(&rules, notes);
    for rule in rules.iter().filter(|rule| !rule.told) {
        notes.add(&rule.place, rule.what(), Fate::Carried, "policy.json");
    }
    let own = rules.len();
    let start = Place { source: source.clone(), span: 0..0 };
    for (name, value) in added(&rules) {
        notes.add(&start, format!("`{name}`"), Fate::Added, "the shipped rule of a route of Pileus");
        rules.push(Rule { name, value, place: start.clone(), told: true });
    }
    Ok(text(&rules, own))
}

/// Shipped rules of the routes that the file says nothing about.
///
/// They refer to base rules (`admin`, `member`) under names of their own. A site's `admin` may be the
/// administrator of one project; rules of Pileus decide for all projects and must not depend on it.
fn added(rules: &[Rule]) -> Vec<(String, Json)> {
    let taken = |name: &str| rules.iter().any(|rule| rule.name == name);
    let is_route = |name: &str| name.contains(':');
    let (routes, base): (Vec<_>, Vec<_>) = shipped().into_iter().partition(|(name, _)| is_route(name));
    let renamed = |name: &str| {
        let mut own = format!("{OWN}{name}");
        while taken(&own) {
            own.push('_');
        }
        own
    };
    let own = |text: &str| {
        let words = text.split(' ').map(|word| match word.split_once("rule:") {
            Some((before @ ("" | "("), name)) => {
                let end = name.trim_end_matches(')').len();
                format!("{before}rule:{}{}", renamed(&name[..end]), &name[end..])
            }
            _ => word.to_owned(),
        });
        Json::from(words.collect::<Vec<_>>().join(" "))
    };
    let base =
        base.into_iter().filter(|(name, _)| name != "default").map(|(name, value)| (renamed(&name), value));
    let routes = routes.into_iter().filter(|(name, _)| !taken(name));
    base.chain(routes).map(|(name, value)| (name, value.as_str().map_or(value.clone(), own))).collect()
}

/// The shipped rules, in their order.
fn shipped() -> Vec<(String, Json)> {
    let source = Source { name: String::new(), text: SHIPPED_POLICY.to_owned() };
    let Ok(Node { value: Value::Map(members), .. }) = yaml::json(&Arc::new(source)) else {
        return Vec::new();
    };
    let rule = |(key, value): &(Node, Node)| Some((json(key).as_str()?.to_owned(), json(value)));
    members.iter().filter_map(rule).collect()
}

fn read(source: &Arc<Source>) -> Result<Node, Diagnostic> {
    let is_json = source.name.to_lowercase().ends_with(".json") || source.text.trim_start().starts_with('{');
    if !is_json {
        return yaml::yaml(source);
    }
    // oslo.policy reads JSON as YAML: with comments, and a comma at the end.
    yaml::json(source).or_else(|problem| yaml::yaml(source).map_err(|_| problem))
}

/// The text with every password of a URL replaced; nothing else moves.
fn covered(text: &str) -> String {
    let mut out = text.to_owned();
    let mut at = 0;
    while let Some(found) = out.get(at..).and_then(|rest| rest.find("://")) {
        let start = at + found + 3;
        let rest = &out[start..];
        let end = start + rest.find(['/', '?', '#', ' ', '"', '\'', '\n', ',']).unwrap_or(rest.len());
        if let Some(user) = out[start..end].rfind('@') {
            let cover: String = COVER.chars().cycle().take(user).collect();
            out.replace_range(start..start + user, &cover);
        }
        at = end;
    }
    out
}

impl Rule {
    fn what(&self) -> String {
        format!("rule `{}`", self.name)
    }

    /// Writes `tenant_id` and `tenant`, Nova's older names of a project, as `project_id`.
    fn by_project(&mut self) {
        fn renamed(text: &str) -> String {
            let text =
                text.replace("%(tenant_id)s", "%(project_id)s").replace("%(tenant)s", "%(project_id)s");
            let mut out = String::with_capacity(text.len());
            for word in text.split_inclusive(char::is_whitespace) {
                let bare = word.trim_start_matches('(');
                let left = bare.strip_prefix("tenant_id:").or_else(|| bare.strip_prefix("tenant:"));
                out.push_str(&word[..word.len() - bare.len()]);
                match left {
                    Some(right) => out.extend(["project_id:", right]),
                    None => out.push_str(bare),
                }
            }
            out
        }
        fn within(value: &mut Json) {
            match value {
                Json::String(text) => *text = renamed(text),
                Json::Array(list) => list.iter_mut().for_each(within),
                _ => {}
            }
        }
        within(&mut self.value);
    }

    fn tell(&mut self, fate: Fate, text: impl Into<String>, notes: &mut Notes) {
        self.told = true;
        notes.add(&self.place, self.what(), fate, text);
    }

    fn read(&mut self, node: &Node, old: bool, notes: &mut Notes) -> Result<(), Diagnostic> {
        self.value = match &node.value {
            Value::Text(text) => {
                if old && !text.is_empty() {
                    let text = "Nova of 2012 read a text letter by letter, and denied; here it is understood";
                    self.tell(Fate::Differs, text, notes);
                }
                // A folded text ends in a line break. One of blanks alone is no rule, and stays.
                Json::from(if text.trim().is_empty() { text } else { text.trim_end() })
            }
            Value::Null | Value::Bool(false) => self.nothing(notes),
            Value::Number(text) if text.parse() == Ok(0.0) => self.nothing(notes),
            Value::Map(map) if map.is_empty() => self.nothing(notes),
            Value::Bool(true) | Value::Number(_) => {
                let told = format!("{} is no rule: with it, none of the file's rules were read", self.what());
                return Err(Diagnostic::error(told)
                    .at(self.place.clone())
                    .help("`\"@\"` allows everybody, `\"!\"` nobody"));
            }
            Value::Map(map) => {
                let text = "of a map, its names were read as a list, any of which allows; so it is written";
                self.tell(Fate::Differs, text, notes);
                map.iter().map(|(key, _)| json(key)).collect()
            }
            Value::List(list) => self.list(list, notes),
        };
        Ok(())
    }

    /// What was no rule, and allowed everybody.
    fn nothing(&mut self, notes: &mut Notes) -> Json {
        let text = "it is no rule here; there it allowed everybody, and so does `\"@\"`, which was written";
        self.tell(Fate::Differs, text, notes);
        Json::from("@")
    }

    fn list(&mut self, list: &[Node], notes: &mut Notes) -> Json {
        let empty = |node: &Node| match &node.value {
            Value::Text(text) => text.is_empty(),
            Value::List(list) => list.is_empty(),
            _ => false,
        };
        if !list.is_empty() && list.iter().all(empty) {
            let text = "Nova of 2012 let everybody in by it, oslo.policy of today lets nobody in: so does `\"!\"`, which \
                        was written";
            self.tell(Fate::Differs, text, notes);
            return Json::from("!");
        }
        let words = |text: &str| text.split_whitespace().any(|it| matches!(it, "or" | "and" | "not"));
        let mut items = list.iter().flat_map(|node| match &node.value {
            Value::List(inner) => inner.as_slice(),
            _ => std::slice::from_ref(node),
        });
        if items.any(|item| matches!(&item.value, Value::Text(text) if words(text))) {
            let text =
                "in a list every text is one check: `and`, `or` and `not` are part of it, there as here";
            self.tell(Fate::Differs, text, notes);
        }
        list.iter().map(json).collect()
    }

    /// The rule cannot be decided as it was: nobody gets in by it.
    fn shut(&mut self, fate: Fate, why: &str, notes: &mut Notes) {
        self.value = Json::from("!");
        self.tell(fate, format!("{why}; `\"!\"` was written, which lets nobody in"), notes);
    }
}

fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(it) => Json::from(*it),
        Value::Number(text) => serde_json::from_str(text).unwrap_or_else(|_| Json::from(text.as_str())),
        Value::Text(text) => Json::from(text.as_str()),
        Value::List(list) => list.iter().map(json).collect(),
        Value::Map(map) => map.iter().map(|(key, _)| json(key)).collect(),
    }
}

/// Every check of a rule, as it is written.
fn checks(value: &Json) -> Vec<String> {
    let mut found = Vec::new();
    let bare = |word: &str| word.trim_start_matches('(').to_owned();
    match value {
        Json::String(text) => found.extend(text.split_whitespace().map(bare)),
        Json::Array(list) => {
            for item in list {
                match item {
                    Json::String(text) => found.push(text.clone()),
                    other => found.extend(checks(other)),
                }
            }
        }
        _ => {}
    }
    found
}

/// Finds what decides differently here.
fn check(rules: &mut [Rule], notes: &mut Notes) {
    for rule in rules.iter_mut() {
        let all = checks(&rule.value);
        // Whether somebody might get in because a check is false.
        let not = rule.value.is_string() && all.iter().any(|word| word.eq_ignore_ascii_case("not"));
        let mut strange: BTreeSet<String> = BTreeSet::new();
        for check in &all {
            let Some((kind, right)) = check.split_once(':') else { continue };
            let first = kind.split('.').next().unwrap_or_default();
            let name = first.starts_with(|it: char| it.is_alphabetic() || it == '_');
            let literal = matches!(kind, "True" | "False" | "None" | "role" | "rule" | "http" | "https");
            if name && !literal && !is_credential(first) {
                strange.insert(format!("no caller has `{first}`"));
            }
            for piece in super::ini::pieces(right) {
                if let super::ini::Piece::Name(key) = piece
                    && (NO_TARGETS.contains(&key) || key.contains('.'))
                {
                    strange.insert(format!("no route here says `{key}`"));
                }
            }
        }
        if strange.is_empty() {
            continue;
        }
        let strange = strange.into_iter().collect::<Vec<_>>().join(", ");
        match not {
            true => rule.shut(
                Fate::NotYet,
                &format!("{strange}, and a `not` would let in who should not be"),
                notes,
            ),
            false => rule.tell(Fate::Differs, format!("{strange}: the check is never true here"), notes),
        }
    }
    // What our own reader refuses, until it refuses nothing: one rule may lead to another.
    for _ in 0..=rules.len() {
        let made = text(rules, rules.len());
        let source = Arc::new(Source { name: String::new(), text: made });
        let (_, told) = Policy::parse(source);
        let at = |it: &Diagnostic| it.place.as_ref().map(|place| place.line().saturating_sub(2));
        let mut shut = false;
        for problem in told.iter().filter(|it| !it.warning) {
            if let Some(rule) = at(problem).and_then(|line| rules.get_mut(line))
                && rule.value != "!"
            {
                rule.shut(Fate::Differs, &without_name(&problem.message), notes);
                shut = true;
            }
        }
        if !shut {
            for problem in told.iter().filter(|it| it.warning) {
                if let Some(rule) = at(problem).and_then(|line| rules.get_mut(line))
                    && !rule.told
                {
                    rule.tell(Fate::Differs, without_name(&problem.message), notes);
                }
            }
            return;
        }
    }
}

/// Says which rules ask a server whose certificate was perhaps not looked at.
fn by_tls(rules: &mut [Rule], notes: &mut Notes) {
    for rule in rules {
        if checks(&rule.value).iter().any(|check| check.starts_with("https:")) {
            let text = "the certificate of the server is always verified here: where the system does not trust its \
                        authority, name that in [policy] of pileus.toml, with `remote_ssl_ca_crt_file`";
            rule.tell(Fate::Differs, text, notes);
        }
    }
}

/// The message of our reader without the name of the rule, which we say ourselves.
fn without_name(message: &str) -> String {
    let rest = message.strip_prefix("rule `").and_then(|rest| rest.split_once("`: "));
    rest.map_or(message, |(_, rest)| rest).to_owned()
}

/// Says, once, which rules no route here asks.
fn unasked(rules: &[Rule], notes: &mut Notes) {
    let shipped: BTreeSet<String> = shipped().into_iter().map(|(name, _)| name).collect();
    let referred: BTreeSet<String> = rules
        .iter()
        .flat_map(|rule| checks(&rule.value))
        .filter_map(|check| check.strip_prefix("rule:").map(|name| name.trim_end_matches(')').to_owned()))
        .collect();
    let unasked: Vec<&Rule> = rules
        .iter()
        .filter(|rule| !shipped.contains(&rule.name) && !referred.contains(&rule.name))
        .filter(|rule| !matches!(rule.name.as_str(), "default" | "context_is_admin" | "admin_api"))
        .collect();
    if let Some(first) = unasked.first() {
        let names: Vec<_> = unasked.iter().take(3).map(|rule| format!("`{}`", rule.name)).collect();
        let more = if unasked.len() > 3 { ", …" } else { "" };
        let text = format!("of such there are {}: {}{more}", unasked.len(), names.join(", "));
        let what = "a rule that no route of Pileus asks";
        let help = "an extension of yours may ask; else take them away";
        notes.add_help(&first.place, what, Fate::Differs, text, help);
    }
}

/// The file: a rule on each line, an empty line before those that were put in.
fn text(rules: &[Rule], own: usize) -> String {
    let mut text = String::from("{\n");
    for (at, rule) in rules.iter().enumerate() {
        if at == own && at > 0 {
            text.push('\n');
        }
        let comma = if at + 1 < rules.len() { "," } else { "" };
        text += &format!("    {}: {}{comma}\n", Json::from(rule.name.as_str()), spaced(&rule.value));
    }
    text + "}\n"
}

/// JSON on one line, with a space behind every comma.
fn spaced(value: &Json) -> String {
    match value {
        Json::Array(list) => format!("[{}]", list.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_in_a_rule_shows_no_password() {
        let text = "a: \"http://ann:hunter2@h/%(x)s or http://h/b@c\"\n";
        let covered = covered(text);
        assert_eq!(covered.len(), text.len());
        assert!(!covered.contains("hunter") && covered.ends_with("http://h/b@c\"\n"), "{covered}");
    }

    #[test]
    fn checks_are_found_in_both_forms() {
        let of = |text: &str| checks(&serde_json::from_str(text).unwrap());
        assert_eq!(
            of(r#""(role:a or not ((http://h/%(x)s)))""#),
            ["role:a", "or", "not", "http://h/%(x)s)))"]
        );
        assert_eq!(of(r#"[["role:a", "b:c d"], "@"]"#), ["role:a", "b:c d", "@"]);
    }
}
