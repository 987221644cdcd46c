//! Features of the kernel that protect the service from its jobs.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError, Scope,
};

/// Versions of Landlock that are used, oldest first.
const LEVELS: [ABI; 6] = [ABI::V1, ABI::V2, ABI::V3, ABI::V4, ABI::V5, ABI::V6];

/// Features of the kernel that protect the service from its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kernel {
    /// Version of Landlock, at most the newest that is used. 0: none.
    pub landlock: u8,
}

impl Kernel {
    /// Asks the kernel. Restricts nothing.
    pub fn probe() -> Self {
        let newest = LEVELS.into_iter().rposition(|level| ruleset(level).and_then(Ruleset::create).is_ok());
        let landlock = newest.and_then(|index| u8::try_from(index + 1).ok()).unwrap_or(0);
        Self { landlock }
    }
}

/// Returns the version of Landlock with this number. `None`: there is none, or it is not used.
pub(super) fn level(number: u8) -> Option<ABI> {
    LEVELS.get(usize::from(number).checked_sub(1)?).copied()
}

/// Ruleset that handles everything of a version.
fn ruleset(level: ABI) -> Result<Ruleset, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(level))?;
    let ports = AccessNet::from_all(level);
    if !ports.is_empty() {
        ruleset = ruleset.handle_access(ports)?;
    }
    let scopes = Scope::from_all(level);
    if !scopes.is_empty() {
        ruleset = ruleset.scope(scopes)?;
    }
    Ok(ruleset)
}
