//! Warns of rules that decide for all projects and are met by membership in any one of them.
//!
//! The project in a path is always the caller's own. Where a route changes what all projects share,
//! `project_id:%(project_id)s` is therefore true for every caller: a project's administrator gets it.

use std::collections::{BTreeMap, HashSet};

use super::{
    Policy, Rule,
    check::{Leaf, Test},
    format::Format,
    lint::placed,
};
use crate::diagnostic::Diagnostic;

/// Checks found in one rule of a file, and the rules for all projects that they decide.
type Found<'a> = BTreeMap<(usize, usize), (&'a Rule, &'a Leaf, Vec<&'a str>)>;

/// Looks at every rule whose default is an administrator's and whose objects belong to no project.
pub(super) fn check(policy: &Policy) -> Vec<Diagnostic> {
    let mut found = Found::new();
    for default in policy.defaults.rules() {
        let resource = default.name.split(':').next().unwrap_or_default();
        // Objects of such a resource belong to projects: its rules decide within one.
        let of_projects = policy.defaults.get(&format!("{resource}:index:all_projects")).is_some();
        let for_all = !of_projects || default.name.ends_with(":all_projects");
        if for_all && default.expression == pileus_sdk::action::ADMIN_ALONE {
            let mut seen = HashSet::new();
            follow(policy, policy.rule(default.name).index(), default.name, &mut seen, &mut found);
        }
    }
    let told = found.into_values().map(|(rule, leaf, names)| {
        let more = match names.len() {
            1 => String::new(),
            more => format!(" and {} more", more - 1),
        };
        let text = format!(
            "rule `{}`: `{}` is true for every caller, and `{}`{more} decide for all projects",
            rule.name, leaf.text, names[0]
        );
        let help = "name a role that operators alone have, or `system_scope:all`";
        placed(Diagnostic::warning(text).help(help), rule, leaf)
    });
    told.collect()
}

fn follow<'a>(
    policy: &'a Policy,
    at: usize,
    name: &'a str,
    seen: &mut HashSet<usize>,
    found: &mut Found<'a>,
) {
    let Some(rule) = policy.rules.get(at).filter(|_| seen.insert(at)) else { return };
    let mut next = Vec::new();
    let mut index = 0;
    rule.check.leaves(&mut |it| {
        index += 1;
        match &it.leaf.test {
            Test::Rule { to: Some(to), .. } if !it.negated => next.push(to.index()),
            Test::Creds(path, Format::Key(key))
                if !it.negated
                    && rule.origin.place.is_some()
                    && path.len() == 1
                    && *path[0] == *"project_id"
                    && **key == *"project_id" =>
            {
                found.entry((at, index)).or_insert_with(|| (rule, it.leaf, Vec::new())).2.push(name);
            }
            _ => {}
        }
    });
    for to in next {
        follow(policy, to, name, seen, found);
    }
}
