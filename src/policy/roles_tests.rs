//! What roles may by the shipped rules: those of the file, and those of the code alone.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    cli::Options,
    diagnostic::{Report, Source},
    files::SHIPPED_POLICY,
    policy_of,
};

#[test]
fn readers_read_members_write_and_administrators_administer() {
    let keystone = |roles: &[&str], project: &str, is_admin_project: bool| json!({ "project_id": project, "roles": roles, "is_admin_project": is_admin_project });
    let embedded = |roles: &[&str]| json!({ "project_id": "p", "roles": roles });
    // Who calls; what the caller may of reading, writing and administering.
    let cases: [(&str, Value, &str); 17] = [
        ("a reader", keystone(&["reader"], "p", true), "r"),
        ("a reader of another project", keystone(&["reader"], "q", true), ""),
        ("a member", keystone(&["member", "reader"], "p", true), "rw"),
        ("a member in capitals", keystone(&["Member"], "p", true), "rw"),
        ("a member of another project", keystone(&["member"], "q", true), ""),
        ("a member where administrators have a project", keystone(&["member"], "p", false), "rw"),
        ("a reader where administrators have a project", keystone(&["reader"], "p", false), "r"),
        ("another role", keystone(&["heat_stack_owner"], "p", true), "r"),
        ("no role", keystone(&[], "p", true), "r"),
        ("an administrator", keystone(&["admin"], "p", true), "rwa"),
        ("an administrator of another project", keystone(&["admin"], "q", true), "a"),
        ("an administrator of no administrators' project", keystone(&["admin"], "p", false), "r"),
        ("an administrator and member of no such project", keystone(&["admin", "member"], "p", false), "rw"),
        ("an embedded token without a role", embedded(&[]), "rw"),
        ("an embedded token with a role of its own", embedded(&["operator"]), "rw"),
        ("an embedded administrator", embedded(&["admin"]), "rwa"),
        ("nobody", json!({}), ""),
    ];
    let reads = ["jobs:index", "jobs:show", "vms:detail", "clouds:show", "policy:check", "limits:index"];
    let writes = [
        "jobs:create",
        "jobs:delete",
        "jobs:hold",
        "jobs:release",
        "vms:shutdown",
        "vms:force_retire",
        "vms:bulk_shutdown",
        "vms:bulk_force_retire",
    ];
    let administers = ["clouds:create", "tokens:create", "jobs:index:all_projects", "service:quick_shutdown"];
    for text in [SHIPPED_POLICY, "{}"] {
        let file = Arc::new(Source { name: "policy.json".into(), text: text.into() });
        let mut report = Report::default();
        let policy = policy_of(&[file], &Options::default(), &mut report);
        assert_eq!(report.errors(), 0, "{}", report.render(false));
        let target: &[(&str, &str)] = &[("project_id", "p"), ("id", "1")];
        for (who, creds, may) in &cases {
            for (letter, rules) in [('r', &reads[..]), ('w', &writes), ('a', &administers)] {
                for rule in rules {
                    let allowed = policy.check(policy.rule(rule), creds, &target).allowed();
                    assert_eq!(allowed, may.contains(letter), "{who}: {rule}");
                }
            }
        }
    }
}
