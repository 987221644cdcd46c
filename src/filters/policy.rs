//! `policy`: asks the rule of the route whether the caller may.
//!
//! Stands last before the router, whose route it needs: it has it matched here, and the router finds
//! it done. What a rule knows of the target is in the path: `project_id` and the other parameters of
//! the route, nothing of the caller's own (in Nova the default target was the caller, so that rules
//! about owners were always true). Controllers that need to ask further rules find the policy in the
//! context. A no is 403; what cannot be decided is a no, and logged.
//!
//! Deciding is a walk over a tree, done at once; only where it comes to an `http:` check does the request
//! wait for another server.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::Arc,
};

use pileus_sdk::{Answer, Caller, Fault, Filter, Match, Request, RequestId, Route, Stack};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    config_file,
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{Capabilities, Deps, Fact, FilterKind},
    policy::{Decision, Field, Policy, RuleId, Shadow, Target},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind = FilterKind {
    name: "policy",
    capabilities: |_| {
        let needs = &[Fact::Caller, Fact::Route, Fact::WholeBody];
        Capabilities::NONE.requires(needs).provides(&[Fact::Rules])
    },
    factory,
};

/// What a section with `factory = "policy"` may say. The rules are in `policy.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A file of rules that decides nothing: where it would decide otherwise is logged and counted. Relative
    /// to the file that this stands in.
    pub shadow: Option<PathBuf>,
}

/// Builds the stage.
pub fn factory(section: &Section, deps: &Deps) -> Result<Filter, Diagnostic> {
    let config: Config = section.parse()?;
    let router = deps.router.clone();
    let router = router
        .ok_or_else(|| section.wrong("factory", "`policy` needs a router at the end of its pipeline"))?;
    let shadow = config.shadow.map(|file| shadow(&file, section, deps)).transpose()?;
    let rule = |route: &Arc<Route>| (route.clone(), deps.policy.rule(route.rule));
    let rules = router.routes().iter().map(rule).collect();
    let stage = Arc::new(Stage { policy: deps.policy.clone(), rules, shadow });
    Ok(Filter::around(move |inner, mut request| {
        let decided = router.matched(&mut request).and_then(|()| stage.enforce(&request));
        match decided {
            Ok(Enforced::Allowed) => {
                stage.leave(&mut request);
                inner.send(request)
            }
            Ok(Enforced::Asks(asks)) => asked(stage.clone(), *asks, inner.clone(), request),
            Err(fault) => Answer::refused(fault),
        }
    }))
}

/// Sends the request on once another server has said yes.
#[inline(never)]
fn asked(stage: Arc<Stage>, asks: Asks, inner: Stack, mut request: Request) -> Answer {
    Answer::later(async move {
        stage.ask(asks).await?;
        stage.leave(&mut request);
        inner.send(request).await
    })
}

/// Reads the second policy.
fn shadow(file: &Path, section: &Section, deps: &Deps) -> Result<Shadow, Diagnostic> {
    let path = section.beside("shadow", file);
    deps.watched.note([&*path]);
    let name = path.display().to_string();
    let source = config_file::source(&path)
        .map_err(|error| section.wrong("shadow", format!("`{name}` {error}")).about(&path))?;
    let (policy, problems) = deps.policy.beside(source);
    // `pileus policy check` shows its warnings, too.
    let mut errors = problems.into_iter().filter(|it| !it.warning);
    match errors.next() {
        Some(first) => Err(errors.fold(first, Diagnostic::and)),
        None => Ok(Shadow::new(policy, name, deps.clock.clone())),
    }
}

struct Stage {
    policy: Arc<Policy>,
    /// The rule of each of the router's routes, in their order.
    rules: Vec<(Arc<Route>, RuleId)>,
    shadow: Option<Shadow>,
}

enum Enforced {
    Allowed,
    /// Another server has to be asked.
    Asks(Box<Asks>),
}

/// What is needed to decide once the request is not at hand.
struct Asks {
    route: Arc<Route>,
    caller: Arc<Caller>,
    target: Map<String, Value>,
    request_id: RequestId,
}

impl Stage {
    /// Asks the rule of the request's route. The route's number tells which that is; only where a stage
    /// above matched it with a router of its own, it is found by its name.
    fn enforce(&self, request: &Request) -> Result<Enforced, Fault> {
        let context = request.context();
        let matched = context.matched.as_ref().ok_or_else(|| Fault::internal("a request without a route"))?;
        let caller = context.known_caller()?;
        let route = &matched.route;
        let target = InPath { matched, path: request.uri().path() };
        let rule = self.rules.get(matched.number).filter(|(it, _)| Arc::ptr_eq(it, route));
        let rule = rule.map_or_else(|| self.policy.rule(route.rule), |(_, rule)| *rule);
        let decision = self.policy.check(rule, &caller.creds, &target);
        if matches!(decision, Decision::Error(_)) && self.policy.asks_others(rule) {
            return Ok(Enforced::Asks(Box::new(Asks {
                route: route.clone(),
                caller: caller.clone(),
                target: target.attributes(),
                request_id: context.request_id,
            })));
        }
        self.conclude(route, caller, &target, &decision, &context.request_id)?;
        Ok(Enforced::Allowed)
    }

    /// The same with the servers that the rule names.
    async fn ask(&self, asks: Asks) -> Result<(), Fault> {
        let Asks { route, caller, target, request_id } = asks;
        let rule = self.policy.rule(route.rule);
        let decision = self.policy.decide(rule, route.rule, &caller.creds, &target).await;
        self.conclude(&route, &caller, &target, &decision, &request_id)
    }

    fn conclude(
        &self,
        route: &Route,
        caller: &Caller,
        target: &dyn Target,
        decision: &Decision,
        request_id: &RequestId,
    ) -> Result<(), Fault> {
        if let Some(shadow) = &self.shadow {
            shadow.compare(route, caller, target, decision);
        }
        let rule = route.rule;
        match decision {
            Decision::Allow => Ok(()),
            Decision::Deny => Err(Fault::denied(rule)),
            Decision::Scope { wanted, found } => {
                let wanted = wanted.iter().map(|it| it.as_str()).collect::<Vec<_>>().join(" or ");
                Err(Fault::Forbidden(format!(
                    "Policy doesn't allow {rule} to be performed: it needs a token of scope {wanted}, and this one \
                     is of scope {found}."
                )))
            }
            Decision::Error(why) => {
                tracing::warn!(
                    rule,
                    why,
                    request.id = request_id.as_str(),
                    "policy rule could not be decided"
                );
                Err(Fault::denied(rule))
            }
        }
    }

    /// Leaves the policy for controllers.
    fn leave(&self, request: &mut Request) {
        let context = request.context_mut();
        context.policy = Some(self.policy.clone());
        context.note();
    }
}

/// What the path says of the target: the parameters of its route, decoded.
struct InPath<'a> {
    matched: &'a Match,
    path: &'a str,
}

impl Target for InPath<'_> {
    fn get(&self, key: &str) -> Option<Field<'_>> {
        let value: Cow<'_, str> = self.matched.param(self.path, key)?;
        Some(Field::Text(value))
    }
}

impl InPath<'_> {
    /// All of it, to be kept.
    fn attributes(&self) -> Map<String, Value> {
        let params = self.matched.route.params.iter();
        params.filter_map(|key| Some((key.to_string(), self.get(key)?.into_value()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use pileus_sdk::ScopeType;
    use serde_json::json;

    use crate::{
        policy::{Defaults, Settings},
        router::Router,
    };

    use super::*;
    use crate::filters::testing::{build, called, deps, matched, request};

    fn rules(rules: Value) -> Arc<Policy> {
        Arc::new(Policy::from_rules(rules.as_object().unwrap()))
    }

    fn enforce(policy: &Arc<Policy>, request: &Request) -> Result<(), Fault> {
        let stage = Stage { policy: policy.clone(), rules: Vec::new(), shadow: None };
        match stage.enforce(request)? {
            Enforced::Allowed => Ok(()),
            Enforced::Asks(_) => panic!("it asks"),
        }
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
    fn a_token_for_something_else_is_told_so() {
        let mut request = matched(request(Method::GET, "/v2/p1/clouds/west", &[]), "clouds:show");
        let found = request.context_mut().matched.as_mut().unwrap();
        let mut route = (*found.route).clone();
        route.scope_types = &[ScopeType::Project, ScopeType::Domain];
        route.default_rule = "@";
        found.route = Arc::new(route);
        let routes = [found.route.clone()];
        for (scope, enforce_scope, said) in [
            (json!(null), true, ""),
            (json!("all"), false, ""),
            (
                json!("all"),
                true,
                "Policy doesn't allow clouds:show to be performed: it needs a token of scope project or domain, and this \
                 one is of scope system.",
            ),
        ] {
            let settings = Settings { enforce_scope, ..Settings::default() };
            let (policy, _) = Policy::assemble(&[], &Arc::new(Defaults::of(&routes).0), &settings);
            let mut caller = Caller::new("ann".into(), "p1".into(), vec![], false);
            caller.creds["system_scope"] = scope.clone();
            request.context_mut().caller = Some(Arc::new(caller));
            let decided = enforce(&Arc::new(policy), &request);
            assert_eq!(decided.is_ok(), said.is_empty(), "{scope}");
            if let Err(fault) = decided {
                assert_eq!((fault.code().0.as_u16(), fault.to_string().as_str()), (403, said));
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
