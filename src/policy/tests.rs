use std::{path::Path, sync::Arc};

use pileus_sdk::{Caller, Decide};
use serde_json::{Map, Value, json};

use super::*;
use crate::diagnostic::{Diagnostic, Source};

/// Rules from the text of a file, and what is wrong with it.
pub(super) fn load(text: &str) -> (Policy, Vec<Diagnostic>) {
    Policy::parse(Arc::new(Source { name: "policy.json".into(), text: text.into() }))
}

fn asked(rules: Value, creds: Value, target: Value) -> Decision {
    let policy = Policy::from_rules(rules.as_object().unwrap());
    policy.check(policy.rule("a"), &creds, target.as_object().unwrap())
}

#[test]
fn every_vector_holds() {
    for (file, count) in [("vectors.json", 179), ("own.json", 83)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy").join(file);
        let mut out = Vec::new();
        let summary = run_files(&[path], &mut out).unwrap();
        assert_eq!(summary, Summary { passed: count, failed: 0 }, "{}", String::from_utf8(out).unwrap());
    }
}

#[test]
fn a_vector_that_fails_is_shown_with_its_tree() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.json");
    let bad = folder.path().join("bad.json");
    let vector = |name: &str, expect: &str| {
        json!({
            "name": name, "rules": {"a": "role:x or user_id:%(user_id)s"}, "rule": "a",
            "creds": {"roles": ["y"], "user_id": "ann"}, "target": {"user_id": "bob"}, "expect": expect,
        })
    };
    let vectors = json!([vector("right", "deny"), vector("also right", "error"), vector("wrong", "allow")]);
    std::fs::write(&good, vectors.to_string()).unwrap();
    std::fs::write(&bad, "[\n {\"name\": 5}]").unwrap();
    let gone = folder.path().join("gone.json");
    let mut out = Vec::new();
    let summary = run_files(&[good.clone(), bad.clone(), gone.clone()], &mut out).unwrap();
    assert_eq!(summary, Summary { passed: 2, failed: 3 });
    let out = String::from_utf8(out).unwrap();
    let expected = format!(
        "{}: wrong\n  expected: allow\n  got:      deny\n    a: deny\n      or: no\n        \
         role:x: no (the caller's roles are ['y'])\n        \
         user_id:%(user_id)s: no (the caller has `ann`, wanted is `bob`)\n\
         {}:2:11: invalid type: integer `5`, expected a string\n\
         {}: No such file or directory (os error 2)\n2 passed, 3 failed\n",
        good.display(),
        bad.display(),
        gone.display()
    );
    assert_eq!(out, expected);
}

#[test]
fn a_mistake_in_one_rule_leaves_the_others_alone() {
    let (policy, diagnostics) = load(r#"{"bad": "((", "worse": 5, "good": "role:x"}"#);
    assert_eq!(diagnostics.len(), 2);
    let creds = json!({"roles": ["x"]});
    let decide = |rule| policy.check(policy.rule(rule), &creds, &Map::new());
    assert!(matches!(decide("bad"), Decision::Error(_)));
    assert!(matches!(decide("worse"), Decision::Error(_)));
    assert_eq!(decide("good"), Decision::Allow);
}

#[test]
fn circles_and_depth_end_in_an_error() {
    let creds = json!({"roles": ["x"]});
    let nested = |count: usize| format!("{}role:x{}", "(".repeat(count), ")".repeat(count));
    assert_eq!(asked(json!({"a": nested(60)}), creds.clone(), json!({})), Decision::Allow);
    for rule in [nested(65), nested(100_000), "not ".repeat(100_000) + "@", "(".repeat(100_000)] {
        assert!(matches!(asked(json!({"a": rule}), creds.clone(), json!({})), Decision::Error(_)));
    }
    // A chain of ten thousand rules, and two rules asked a hundred times twice over.
    let chain: Map<String, Value> =
        (0..10_000).map(|it| (format!("r{it}"), json!(format!("rule:r{}", it + 1)))).collect();
    let policy = Policy::from_rules(&chain);
    assert!(matches!(policy.check(policy.rule("r0"), &creds, &Map::new()), Decision::Error(_)));
    let doubling: Map<String, Value> =
        (0..100).map(|it| (format!("r{it}"), json!(format!("rule:r{0} or rule:r{0}", it + 1)))).collect();
    let policy = Policy::from_rules(&doubling);
    assert!(matches!(policy.check(policy.rule("r0"), &creds, &Map::new()), Decision::Error(_)));
    let (decision, tree) = policy.explain("r0", &creds, &Map::new());
    assert!(matches!(decision, Decision::Error(_)));
    assert!(tree.lines().count() < 500, "{}", tree.lines().count());
    // Loading sees the depth, too.
    let (_, diagnostics) = load(&Value::Object(chain).to_string());
    let errors: Vec<_> = diagnostics.iter().filter(|it| it.message.contains("nested deeper")).collect();
    assert_eq!(errors.len(), 1, "{diagnostics:?}");
}

#[test]
fn the_tree_shows_values_and_reasons() {
    let rules = json!({
        "admin": "is_admin:True or role:admin",
        "a": "not rule:admin and (tenant:x or level:%(n)s or admin) and role:z",
        "broken": "role:a and token.id:x",
        "through": "rule:gone",
        "default": "!",
    });
    let policy = Policy::from_rules(rules.as_object().unwrap());
    let creds = json!({"is_admin": false, "roles": ["member"], "level": 5, "token": null});
    let target = json!({"n": 7});
    let tree = |rule| policy.explain(rule, &creds, target.as_object().unwrap()).1;
    assert_eq!(
        tree("a"),
        "\
a: error: `admin` is no check: a check is KIND:VALUE, as in `role:admin`, or `@`, or `!`
  and: unclear
    not: yes
      rule:admin: no
        or: no
          is_admin:True: no (the caller has `False`, wanted is `True`)
          role:admin: no (the caller's roles are ['member'])
    or: unclear
      tenant:x: no (the caller has no `tenant`)
      level:%(n)s: no (the caller has `5`, wanted is `7`)
      admin: unclear (`admin` is no check: a check is KIND:VALUE, as in `role:admin`, or `@`, or `!`)
    role:z: not asked
"
    );
    assert_eq!(
        tree("broken"),
        "\
broken: deny
  and: no
    role:a: no (the caller's roles are ['member'])
    token.id:x: not asked
"
    );
    assert_eq!(
        tree("through"),
        "\
through: deny
  rule:gone: no (no rule is called `gone`, so `default` decides)
    !: no
"
    );
    assert_eq!(tree("unknown"), "unknown: deny (no rule has this name, so `default` decides)\n  !: no\n");
    let raising = Policy::from_rules(json!({"a": "@ and (token.id:x or @)"}).as_object().unwrap());
    assert_eq!(
        raising.explain("a", &creds, &Map::new()).1,
        "\
a: error: `id` was looked for in None, which has no members
  and: error
    @: yes
    or: error
      token.id:x: error (`id` was looked for in None, which has no members)
"
    );
}

#[test]
fn a_stage_decides_by_caller_and_target() {
    let rules = json!({"owner": "project_id:%(project_id)s", "open": "@"});
    let policy = Policy::from_rules(rules.as_object().unwrap());
    let caller = Caller::new("ann".into(), "p1".into(), vec!["member".into()], false);
    assert!(policy.allows("owner", Some(&caller), &[("project_id", "p1")]));
    assert!(!policy.allows("owner", Some(&caller), &[("project_id", "p2")]));
    assert!(!policy.allows("owner", Some(&caller), &[]));
    assert!(!policy.allows("gone", Some(&caller), &[]), "an unknown rule, and no default");
    assert!(!policy.allows("open", None, &[]), "nobody is let in by no rule");
    assert!(!Policy::default().allows("open", Some(&caller), &[]));
}

/// A small generator of numbers: the same ones on every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % below
    }
}

#[test]
fn random_rules_never_panic_and_never_allow_what_was_not_understood() {
    let words = [
        "role:a",
        "role:b",
        "not",
        "and",
        "or",
        "NOT",
        "(",
        ")",
        "((",
        "))",
        "@",
        "!",
        "admin",
        "rule:a",
        "rule:b",
        "rule:gone",
        "'x':%(x)s",
        "x:%(x",
        "%",
        "%%",
        "x:%(n)d",
        "x.y.z:1",
        "l.n:2",
        "",
        " ",
        "\t",
        "\u{a0}",
        ":",
        "::",
        "'",
        "\"",
        "'a'",
        "not(role:a)",
        "(role:a)and(role:b)",
        "None:%(z)s",
        "role:%(x)s",
        "é:ü",
        "\u{200b}",
        "http://x",
        "roles:a",
        "5:%(n)s",
        "x:%(n)999d",
        "\\",
        "\n",
    ];
    let creds = json!({
        "roles": ["A", "member"], "x": "y", "n": 7, "l": [{"n": 1}, {"n": 2}], "z": null, "é": "ü",
    });
    let target = json!({"x": "x", "n": 7, "z": null});
    let target = target.as_object().unwrap();
    let mut dice = Dice(20120927);
    let (mut allowed, mut flawed) = (0, 0);
    for _ in 0..6_000 {
        let mut rule = || {
            let mut text = String::new();
            for _ in 0..dice.roll(8) {
                text.push_str(words[dice.roll(words.len())]);
                text.push_str(["", " ", " ", " "][dice.roll(4)]);
            }
            text
        };
        let rules = json!({"a": rule(), "b": [rule(), [rule(), rule()]], "c": rule()});
        let (policy, diagnostics) = load(&rules.to_string());
        for name in ["a", "b", "c"] {
            let decision = policy.check(policy.rule(name), &creds, target);
            let (told, _) = policy.explain(name, &creds, target);
            assert_eq!(decision, told, "{rules}");
            // The text that a parse failed on decides nothing, whatever else is in the file.
            let failed = policy.rules.iter().any(|rule| {
                &*rule.name == name
                    && matches!(&rule.check, Check::Leaf(leaf) if matches!(leaf.test, check::Test::Unclear(_)))
            });
            assert!(!failed || matches!(decision, Decision::Error(_)), "{rules}: {decision}");
            let own = format!("rule `{name}`: ");
            let reported = diagnostics.iter().any(|it| !it.warning && it.message.starts_with(&own));
            assert!(!failed || reported, "{rules}: {diagnostics:?}");
            allowed += usize::from(decision.allowed());
            flawed += usize::from(failed);
        }
        for diagnostic in &diagnostics {
            let place = diagnostic.place.as_ref().unwrap();
            assert!(place.source.text.get(place.span.clone()).is_some(), "{rules}: {diagnostic:?}");
        }
    }
    assert!(allowed > 500 && flawed > 500, "{allowed} allowed, {flawed} not understood");
}

#[test]
fn a_not_never_makes_a_yes_of_what_was_not_understood() {
    let rest = ["admin", "'x'", "http://x", "role:a role:b", ""];
    for unclear in rest.iter().filter(|text| !text.is_empty()) {
        let rules = json!({"b": unclear, "a": "not rule:b", "c": "not not rule:b", "d": ["!"]});
        let policy = Policy::from_rules(rules.as_object().unwrap());
        for rule in ["a", "b", "c"] {
            let decision = policy.check(policy.rule(rule), &json!({"roles": ["a"]}), &Map::new());
            assert!(!decision.allowed(), "{rule} of {rules}");
        }
    }
}
