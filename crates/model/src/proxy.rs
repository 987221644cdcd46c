//! A user's proxy: a short-lived credential that is renewed from a MyProxy server.

use serde::{Deserialize, Serialize};

use crate::{Name, Time};

/// Which of a user's proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyUse {
    /// What the user's jobs show to others.
    JobProxy,
    /// What the user's VMs are booted with.
    VmProxy,
}

impl ProxyUse {
    /// Both.
    pub const ALL: [ProxyUse; 2] = [Self::JobProxy, Self::VmProxy];

    /// The word on either wire, and the name of its file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JobProxy => "job_proxy",
            Self::VmProxy => "vm_proxy",
        }
    }
}

/// What is known of a proxy. The proxy itself, which holds a private key, is in a file alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxy {
    /// When it ends: the first end of all certificates in its file.
    pub expires: Time,
    /// When it was fetched.
    pub renewed: Time,
    /// Where it was fetched.
    pub server: Name,
}

/// The proxies of one user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxies {
    /// For jobs.
    pub job_proxy: Option<Proxy>,
    /// For VMs.
    pub vm_proxy: Option<Proxy>,
}

impl Proxies {
    /// That for `which`.
    pub fn get(&self, which: ProxyUse) -> Option<&Proxy> {
        match which {
            ProxyUse::JobProxy => self.job_proxy.as_ref(),
            ProxyUse::VmProxy => self.vm_proxy.as_ref(),
        }
    }

    /// Where that for `which` is kept.
    pub fn get_mut(&mut self, which: ProxyUse) -> &mut Option<Proxy> {
        match which {
            ProxyUse::JobProxy => &mut self.job_proxy,
            ProxyUse::VmProxy => &mut self.vm_proxy,
        }
    }
}
