//! The rules in code: what decides where no file says anything.
//!
//! Every route brings the default of its rule, so that a deployer writes only what he wants otherwise, and
//! a route that an upgrade brings is guarded before anybody has heard of it. An extension that says nothing
//! leaves its routes to administrators alone.
//! Source: oslo.policy, `register_defaults`; reference §6.9.

use std::{collections::BTreeSet, sync::Arc};

use foldhash::{HashMap, HashMapExt};
use pileus_sdk::{Route, ScopeType, action::ADMIN_ALONE};

use crate::diagnostic::Diagnostic;

/// Rules that the defaults of routes refer to; a file may say otherwise, for all of them at once.
///
/// Callers of Keystone alone have `is_admin_project`. For them writing takes the role `member`: `reader` reads. Tokens
/// of the embedded identity may have any roles, and the project is enough.
pub static BASE: &[(&str, &str)] = &[
    ("admin", "role:admin and not is_admin_project:False"),
    ("member", "project_id:%(project_id)s"),
    ("writer", "rule:member and (role:member or rule:admin or not rule:of_keystone)"),
    ("of_keystone", "is_admin_project:True or is_admin_project:False"),
];

/// The default of one rule.
#[derive(Debug)]
pub struct DefaultRule {
    /// `clouds:show`.
    pub name: &'static str,
    /// What decides.
    pub expression: &'static str,
    /// What a token has to be for; empty: anything.
    pub scope_types: &'static [ScopeType],
    /// Who asks it; nobody of a rule that others refer to.
    pub routes: Vec<Arc<Route>>,
    /// Whether a route is guarded by it; else controllers ask it, when they get there.
    guards: bool,
}

/// The defaults of all routes, and those that they refer to.
#[derive(Debug, Default)]
pub struct Defaults {
    rules: Vec<DefaultRule>,
    names: HashMap<&'static str, usize>,
    /// What routes say of their target: the parameters of their paths.
    attributes: BTreeSet<Box<str>>,
}

impl Defaults {
    /// Of these routes. Two that say different things of one rule are a mistake that names both.
    pub fn of<'a>(routes: impl IntoIterator<Item = &'a Arc<Route>>) -> (Self, Vec<Diagnostic>) {
        let mut problems = Vec::new();
        let mut all = Self { names: HashMap::new(), ..Self::default() };
        for (name, expression) in BASE {
            all.rule(name).expression = expression;
        }
        for route in routes {
            all.attributes.extend(route.params.iter().cloned());
            let rule = all.rule(route.rule);
            let same = (rule.expression, rule.scope_types) == (route.default_rule, route.scope_types);
            match rule.routes.iter().find(|_| rule.guards && !same) {
                Some(first) => problems.push(Diagnostic::error(format!(
                    "{}.{} of extension `{}` and {}.{} of extension `{}` want different defaults of the rule `{}`",
                    first.resource, first.action, first.extension, route.resource, route.action,
                    route.extension, route.rule,
                ))),
                None => {
                    rule.expression = route.default_rule;
                    rule.scope_types = route.scope_types;
                    rule.guards = true;
                }
            }
            rule.routes.push(route.clone());
            for also in route.also {
                all.rule(also).routes.push(route.clone());
            }
        }
        (all, problems)
    }

    fn rule(&mut self, name: &'static str) -> &mut DefaultRule {
        let next = self.rules.len();
        let index = *self.names.entry(name).or_insert(next);
        if index == next {
            let (expression, routes) = (ADMIN_ALONE, Vec::new());
            self.rules.push(DefaultRule { name, expression, scope_types: &[], routes, guards: false });
        }
        &mut self.rules[index]
    }

    /// All of them: the base, then in the order of the routes.
    pub fn rules(&self) -> &[DefaultRule] {
        &self.rules
    }

    /// The default of this rule.
    pub fn get(&self, name: &str) -> Option<&DefaultRule> {
        self.rules.get(*self.names.get(name)?)
    }

    /// Whether a route says this of its target.
    pub(super) fn has_attribute(&self, name: &str) -> bool {
        self.attributes.contains(name)
    }

    /// What routes say of their targets.
    pub(super) fn attributes(&self) -> impl Iterator<Item = &str> {
        self.attributes.iter().map(|name| &**name)
    }
}

impl DefaultRule {
    /// Whether only controllers ask it, which cannot wait for another server.
    pub fn asked_by_controllers_alone(&self) -> bool {
        !self.guards && !self.routes.is_empty()
    }
}
