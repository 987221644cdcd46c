//! Users' grid credentials: where they are renewed, and until when they hold. What they are is in files
//! that the service alone reads; the state knows no secret.

use serde::{Deserialize, Serialize};

use crate::Time;

/// What a credential is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proxy {
    /// The user's jobs.
    JobProxy,
    /// The user's VMs.
    VmProxy,
}

impl Proxy {
    /// All of them.
    pub const ALL: [Proxy; 2] = [Self::JobProxy, Self::VmProxy];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JobProxy => "job_proxy",
            Self::VmProxy => "vm_proxy",
        }
    }

    /// From the word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|proxy| proxy.as_str() == word)
    }
}

/// A MyProxy server, and what to ask it for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MyProxy {
    /// Its host.
    pub server: String,
    /// Its port; 7512 is the usual one.
    pub port: u16,
    /// The account there.
    pub account: String,
    /// Which of the account's credentials; `None`: the one without a name.
    pub credential: Option<String>,
    /// How long the next one shall hold, in hours.
    pub lifetime_h: u32,
}

/// A credential that is renewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Where.
    pub from: MyProxy,
    /// When it was renewed last.
    pub renewed: Option<Time>,
    /// Until when it holds.
    pub expires: Option<Time>,
}
