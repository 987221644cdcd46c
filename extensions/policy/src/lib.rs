//! What may I do? `POST /v2/{project_id}/policy/check`.
//!
//! A client, or a page in a browser, asks which rules say yes to it, and shows the buttons that will work.
//! It learns of its own rights alone, never of anybody else's, and never why: the rules and their
//! conditions are the deployer's. Depends on the SDK alone. The server knows of this crate by
//! [`EXTENSION`] alone.

use std::{collections::BTreeMap, sync::Arc};

use pileus_sdk::{
    Action, Call, Deps, Extension, Fault, Method, Reply, Resource, StatusCode,
    action::Place::CollectionAction,
    serde::{Deserialize, Serialize},
};

/// Most rules that one call asks about.
const RULES_MAX: usize = 256;

/// Most attributes of a target.
const TARGET_MAX: usize = 32;

/// The descriptor.
pub static EXTENSION: Extension = Extension {
    alias: "policy",
    name: "Policy",
    namespace: "urn:pileus:ext:policy:v1",
    updated: "2026-11-22T00:00:00Z",
    description: "What the caller may do: which rules say yes",
    requires: &[],
    resources,
};

fn resources(_: &Deps) -> Vec<Resource> {
    let about = "Tells which rules say yes to the caller";
    let (post, it) = (Method::POST, Arc::new(Policy));
    let check = Action::new("check", post, CollectionAction, "policy:check", about, &it, Policy::check);
    // Whoever may call at all may ask what he may.
    let actions = vec![check.default_rule("rule:member")];
    vec![Resource { collection: "policy", parent: None, actions }]
}

/// Has nothing of its own: the policy comes with the call.
struct Policy;

/// `{"check": {"rules": ["clouds:create"], "target": {"id": "west"}}}`.
#[derive(Deserialize)]
#[serde(crate = "pileus_sdk::serde", deny_unknown_fields)]
struct Question {
    rules: Vec<String>,
    /// What would stand in the path of the call.
    #[serde(default)]
    target: BTreeMap<String, String>,
}

/// What a rule says to the caller.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
struct Decided {
    rule: String,
    allowed: bool,
    /// Whether there is a rule of this name; who asks one that is not there is told no.
    known: bool,
}

impl Policy {
    /// `{"check": [{"rule": "clouds:create", "allowed": false, "known": true}]}`, in the order of the
    /// question.
    async fn check(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let Question { rules, mut target } = call.json("check")?;
        let wrong = |problem: String| Err(Fault::BadRequest(problem));
        if rules.len() > RULES_MAX {
            return wrong(format!(
                "check.rules has {} names: at most {RULES_MAX} are answered.",
                rules.len()
            ));
        }
        if target.len() > TARGET_MAX {
            return wrong(format!("check.target has {} attributes, of at most {TARGET_MAX}.", target.len()));
        }
        let project = call.project().into_owned();
        // A call that names another project in its path is refused before any rule is asked.
        if let Some(other) = target.get("project_id").filter(|other| **other != project) {
            return wrong(format!("check.target.project_id is `{other}`, and this call is of `{project}`."));
        }
        target.insert("project_id".into(), project);
        let target: Vec<(String, String)> = target.into_iter().collect();
        let mut decided = Vec::with_capacity(rules.len());
        for rule in rules {
            let answer = call.ask(&rule, target.clone()).await;
            decided.push(Decided { rule, allowed: answer == Some(true), known: answer.is_some() });
        }
        Reply::member(StatusCode::OK, "check", &decided)
    }
}
