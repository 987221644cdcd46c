//! Rules that are added to a site's own, and rules that mean the same here under another name.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Input, Notes, policy::convert};
use crate::{diagnostic::Source, policy::Policy};

fn made(name: &str, text: &str) -> (Value, String) {
    let mut notes = Notes::default();
    let made = convert(&Input { name: name.into(), text: text.into() }, &mut notes).unwrap();
    (serde_json::from_str(&made).unwrap(), notes.report().render(false))
}

#[test]
fn no_rule_of_a_site_decides_for_all_projects() {
    let project = json!({"project_id": "p", "roles": ["compute_admin", "member"]});
    let operator = json!({"project_id": "p", "roles": ["admin"]});
    let target: &[(&str, &str)] = &[("project_id", "p")];
    let sites = [
        r#"{"admin": "role:compute_admin and rule:owner", "owner": "project_id:%(project_id)s"}"#,
        r#"{"admin": [["role:compute_admin"]], "pileus_admin": "role:compute_admin"}"#,
        r#"{"admin": "@", "member": "@", "pileus_admin": "@", "pileus_admin_": "@", "default": "@"}"#,
        r#"{"default": "rule:owner", "owner": "project_id:%(project_id)s"}"#,
        "{}",
    ];
    for site in sites {
        let mut notes = Notes::default();
        let text = convert(&Input { name: "policy.json".into(), text: site.into() }, &mut notes).unwrap();
        let (policy, problems) = Policy::parse(Arc::new(Source { name: "policy.json".into(), text }));
        assert!(problems.iter().all(|it| it.warning), "{site}: {problems:?}");
        for rule in ["tokens:create", "service:quick_shutdown", "clouds:create", "jobs:index:all_projects"] {
            let may = |creds: &Value| policy.check(policy.rule(rule), creds, &target).allowed();
            assert_eq!((may(&project), may(&operator)), (false, true), "{site}: {rule}");
        }
    }
}

#[test]
fn what_callers_have_is_carried_under_the_name_it_has_here() {
    let cases = [
        ("tenant_id:%(tenant_id)s", "project_id:%(project_id)s"),
        (
            "role:a or (tenant_id:%(tenant_id)s and role:b)",
            "role:a or (project_id:%(project_id)s and role:b)",
        ),
        ("tenant:%(tenant_id)s", "project_id:%(project_id)s"),
        ("project_id:%(tenant_id)s", "project_id:%(project_id)s"),
        ("domain_id:default", "domain_id:default"),
        ("system_scope:all and role:admin", "system_scope:all and role:admin"),
        ("user_domain_id:d and project_domain_id:e", "user_domain_id:d and project_domain_id:e"),
        ("is_admin_project:True", "is_admin_project:True"),
        ("service_roles:service", "service_roles:service"),
    ];
    for (from, to) in cases {
        let (rules, told) = made("policy.json", &json!({ "clouds:show": from }).to_string());
        assert_eq!((rules["clouds:show"].as_str(), &*told), (Some(to), "0 errors, 0 warnings\n"), "{from}");
    }
    let (rules, told) = made("policy.yaml", "\"a:b\": [[\"tenant_id:%(tenant_id)s\"], [\"colour:red\"]]\n");
    assert_eq!(rules["a:b"], json!([["project_id:%(project_id)s"], ["colour:red"]]));
    assert!(told.contains("no caller has `colour`") && !told.contains("says `tenant"), "{told}");
}
