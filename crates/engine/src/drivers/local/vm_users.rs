//! Users of VMs, for listeners that have to keep jobs out.

use std::path::Path;

use super::users::{NARROW, TAKEN, WIDE};

/// Returns `true` if any VM of this host has a user of its own.
pub fn exist() -> bool {
    Path::new(TAKEN).exists()
}

/// Returns `true` if a user is one of those that VMs have.
pub fn contain(user: u32) -> bool {
    WIDE.contains(&user) || NARROW.contains(&user)
}
