//! Files over each other and over the code: who decides, and what is said of it.

use std::sync::Arc;

use http::Method;
use pileus_sdk::{Answer, Fault, Mount, Route, ScopeType};
use serde_json::{Map, json};

use super::{Decision, Defaults, Policy, Settings};
use crate::diagnostic::{Diagnostic, Source};

fn route(rule: &'static str, default_rule: &'static str, also: &'static [&'static str]) -> Arc<Route> {
    Arc::new(Route {
        mount: Mount::Tenant,
        method: Method::GET,
        path: "/{project_id}/things/{id}".into(),
        params: vec!["project_id".into(), "id".into()],
        verb: None,
        resource: "things",
        action: "show",
        extension: "things",
        rule,
        also,
        default_rule,
        scope_types: if rule == "things:make" { &[ScopeType::Project] } else { &[] },
        query: Vec::new(),
        about: "",
        handler: Arc::new(|_| Answer::now(Err(Fault::NoRoute))),
    })
}

fn defaults() -> Arc<Defaults> {
    let routes = [
        route("things:show", "rule:member", &["things:all"]),
        route("things:show", "rule:member", &[]),
        route("things:make", "rule:member", &[]),
        route("things:kill", "rule:admin", &[]),
    ];
    let (defaults, problems) = Defaults::of(&routes);
    assert_eq!(problems, []);
    Arc::new(defaults)
}

fn source(name: &str, text: &str) -> Arc<Source> {
    Arc::new(Source { name: name.into(), text: text.into() })
}

fn assembled(files: &[(&str, &str)], settings: &Settings) -> (Policy, Vec<Diagnostic>) {
    let files: Vec<_> = files.iter().map(|(name, text)| source(name, text)).collect();
    Policy::assemble(&files, &defaults(), settings)
}

/// What a member (`m`), an administrator (`a`) and somebody of another project (`o`) may.
fn may(policy: &Policy, rule: &str) -> String {
    let callers = [
        ('m', json!({"project_id": "p", "roles": ["member"]})),
        ('a', json!({"project_id": "x", "roles": ["admin"]})),
        ('o', json!({"project_id": "x", "roles": ["member"]})),
    ];
    let target: &[(&str, &str)] = &[("project_id", "p"), ("id", "1")];
    let allowed = callers.iter().filter(|(_, it)| policy.check(policy.rule(rule), it, &target).allowed());
    allowed.map(|(name, _)| *name).collect()
}

#[test]
fn a_file_goes_before_the_code_and_a_later_file_before_an_earlier_one() {
    let on = Settings::default();
    let off = Settings { policy_defaults: false, ..Settings::default() };
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a Settings, [&'a str; 5]);
    // Who may things:show, things:make, things:kill, things:all, and what nobody knows.
    let cases: &[Row<'_>] = &[
        (&[], &on, ["m", "m", "a", "a", ""]),
        (&[("p.json", "{}")], &on, ["m", "m", "a", "a", ""]),
        (&[("p.json", r#"{"default": "@"}"#)], &on, ["m", "m", "a", "a", "mao"]),
        (&[("p.json", r#"{"default": "!"}"#)], &on, ["m", "m", "a", "a", ""]),
        (&[("p.json", r#"{"things:show": "!"}"#)], &on, ["", "m", "a", "a", ""]),
        (&[("p.json", r#"{"things:show": "("}"#)], &on, ["", "m", "a", "a", ""]),
        // The rule that others refer to is changed for all of them.
        (&[("p.json", r#"{"admin": "role:member"}"#)], &on, ["m", "m", "mo", "mo", ""]),
        (
            &[
                ("p.json", r#"{"things:kill": "!", "things:all": "!"}"#),
                ("d/1.yaml", "things:kill: role:member"),
            ],
            &on,
            ["m", "m", "mo", "", ""],
        ),
        // What a later file cannot say denies: the earlier file is not asked again.
        (
            &[("p.json", r#"{"things:show": "@"}"#), ("d/1.json", r#"{"things:show": 5}"#)],
            &on,
            ["", "m", "a", "a", ""],
        ),
        (&[], &off, ["", "", "", "", ""]),
        (&[("p.json", r#"{"default": "role:admin"}"#)], &off, ["a", "a", "a", "a", "a"]),
        (&[("p.json", r#"{"things:show": "@"}"#)], &off, ["mao", "", "", "", ""]),
    ];
    for (files, settings, allowed) in cases {
        let (policy, _) = assembled(files, settings);
        let found = ["things:show", "things:make", "things:kill", "things:all", "gone"]
            .map(|rule| may(&policy, rule));
        assert_eq!(found, allowed.map(str::to_owned), "{files:?}, defaults {}", settings.policy_defaults);
    }
}

#[test]
fn a_rule_knows_where_it_comes_from() {
    let files = [
        ("p.json", "{\n \"things:kill\": \"!\", \"default\": \"!\",\n \"things:show\": \"@\"}"),
        ("d/1.json", "{\"things:kill\": \"rule:admin\"}"),
        ("d/2.yaml", "# mine\n\nthings:kill:\n - role:boss\n"),
    ];
    let (policy, _) = assembled(&files, &Settings::default());
    let from = |name: &str| {
        let origin = policy.origin(name)?;
        let over: Vec<_> = origin.over.iter().map(ToString::to_string).collect();
        Some((origin.place.as_ref().map(ToString::to_string), over.join(" ")))
    };
    let at = |place: &str, over: &str| Some((Some(place.to_owned()), over.to_owned()));
    assert_eq!(from("things:kill"), at("d/2.yaml:3", "p.json:2 d/1.json:1"));
    assert_eq!(from("things:show"), at("p.json:3", ""));
    assert_eq!(from("things:make"), Some((None, String::new())));
    assert_eq!(from("gone"), None);
}

#[test]
fn a_token_for_something_else_is_refused() {
    let system = json!({"system_scope": "all", "project_id": "p", "roles": ["admin"]});
    let target: &[(&str, &str)] = &[("project_id", "p")];
    for (enforce_scope, text, refused) in [
        (true, "{}", true),
        (true, r#"{"things:make": "@"}"#, true),
        (false, "{}", false),
        (false, r#"{"things:make": "@"}"#, false),
    ] {
        let settings = Settings { enforce_scope, ..Settings::default() };
        let (policy, _) = assembled(&[("p.json", text)], &settings);
        let decision = policy.check(policy.rule("things:make"), &system, &target);
        let wanted = Decision::Scope { wanted: &[ScopeType::Project], found: ScopeType::System };
        assert_eq!(decision, if refused { wanted } else { Decision::Allow }, "{enforce_scope} {text}");
        // A route that says nothing takes any.
        assert!(policy.check(policy.rule("things:show"), &system, &target).allowed());
        let (told, tree) = policy.explain("things:make", &system, &target);
        assert_eq!((told.allowed(), tree.contains("scope project")), (!refused, refused), "{tree}");
    }
}

#[test]
fn two_routes_that_disagree_about_a_rule_are_named() {
    let routes = [route("a:b", "rule:member", &[]), route("a:b", "rule:admin", &[])];
    let (_, problems) = Defaults::of(&routes);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].message.contains("different defaults of the rule `a:b`"), "{problems:?}");
}

#[test]
fn what_the_rules_mean_for_the_routes_is_said_with_its_place() {
    // The text of a file, and of each diagnostic: whether it is an error, what is under the caret, what is said.
    type Row<'a> = (&'a str, &'a [(bool, &'a str, &'a str)]);
    let cases: &[Row<'_>] = &[
        (r#"{"things:show": "role:x"}"#, &[]),
        (r#"{"helper": "role:x", "things:show": "rule:helper"}"#, &[]),
        (r#"{"things:shwo": "role:x"}"#, &[(false, "\"things:shwo\"", "no route asks rule `things:shwo`")]),
        (r#"{"things:show": "@"}"#, &[(false, "\"things:show\"", "lets in everybody who has a token")]),
        (r#"{"things:show": ""}"#, &[(false, "\"things:show\"", "lets in everybody who has a token")]),
        (r#"{"things:show": []}"#, &[(false, "\"things:show\"", "lets in everybody who has a token")]),
        (r#"{"things:show": "role:x or not !"}"#, &[(false, "\"things:show\"", "lets in everybody")]),
        (r#"{"all": "@", "things:show": "rule:all"}"#, &[(false, "\"things:show\"", "lets in everybody")]),
        (r#"{"things:show": "!"}"#, &[]),
        (r#"{"things:show": "role:x and !"}"#, &[(false, "\"things:show\"", "lets in nobody")]),
        (
            r#"{"things:show": "role:x or 'a':a"}"#,
            &[(false, "\"things:show\"", "lets in everybody"), (false, "'a':a", "it is always true")],
        ),
        (r#"{"things:show": "role:x or 'a':b"}"#, &[(false, "'a':b", "it is never true")]),
        (
            r#"{"things:show": "user_id:%(user_id)s"}"#,
            &[(false, "user_id:%(user_id)s", "no route says `user_id` of its target, so this is never true")],
        ),
        (
            r#"{"things:show": "not user_id:%(user_id)s"}"#,
            &[(true, "user_id:%(user_id)s", "and `not` makes it true for everybody")],
        ),
        (r#"{"things:show": "project_id:%(project_id)s"}"#, &[]),
        (r#"{"things:show": "role:x and project_id:%(project_id)s"}"#, &[]),
        (
            r#"{"things:show": "role:x or project_id:%(project_id)s"}"#,
            &[(false, "project_id:%(project_id)s", "compares the caller's project with itself")],
        ),
        (
            r#"{"things:show": "role:x and not project_id:%(project_id)s"}"#,
            &[(false, "project_id:%(project_id)s", "never so below `not`")],
        ),
        (
            r#"{"default": "!", "things:show": "not rule:gone"}"#,
            &[
                (
                    false,
                    "\"default\"",
                    "`default` does not decide `things:all`, `things:make` and `things:kill`",
                ),
                (false, "\"things:show\"", "lets in everybody"),
                (true, "rule:gone", "below `not` whomever `default` denies would be let in"),
            ],
        ),
        (
            r#"{"default": "", "things:show": "role:x", "things:make": "role:x", "things:kill": "role:x", "things:all": "role:x"}"#,
            &[(false, "\"default\"", "`default` lets in everybody")],
        ),
        (
            r#"{"things:show": "not rule:gone"}"#,
            &[(true, "rule:gone", "and there is no `default` to decide")],
        ),
        (r#"{"things:show": "rule:things:show"}"#, &[(true, "rule:things:show", "in a circle")]),
        (
            r#"{"things:show": "http://policy.example/"}"#,
            &[(false, "http://policy.example/", "is another host, and is sent credentials")],
        ),
        (r#"{"things:show": "http://127.0.0.1:9/%(id)s"}"#, &[]),
        (
            r#"{"things:show": "http://127.0.0.1:9/%(user)s"}"#,
            &[(false, "http://127.0.0.1:9/%(user)s", "no route says `user`")],
        ),
        (
            r#"{"things:all": "http://127.0.0.1:9/"}"#,
            &[(false, "\"things:all\"", "asked in the middle of a call, where nobody can wait")],
        ),
    ];
    for (text, wanted) in cases {
        let (_, told) = assembled(&[("policy.json", text)], &Settings::default());
        let mut found: Vec<_> = told
            .iter()
            .map(|it| {
                let place = it.place.as_ref().unwrap();
                assert!(it.help.is_some() || !it.warning || it.message.contains("circle"), "{text}: {it:?}");
                (!it.warning, &place.source.text[place.span.clone()], &*it.message)
            })
            .collect();
        found.sort_by_key(|(error, under, _)| (*error, *under));
        assert_eq!(found.len(), wanted.len(), "{text}: {found:?}");
        for ((error, under, said), (wanted_error, wanted_under, wanted_said)) in found.iter().zip(*wanted) {
            assert_eq!((error, under), (wanted_error, wanted_under), "{text}: {said}");
            assert!(said.contains(wanted_said), "{text}: {said}");
        }
    }
}

#[test]
fn a_file_of_another_service_is_not_told_rule_by_rule() {
    let rules: Map<_, _> = (0..100).map(|it| (format!("os_compute_api:{it:03}"), json!("role:x"))).collect();
    let (_, told) = assembled(&[("policy.json", &json!(rules).to_string())], &Settings::default());
    assert_eq!(told.len(), 9, "{told:?}");
    assert!(told.iter().any(|it| it.message.contains("of 92 more such rules")), "{told:?}");
}

#[test]
fn yaml_has_places_too() {
    // The text, what is under the caret, what is said.
    let cases = [
        ("things:show: role:a or", "or", "`or` has nothing on its right"),
        ("\"things:show\": \"role:a or\"\n", "or", "`or` has nothing on its right"),
        ("# why\nthings:show: 'admin'\n", "admin", "`admin` is no check"),
        ("things:show:\n - role:a\n - [role:b, 5]\n", "5", "a number is no rule"),
        ("things:show: !\n", "", "a bare `!` is none"),
        ("things:show: [!, 'role:a']\n", "", "a bare `!` is none"),
        ("things:show: |\n", "|", "a bare `!` is none"),
        ("things:show:\n", "", "null is no rule"),
        ("things:show: yes\n", "yes", "true is no rule"),
        ("things:show: {a: b}\n", "{", "a map is no rule"),
        ("things:show: |\n  role:a or\n", "", "`or` has nothing on its right"),
        ("- a\n", "-", "this is no map of rules"),
        ("a: b: c\n", "", "this is no YAML"),
        ("[a]: b\n", "[", "the name of a rule has to be text"),
        ("things:show: '@'\nthings:show: '!'\n", "'!'", "stands here a second time"),
    ];
    for (text, under, said) in cases {
        let (policy, told) = assembled(&[("policy.d/a.yaml", text)], &Settings::default());
        let errors: Vec<_> = told.iter().filter(|it| !it.warning).collect();
        assert_eq!(errors.len(), 1, "{text}: {told:?}");
        assert!(errors[0].message.contains(said), "{text}: {errors:?}");
        let place = errors[0].place.as_ref().unwrap();
        assert!(place.source.text[place.span.clone()].starts_with(under), "{text}: {place:?}");
        let broken = text.starts_with(['-', 'a', '[']) || text.contains("'@'");
        assert_eq!(may(&policy, "things:show").is_empty(), !broken, "{text}");
    }
    let (policy, told) = assembled(&[("a.yml", "# nothing\n")], &Settings::default());
    assert!(told.is_empty() && may(&policy, "things:show") == "m", "{told:?}");
    let folded = "things:show: >\n  role:admin or\n  role:member\n";
    let (policy, told) = assembled(&[("a.yaml", folded)], &Settings::default());
    assert!(told.is_empty() && may(&policy, "things:show") == "mao", "{told:?}");
}

#[test]
fn the_shipped_settings_are_the_defaults() {
    let source = source("pileus.toml", crate::config::SHIPPED);
    let mut report = crate::diagnostic::Report::default();
    let known = crate::config::Known { drivers: &["local"], stores: &["sqlite"], extensions: &[] };
    let config =
        crate::config::Config::from_text(&source.name, &source.text, "".as_ref(), &known, &mut report)
            .unwrap();
    assert_eq!(config.policy().parse::<Settings>().unwrap(), Settings::default());
    for line in [
        "policy_dirs",
        "policy_defaults",
        "enforce_scope",
        "remote_timeout_s",
        "remote_content_type",
        "remote_ssl_ca_crt_file",
        "remote_ssl_client_crt_file",
        "remote_ssl_client_key_file",
        "remote_ssl_verify_server_crt",
    ] {
        assert!(source.text.contains(line), "{line}");
    }
}

#[test]
fn a_rule_for_all_projects_that_a_projects_member_meets_is_told() {
    let clouds = |rule| {
        let mut route = Arc::unwrap_or_clone(route(rule, "rule:admin", &[]));
        route.resource = "shared";
        Arc::new(route)
    };
    let mut routes =
        vec![clouds("shared:make"), clouds("shared:kill"), route("things:kill", "rule:admin", &[])];
    routes.push(route("things:index", "rule:member", &["things:index:all_projects"]));
    let (defaults, _) = Defaults::of(&routes);
    let defaults = Arc::new(defaults);
    let cases = [
        // The file, and the place of the warning with the rules that it names.
        (r#"{"admin": "role:admin"}"#, ""),
        (r#"{"admin": "role:a and project_id:%(project_id)s"}"#, "admin: `shared:make` and 2 more"),
        (
            r#"{"admin": "rule:b", "b": "role:a and rule:member", "member": "project_id:%(project_id)s"}"#,
            "member: `shared:make` and 2 more",
        ),
        (r#"{"shared:kill": "project_id:%(project_id)s"}"#, "shared:kill: `shared:kill` decide"),
        (r#"{"admin": "role:a and not project_id:%(project_id)s"}"#, ""),
        (r#"{"things:kill": "project_id:%(project_id)s"}"#, ""),
        (
            r#"{"things:index:all_projects": "role:a and project_id:%(project_id)s"}"#,
            "things:index:all_projects: `things:index:all_projects` decide",
        ),
    ];
    for (text, wanted) in cases {
        let (_, told) = Policy::assemble(&[source("p.json", text)], &defaults, &Settings::default());
        let told: Vec<_> = told.iter().filter(|it| it.message.contains("for all projects")).collect();
        match wanted.split_once(": ") {
            None => assert!(told.is_empty(), "{text}: {told:?}"),
            Some((rule, names)) => {
                assert_eq!(told.len(), 1, "{text}: {told:?}");
                let message = &told[0].message;
                assert!(
                    message.starts_with(&format!("rule `{rule}`: ")) && message.contains(names),
                    "{message}"
                );
            }
        }
    }
}
