//! The text of `policy.json`: read, linted, and every rule of it decided.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pileus::{
    diagnostic::{Report, Source},
    policy::Policy,
};
use serde_json::{Map, Value, json};

fuzz_target!(|text: &str| {
    let source = Arc::new(Source { name: "policy.json".into(), text: text.into() });
    let (policy, problems) = Policy::parse(source);
    let mut report = Report::default();
    report.extend(problems);
    let _ = (report.render(false), report.to_json());
    let creds = json!({ "user_id": "u", "project_id": "p", "roles": ["member"], "is_admin": false });
    let target: Map<String, Value> = json!({ "project_id": "p", "id": "x" }).as_object().cloned().unwrap_or_default();
    let names: Vec<String> = policy.rules().map(|(name, _)| name.to_owned()).collect();
    for name in names.iter().map(String::as_str).chain(["default", "none"]) {
        let _ = policy.check(policy.rule(name), &creds, &target).allowed();
    }
});
