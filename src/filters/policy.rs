//! `policy`: asks the rule of the route whether the caller may.
//!
//! Stands last before the router, whose route it needs: it has it matched here, and the router finds
//! it done. What a rule knows of the target is in the path: `project_id` and the other parameters of
//! the route, nothing of the caller's own (in Nova the default target was the caller, so that rules
//! about owners were always true). Controllers that need to ask further rules find the policy in the
//! context. A no is 403; what cannot be decided is a no, and logged.

use std::borrow::Cow;

use pileus_sdk::{Fault, Filter, Match, Request};
use serde::Deserialize;

use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{Deps, Fact, FilterKind},
    policy::{Decision, Field, Policy, Target},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind = FilterKind {
    name: "policy",
    needs: &[Fact::Caller, Fact::Route, Fact::WholeBody],
    gives: &[],
    authenticates: false,
    factory,
};

/// What a section with `factory = "policy"` may say: nothing. The rules are in `policy.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Builds the stage.
pub fn factory(section: &Section, deps: &Deps) -> Result<Filter, Diagnostic> {
    let Config {} = section.parse()?;
    let router = deps.router.clone();
    let router = router
        .ok_or_else(|| section.wrong("factory", "`policy` needs a router at the end of its pipeline"))?;
    let policy = deps.policy.clone();
    Ok(Filter::gate(move |request| {
        router.matched(request)?;
        enforce(&policy, request)?;
        let context = request.context_mut();
        context.policy = Some(policy.clone());
        context.note();
        Ok(())
    }))
}

/// Asks the rule of the request's route. The rule is found by one look into a hash map, whose cost
/// does not depend on how many there are.
fn enforce(policy: &Policy, request: &Request) -> Result<(), Fault> {
    let context = request.context();
    let matched = context.matched.as_ref().ok_or_else(|| Fault::internal("a request without a route"))?;
    let creds = &context.known_caller()?.creds;
    let rule = matched.route.rule;
    let target = Path { matched, path: request.uri().path() };
    match policy.check(policy.rule(rule), creds, &target) {
        Decision::Allow => Ok(()),
        Decision::Deny => Err(Fault::denied(rule)),
        Decision::Error(why) => {
            tracing::warn!(rule, why, request.id = &*context.request_id, "policy rule could not be decided");
            Err(Fault::denied(rule))
        }
    }
}

/// What the path says of the target: the parameters of its route, decoded.
struct Path<'a> {
    matched: &'a Match,
    path: &'a str,
}

impl Target for Path<'_> {
    fn get(&self, key: &str) -> Option<Field<'_>> {
        let value: Cow<'_, str> = self.matched.param(self.path, key)?;
        Some(Field::Text(value))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Method;
    use pileus_sdk::Caller;
    use serde_json::{Value, json};

    use crate::router::Router;

    use super::*;
    use crate::filters::testing::{build, called, deps, matched, request};

    fn rules(rules: Value) -> Policy {
        Policy::from_rules(rules.as_object().unwrap())
    }

    #[test]
    fn the_target_is_what_the_path_says() {
        let policy = rules(json!({
            "owner": "project_id:%(project_id)s",
            "west": "'west':%(id)s",
            "me": "user_id:%(user_id)s",
            "member": "role:member",
            "broken": "role:member and",
            "circle": "rule:circle",
        }));
        let cases = [
            ("owner", "/v2/p1/clouds/west", true),
            ("owner", "/v2/p2/clouds/west", false),
            ("owner", "/v2/%701/clouds/west", true),
            ("owner", "/v2/p%2531/clouds/west", false),
            ("west", "/v2/p1/clouds/%77est", true),
            ("west", "/v2/p1/clouds/east", false),
            ("me", "/v2/p1/clouds/west", false), // the path names no user, and the caller is no target
            ("member", "/v2/p1/clouds/west", false),
            ("broken", "/v2/p1/clouds/west", false),
            ("circle", "/v2/p1/clouds/west", false),
            ("unknown", "/v2/p1/clouds/west", false),
        ];
        for (rule, path, allowed) in cases {
            let request = matched(called(Method::GET, path, "ann", "p1"), rule);
            let decided = enforce(&policy, &request);
            assert_eq!(decided.is_ok(), allowed, "{rule} {path}: {decided:?}");
            if let Err(fault) = decided {
                assert_eq!(fault.code().0, 403, "{rule} {path}");
                assert_eq!(fault.to_string(), format!("Policy doesn't allow {rule} to be performed."));
            }
        }
    }

    #[test]
    fn an_unknown_rule_is_decided_by_the_default() {
        let policy = rules(json!({"default": "role:admin"}));
        for (roles, allowed) in [(vec!["admin".to_owned()], true), (vec![], false)] {
            let mut request = matched(request(Method::GET, "/v2/p1/clouds/west", &[]), "clouds:show");
            let caller = Caller::new("ann".into(), "p1".into(), roles, false);
            request.context_mut().caller = Some(Arc::new(caller));
            assert_eq!(enforce(&policy, &request).is_ok(), allowed);
        }
    }

    #[test]
    fn nobody_is_401_even_where_everybody_may() {
        let policy = rules(json!({"open": "@"}));
        let request = matched(request(Method::GET, "/v2/p1/clouds/west", &[]), "open");
        assert_eq!(enforce(&policy, &request).unwrap_err().code().0, 401);
        let no_route = called(Method::GET, "/v2/p1/clouds/west", "ann", "p1");
        assert_eq!(enforce(&policy, &no_route).unwrap_err().code().0, 500);
    }

    #[tokio::test]
    async fn a_request_that_has_no_route_goes_no_further() {
        let (mut deps, ..) = deps();
        assert!(build(KIND, "", &deps).is_err(), "without a router");
        deps.router = Some(Arc::new(Router::new(pileus_sdk::Mount::Tenant, &[]).unwrap()));
        assert!(build(KIND, "rule = 'x'", &deps).is_err());
        let app = |_| async { panic!("it went on") };
        let stack = build(KIND, "", &deps).unwrap().over(pileus_sdk::Stack::from_fn(app));
        let fault = stack.send(called(Method::GET, "/v2/p1/x", "ann", "p1")).await.unwrap_err();
        assert_eq!(fault.code().0, 404);
    }
}
