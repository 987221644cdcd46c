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

impl Scope {
    /// The project in the path; with `all_projects=1` every project, where `rule` allows it, else 403.
    /// The action names `rule` with [`Action::asks`](crate::Action::asks).
    pub fn of(call: &Call, rule: &'static str) -> Result<Self, Fault> {
        if !call.query().flag("all_projects") {
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
