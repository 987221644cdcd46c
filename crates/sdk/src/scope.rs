//! Whose objects a call sees.

use crate::{Call, Fault};

/// The projects whose objects a call sees: what it does not see is not there (404).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The project in the path alone.
    Project(Box<str>),
    /// Every project.
    All,
}

/// Query parameter that asks for every project, and the name that Nova's clients send for it.
pub const SCOPE_PARAMS: [&str; 2] = ["all_projects", "all_tenants"];

impl Scope {
    /// The project in the path; with `all_projects=1` every project, where `rule` allows it, else 403.
    /// The action names `rule` with [`Action::scoped`](crate::Action::scoped).
    pub fn of(call: &Call, rule: &'static str) -> Result<Self, Fault> {
        let [own, other] = SCOPE_PARAMS;
        if call.query().get(own).is_some() && call.query().get(other).is_some() {
            return Err(Fault::BadRequest(format!("{own} and {other} are one parameter: give one of them")));
        }
        if !SCOPE_PARAMS.iter().any(|name| call.query().flag(name)) {
            return Ok(Self::Project(call.project().into()));
        }
        if call.may(rule) { Ok(Self::All) } else { Err(Fault::denied(rule)) }
    }

    /// Whether it holds what belongs to `project`.
    pub fn sees(&self, project: &str) -> bool {
        match self {
            Self::Project(own) => **own == *project,
            Self::All => true,
        }
    }
}
