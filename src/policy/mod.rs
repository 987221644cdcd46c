//! The rules of `policy.json`, `policy.d` and the code: parse, check, explain.
//!
//! `files` finds the files, `read` reads them, `parse` (with `kind`, `format`) makes a tree of checks of each
//! rule, `load` lays files over each other and over the `defaults` in code, `lint` and `meaning` look at
//! all rules together, `eval` decides, `remote` asks other servers, `explain` decides aloud, `shadow` decides twice,
//! `vectors` tests rules.
//!
//! Everything is understood once, at load: a decision is a walk over a tree in which references are
//! indexes. It allocates nothing for an ordinary rule, and its cost does not depend on how many
//! rules there are. It fails closed: only [`Decision::Allow`] lets in, and a check that nobody
//! understands is neither yes nor no, so that a `not` in front of it lets nobody in.
//!
//! The language is that of oslo.policy (reference §6.2–6.7). We differ where it is dangerous: values
//! that are neither text nor list are mistakes (there they allow everybody), `not` before a check that
//! cannot be understood denies, as does a bad `%` whose key is missing; cycles end; `roles` has to be a
//! list; what is different about `http:` says `remote`.

mod check;
mod defaults;
mod eval;
mod explain;
mod files;
mod format;
mod kind;
mod lint;
mod load;
mod meaning;
mod parse;
mod project_alone;
mod read;
mod remote;
mod shadow;
mod text;
mod vectors;

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
};

use foldhash::HashMap;
use pileus_model::BoxFuture;
use pileus_sdk::{Caller, Decide, ScopeType, Successor};
use serde_json::{Map, Value};

use self::{
    check::{Check, Leaf, Test},
    eval::{Eval, Truth},
};
pub use self::{
    defaults::{BASE, DefaultRule, Defaults},
    files::{Settings, collect, folders},
    remote::ContentType,
    shadow::Shadow,
    vectors::{Summary, run_files},
};
pub(crate) use self::{kind::nearest, lint::is_credential};
use crate::{client::Tls, diagnostic::Place};

/// The rule that decides where no other has the name.
const DEFAULT: &str = "default";

/// Rules, ready to be asked. The default has none, and denies everything.
#[derive(Debug, Default)]
pub struct Policy {
    rules: Vec<Rule>,
    names: HashMap<Box<str>, RuleId>,
    defaults: Arc<Defaults>,
    settings: Settings,
    /// How policy servers are asked by TLS; there once [`Policy::set_up_tls`] was called and any is.
    tls: Option<Tls>,
    /// Set once a reload has put another policy in its place; `None` in it: together with other pipelines.
    successor: OnceLock<Option<Arc<Policy>>>,
}

/// What every decision reads comes first, and stays together.
#[derive(Debug)]
struct Rule {
    check: Check,
    /// What in its own text cannot be understood.
    flaw: Option<Box<str>>,
    /// What a token has to be for; empty: anything.
    scope_types: &'static [ScopeType],
    /// Whether it, or a rule that it refers to, asks another server.
    asks: bool,
    name: Box<str>,
    origin: Box<Origin>,
}

/// Where a rule comes from.
#[derive(Debug, Default)]
pub struct Origin {
    /// Where its name stands; `None`: in the code.
    pub place: Option<Place>,
    /// Where it stands, too, and holds no longer: the earliest first.
    pub over: Vec<Place>,
}

/// A rule of one [`Policy`], found once by name. It means nothing to another policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleId(u32);

impl RuleId {
    /// No rule: denies.
    const NONE: Self = Self(u32::MAX);

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes: the only one that lets in.
    Allow,
    /// No.
    Deny,
    /// No: the token is for something else than the rule is.
    Scope {
        /// What the rule is for.
        wanted: &'static [ScopeType],
        /// What the token is for.
        found: ScopeType,
    },
    /// No, because it could not be decided: why.
    Error(String),
}

impl Decision {
    /// Whether it lets in.
    pub fn allowed(&self) -> bool {
        *self == Self::Allow
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::Deny => f.write_str("deny"),
            Self::Scope { wanted, found } => {
                let wanted = wanted.iter().map(|it| it.as_str()).collect::<Vec<_>>().join(" or ");
                write!(f, "deny: the rule is for tokens of scope {wanted}, and this one is of scope {found}")
            }
            Self::Error(reason) => write!(f, "error: {reason}"),
        }
    }
}

/// An attribute of a target.
#[derive(Debug)]
pub enum Field<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// Anything, which a rule sees as Python would print it.
    Json(&'a Value),
}

impl<'a> Field<'a> {
    /// As JSON.
    pub fn into_value(self) -> Value {
        match self {
            Self::Text(text) => Value::String(text.into_owned()),
            Self::Json(value) => value.clone(),
        }
    }

    fn into_text(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => text,
            Self::Json(value) => text::text(value),
        }
    }
}

/// What is to be done something to: flat attributes, which `%(key)s` names.
pub trait Target {
    /// The attribute of this name.
    fn get(&self, key: &str) -> Option<Field<'_>>;
}

impl Target for &[(&str, &str)] {
    fn get(&self, key: &str) -> Option<Field<'_>> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| Field::Text(Cow::Borrowed(value)))
    }
}

impl Target for Map<String, Value> {
    fn get(&self, key: &str) -> Option<Field<'_>> {
        self.get(key).map(Field::Json)
    }
}

impl Policy {
    /// The rule of this name; failing that, the one called `default`; failing that, one that denies.
    pub fn rule(&self, name: &str) -> RuleId {
        let found = self.names.get(name).or_else(|| self.names.get(DEFAULT));
        found.copied().unwrap_or(RuleId::NONE)
    }

    /// Decides `rule` for a caller with these credentials and this target.
    pub fn check(&self, rule: RuleId, creds: &Value, target: &dyn Target) -> Decision {
        let Some(rule) = self.get(rule) else { return Decision::Deny };
        if let Some(refused) = rule.refuses(creds) {
            return refused;
        }
        // Most rules of routes say nothing but the name of another one.
        let check = match &rule.check {
            Check::Leaf(Leaf { test: Test::Rule { to: Some(to), .. }, .. }) => {
                self.get(*to).map(|it| &it.check)
            }
            _ => None,
        };
        let outcome = Eval::new(self, creds, target, ()).decide(check.unwrap_or(&rule.check));
        rule.decision(outcome)
    }

    /// Whether a rule has this very name.
    pub fn defines(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Every rule's name and expression, in the order of the file.
    pub fn rules(&self) -> impl Iterator<Item = (&str, String)> {
        self.rules.iter().map(|rule| (&*rule.name, rule.check.to_string()))
    }

    /// Where the rule of this name comes from.
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        Some(&self.get(*self.names.get(name)?)?.origin)
    }

    /// Names the policy that takes the place of this one. `None`: the pipelines are others, too, so that what
    /// they have admitted has to be asked again.
    pub fn succeed(&self, successor: Option<Arc<Self>>) {
        // One reload replaces it, and no second one.
        self.successor.set(successor).ok();
    }

    /// The defaults in code.
    pub fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    fn get(&self, rule: RuleId) -> Option<&Rule> {
        self.rules.get(rule.index())
    }
}

impl Rule {
    /// The refusal of a token that is for something else.
    fn refuses(&self, creds: &Value) -> Option<Decision> {
        if self.scope_types.is_empty() {
            return None;
        }
        let found = ScopeType::of(creds);
        (!self.scope_types.contains(&found)).then_some(Decision::Scope { wanted: self.scope_types, found })
    }

    fn decision(&self, outcome: Result<Truth, String>) -> Decision {
        match (outcome, &self.flaw) {
            (Ok(Truth::Yes), _) => Decision::Allow,
            (Ok(Truth::Unclear), Some(flaw)) => Decision::Error(flaw.to_string()),
            (Ok(Truth::No | Truth::Unclear), _) => Decision::Deny,
            (Err(reason), _) => Decision::Error(reason),
        }
    }
}

impl Decide for Policy {
    fn allows(&self, rule: &str, caller: Option<&Caller>, target: &[(&str, &str)]) -> bool {
        caller.is_some_and(|caller| self.check(self.rule(rule), &caller.creds, &target).allowed())
    }

    fn ask(
        self: Arc<Self>,
        rule: String,
        caller: Arc<Caller>,
        target: Vec<(String, String)>,
    ) -> BoxFuture<Option<bool>> {
        Box::pin(async move {
            let id = *self.names.get(&*rule)?;
            let target = target.into_iter().map(|(key, value)| (key, Value::from(value))).collect();
            let decision = self.decide(id, &rule, &caller.creds, &target).await;
            if let Decision::Error(why) = &decision {
                tracing::warn!(rule, why, "policy rule could not be decided");
            }
            Some(decision.allowed())
        })
    }

    fn successor(&self) -> Successor {
        match self.successor.get() {
            None => Successor::None,
            Some(None) => Successor::Gone,
            Some(Some(policy)) => Successor::Policy(policy.clone()),
        }
    }
}

#[cfg(test)]
mod assemble_tests;
#[cfg(test)]
mod roles_tests;
#[cfg(test)]
mod tests;
