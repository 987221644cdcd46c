//! Ports that no job of a VM may connect to, by Landlock.

use std::io;

use landlock::{
    AccessNet, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
};

/// Denies this process, and all that it starts, connections by TCP to these ports of any host. Landlock denies what
/// no rule allows: there is a rule for each of the other ports.
pub(super) fn close(closed: &[u16]) -> io::Result<()> {
    restrict(closed).map_err(io::Error::other)
}

fn restrict(closed: &[u16]) -> Result<(), RulesetError> {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let ruleset = ruleset.handle_access(AccessNet::ConnectTcp)?.create()?;
    let open = (0..=u16::MAX).filter(|port| !closed.contains(port));
    let rules = open.map(|port| Ok::<_, RulesetError>(NetPort::new(port, AccessNet::ConnectTcp)));
    ruleset.add_rules(rules)?.restrict_self().map(drop)
}
