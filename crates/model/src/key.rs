//! Idempotency keys: what a client says so that a request that is sent twice is done once.

use serde::{Deserialize, Serialize};

use crate::{Name, Time};

/// How long a key is known, in seconds.
pub const KEY_KEPT_S: u64 = 24 * 60 * 60;

/// The key of a request, as it goes with every command that the request becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The key, told apart by caller and project.
    pub key: Name,
    /// A hash of the request: the same key with another request is a mistake.
    pub request: Name,
    /// Whether the key was used before, by a request whose answer nobody kept.
    pub repeated: bool,
}

/// The first answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAnswer {
    /// Its status.
    pub status: u16,
    /// Those of its headers that are the answer's own.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}

/// A key that was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedKey {
    /// The event that used it first: its place among the keys.
    pub seq: u64,
    /// When that was.
    pub since: Time,
    /// A hash of the request that used it.
    pub request: Name,
    /// The commands that were done for it, by their hashes, and the ids of what they made.
    pub done: Vec<(Name, String)>,
    /// What was answered; `None`: nobody kept it.
    pub answer: Option<KeptAnswer>,
}

impl UsedKey {
    /// Whether it counts no more.
    pub fn is_old(&self, now: Time) -> bool {
        now.since(self.since).as_secs() >= KEY_KEPT_S
    }
}
