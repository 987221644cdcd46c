//! What a filter or an extension sees of the policy: who decides, and what a token is for.
//!
//! The rules themselves, and what they are written in, are the roof's. Names and meanings are those of
//! oslo.policy.

use std::{fmt, sync::Arc};

use pileus_model::BoxFuture;
use serde_json::Value;

use crate::Caller;

/// Decides rules: what the `policy` filter leaves for controllers that need a second rule.
pub trait Decide: Send + Sync + 'static {
    /// Whether `caller` may do what `rule` guards to a target with these attributes. Unknown rules,
    /// rules that cannot be understood, rules that have to ask another server, and no caller: no.
    fn allows(&self, rule: &str, caller: Option<&Caller>, target: &[(&str, &str)]) -> bool;

    /// The same where deciding may take a while, because the rule asks another server (`http:`).
    /// `None`: no rule has this name.
    fn ask(
        self: Arc<Self>,
        rule: String,
        caller: Arc<Caller>,
        target: Vec<(String, String)>,
    ) -> BoxFuture<Option<bool>> {
        Box::pin(async move {
            let target: Vec<_> = target.iter().map(|(key, value)| (&**key, &**value)).collect();
            Some(self.allows(&rule, Some(&caller), &target))
        })
    }

    /// Returns the policy that took its place.
    fn successor(&self) -> Successor {
        Successor::None
    }
}

/// Policy that a reload has put in the place of another one.
pub enum Successor {
    /// No reload since.
    None,
    /// This one decides now.
    Policy(Arc<dyn Decide>),
    /// Other pipelines serve now: what was admitted by the old ones is to be asked again, by a new request.
    Gone,
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScopeType {
    /// The things of one project.
    Project,
    /// The things of one domain: projects and users.
    Domain,
    /// What belongs to nobody in particular.
    System,
}

impl ScopeType {
    /// In the words of oslo.policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Domain => "domain",
            Self::System => "system",
        }
    }

    /// What the token of these credentials is for: `system_scope` (or `system`) goes before `domain_id`,
    /// and what has neither is a project's, as in oslo.policy.
    pub fn of(creds: &Value) -> Self {
        let says = |key: &str| match creds.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(_) => true,
        };
        if says("system_scope") || says("system") {
            Self::System
        } else if says("domain_id") {
            Self::Domain
        } else {
            Self::Project
        }
    }
}

impl fmt::Display for ScopeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_is_for_what_its_credentials_say() {
        let cases = [
            (json!({}), ScopeType::Project),
            (json!({"project_id": "p"}), ScopeType::Project),
            (json!({"project_id": "p", "domain_id": null, "system_scope": null}), ScopeType::Project),
            (json!({"domain_id": "", "system_scope": ""}), ScopeType::Project),
            (json!({"domain_id": "d"}), ScopeType::Domain),
            (json!({"system_scope": "all"}), ScopeType::System),
            (json!({"system_scope": "all", "domain_id": "d"}), ScopeType::System),
            (json!({"system": "all"}), ScopeType::System),
            (json!({"system": {"all": true}}), ScopeType::System),
            (json!({"system": false, "domain_id": "d"}), ScopeType::Domain),
            (json!([]), ScopeType::Project),
        ];
        for (creds, scope) in cases {
            assert_eq!(ScopeType::of(&creds), scope, "{creds}");
        }
    }
}
