//! A token of the embedded identity: who may call, known by its hash alone.

use serde::{Deserialize, Serialize};

use crate::{Name, Time};

/// A token. The secret itself is known to its holder only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// SHA-256 of the secret, in lower-case hex: the key. A secret has 256 random bits, so that the
    /// hash needs neither salt nor stretching.
    pub sha256: Name,
    /// What people call it.
    pub name: Name,
    /// Who calls with it.
    pub user: Name,
    /// For which project.
    pub project: Name,
    /// With which roles.
    pub roles: Vec<String>,
    /// When it was made.
    pub created: Time,
}
