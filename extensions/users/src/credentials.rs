//! Users' credentials: where they are renewed, until when they hold, and renewing them.

use std::{collections::BTreeMap, time::Duration};

use pileus_sdk::{
    Deps, Fault, at_opt,
    model::{Actor, Command, Credential, MyProxy, Name, Proxy, Time, View},
    serde::{Deserialize, Serialize},
};

/// When it is worth trying again.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Renews those of these credentials that the user has; which they were. What was renewed before
/// another one failed stays renewed.
pub async fn renew(deps: &Deps, user: &Name, proxies: &[Proxy], by: Actor) -> Result<usize, Fault> {
    let view = deps.engine.view();
    let mut renewed = 0;
    for &proxy in proxies {
        let Some(known) = view.credentials.get(user).and_then(|all| all.get(&proxy)) else { continue };
        let expires = deps.host.renew(user.clone(), proxy, known.from.clone()).await;
        let expires = expires.map_err(|reason| Fault::Unavailable { reason, retry_after: RETRY_AFTER })?;
        let command = Command::CredentialRenewed { user: user.clone(), proxy, expires };
        deps.engine.submit(command, by.clone()).await?;
        renewed += 1;
    }
    Ok(renewed)
}

/// A user's credentials, by what they are for.
pub fn shown(view: &View, user: &str) -> BTreeMap<&'static str, Shown> {
    let all = view.credentials.get(user).into_iter().flat_map(|all| all.iter());
    all.map(|(proxy, credential)| (proxy.as_str(), Shown::new(credential))).collect()
}

/// A credential. What it is stays with the service.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct Shown {
    server: String,
    port: u16,
    account: String,
    /// Which of the account's; null: the one without a name.
    credential: Option<String>,
    lifetime_h: u32,
    /// When it was renewed last; null: not yet.
    #[serde(serialize_with = "at_opt")]
    renewed: Option<Time>,
    /// Until when it holds.
    #[serde(serialize_with = "at_opt")]
    expires: Option<Time>,
}

impl Shown {
    fn new(credential: &Credential) -> Self {
        let MyProxy { server, port, account, credential: name, lifetime_h } = credential.from.clone();
        let (renewed, expires) = (credential.renewed, credential.expires);
        Self { server, port, account, credential: name, lifetime_h, renewed, expires }
    }
}

/// `{"set_credential": {"proxy": "job_proxy", "server": "…"}}`; without a server it is forgotten.
#[derive(Deserialize)]
#[serde(crate = "pileus_sdk::serde", deny_unknown_fields)]
pub struct Set {
    pub proxy: Proxy,
    pub server: Option<String>,
    pub port: Option<u16>,
    /// Default: the user's name.
    pub account: Option<String>,
    pub credential: Option<String>,
    pub lifetime_h: Option<u32>,
}

impl Set {
    pub fn from(self, user: &str) -> Option<MyProxy> {
        Some(MyProxy {
            server: self.server?,
            port: self.port.unwrap_or(7512),
            account: self.account.unwrap_or_else(|| user.to_owned()),
            credential: self.credential,
            lifetime_h: self.lifetime_h.unwrap_or(12),
        })
    }
}

/// `{"refresh": {"proxy": "job_proxy"}}`; `null`: whatever there is.
#[derive(Deserialize)]
#[serde(crate = "pileus_sdk::serde", deny_unknown_fields)]
pub struct Refresh {
    pub proxy: Option<Proxy>,
}
