//! The rule language of `policy.json`: parse, check, explain.

/// Rules, ready to be asked.
#[derive(Debug, Default)]
pub struct Policy {}
