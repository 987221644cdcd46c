//! From files and the defaults in code to rules, and what is wrong with them.
//!
//! Files are taken in their order: of a rule that several have, the last one holds. What no file has is
//! decided by its default in code ([`Defaults`]); what neither has, by the rule `default`; failing that,
//! nobody may.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    Defaults, Origin, Policy, Rule, RuleId, Settings,
    check::Test,
    lint,
    parse::{self, Form},
    read,
};
use crate::diagnostic::{Diagnostic, Place, Source};

impl Policy {
    /// Reads the text of one file, and knows of no routes. All that is wrong is told at once; a rule
    /// with a mistake denies.
    pub fn parse(source: Arc<Source>) -> (Self, Vec<Diagnostic>) {
        Self::assemble(&[source], &Arc::default(), &Settings::default())
    }

    /// Reads files, later over earlier, above the defaults of the routes. All that is wrong is told at
    /// once; a rule with a mistake denies, whatever an earlier file says of it.
    pub fn assemble(
        files: &[Arc<Source>],
        defaults: &Arc<Defaults>,
        settings: &Settings,
    ) -> (Self, Vec<Diagnostic>) {
        let mut diagnostics = Vec::new();
        let mut policy = Self { defaults: defaults.clone(), settings: settings.clone(), ..Self::default() };
        let mut whole = true;
        for (index, source) in files.iter().enumerate() {
            // A file that is named twice is read once.
            if files[..index].iter().any(|other| other.name == source.name) {
                continue;
            }
            match read::members(source) {
                Ok(members) => policy.take(source, members, &mut diagnostics),
                Err(broken) => {
                    whole = false;
                    diagnostics.push(broken);
                }
            }
        }
        policy.fill(&mut diagnostics);
        policy.resolve();
        // What a broken file lacks may stand in the part that could not be read.
        if whole {
            diagnostics.extend(lint::lint(&policy));
        }
        (policy, diagnostics)
    }

    /// The rules of one file, over those that are there.
    fn take(&mut self, source: &Arc<Source>, members: Vec<read::Member>, diagnostics: &mut Vec<Diagnostic>) {
        for read::Member { name, key, value, form } in members {
            let known = self.names.get(&*name).copied();
            let place = |span| Place { source: source.clone(), span };
            let own = known.and_then(|id| self.get(id)?.origin.place.as_ref());
            if own.is_some_and(|place| place.source.name == source.name) {
                let message = format!("rule `{name}` stands here a second time");
                diagnostics.push(Diagnostic::error(message).at(place(value)).help("take one of them away"));
                continue;
            }
            let mut problems = Vec::new();
            self.add(&name, &form, &mut problems);
            if let Some(rule) = self.names.get(&*name).copied().and_then(|id| self.rules.get_mut(id.index()))
            {
                rule.origin.over.extend(rule.origin.place.replace(place(key)));
            }
            diagnostics.extend(problems.into_iter().map(|problem| {
                let message = format!("rule `{name}`: {}", problem.message);
                let diagnostic = Diagnostic::error(message).at(place(problem.span));
                Diagnostic { help: problem.help, ..diagnostic }
            }));
        }
    }

    /// What no file has, from the code; and what a token has to be for.
    fn fill(&mut self, diagnostics: &mut Vec<Diagnostic>) {
        let defaults = self.defaults.clone();
        for rule in defaults.rules() {
            if !self.defines(rule.name) {
                // A deployer who wants no defaults has said what decides then.
                let expression = match self.settings.policy_defaults {
                    true => rule.expression,
                    false if rule.routes.is_empty() => continue,
                    false => "rule:default",
                };
                let mut problems = Vec::new();
                self.add(rule.name, &read::form_of_value(&expression.into()), &mut problems);
                diagnostics.extend(problems.into_iter().map(|problem| {
                    Diagnostic::error(format!("the default of rule `{}`: {}", rule.name, problem.message))
                        .help("it is written in the code of its extension")
                }));
            }
            let rule_of = self.names.get(rule.name).copied();
            if let Some(own) = rule_of.and_then(|id| self.rules.get_mut(id.index()))
                && self.settings.enforce_scope
            {
                own.scope_types = rule.scope_types;
            }
        }
    }

    /// Rules from values, as far as they can be understood; what cannot be denies.
    pub fn from_rules(rules: &Map<String, Value>) -> Self {
        let mut policy = Self::default();
        for (name, value) in rules {
            policy.add(name, &read::form_of_value(value), &mut Vec::new());
        }
        policy.resolve();
        policy
    }

    /// A rule of this name, in the place of one that there is.
    fn add(&mut self, name: &str, form: &Form, problems: &mut Vec<parse::Problem>) {
        let check = parse::rule(form, problems);
        let mut flaw = None;
        check.leaves(&mut |leaf| {
            if let Test::Unclear(why) = &leaf.leaf.test {
                flaw.get_or_insert_with(|| why.clone());
            }
        });
        if let Some(rule) = self.names.get(name).copied().and_then(|id| self.rules.get_mut(id.index())) {
            rule.check = check;
            rule.flaw = flaw;
            return;
        }
        // A file of four thousand million rules does not fit into the memory.
        let id = RuleId(u32::try_from(self.rules.len()).unwrap_or(u32::MAX));
        let origin = Box::<Origin>::default();
        self.rules.push(Rule { name: name.into(), check, flaw, scope_types: &[], asks: false, origin });
        self.names.insert(name.into(), id);
    }

    /// Lets every reference know its rule, and every rule whether it may ask another server.
    fn resolve(&mut self) {
        let mut rules = std::mem::take(&mut self.rules);
        let mut used_by: Vec<Vec<usize>> = vec![Vec::new(); rules.len()];
        let mut asking = Vec::new();
        for (index, rule) in rules.iter_mut().enumerate() {
            rule.check.leaves_mut(&mut |leaf| match &mut leaf.test {
                Test::Rule { name, to } => {
                    *to = Some(self.rule(name)).filter(|id| *id != RuleId::NONE);
                    if let Some(users) = to.and_then(|to| used_by.get_mut(to.index())) {
                        users.push(index);
                    }
                }
                Test::Http(_) => asking.push(index),
                _ => {}
            });
        }
        // From those that ask to those that refer to them: each once, circles or not.
        while let Some(index) = asking.pop() {
            if !std::mem::replace(&mut rules[index].asks, true) {
                asking.extend(&used_by[index]);
            }
        }
        self.rules = rules;
    }

    /// The same defaults and settings with another file alone, for whoever wants to compare.
    pub fn beside(&self, file: Arc<Source>) -> (Self, Vec<Diagnostic>) {
        Self::assemble(&[file], &self.defaults, &self.settings)
    }
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
            (r#"{"a": "https:x/y"}"#, "as in `https://127.0.0.1:8000/path`", "https:x/y", None),
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
