//! The two refreshers: renew unasked what ends soon.
//!
//! They look at proxies that were fetched once, by an administrator's word. One that has ended is left
//! alone where only itself could prove who asks.

use std::{sync::Arc, time::Duration};

use pileus_model::{Actor, Clock, Name, ProxyUse};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::logon::Proof;
use crate::hub::Hub;

/// Runs until it is told to stop; ends at once where nothing is to be renewed unasked.
pub async fn run(hub: Arc<Hub>, which: ProxyUse, stop: CancellationToken) {
    let Some(interval) = hub.office.config.refresher_interval_s(which) else { return };
    loop {
        // Each in a task of its own: a server that hangs holds up its own users alone.
        let mut renewals = JoinSet::new();
        for user in due(&hub, which) {
            let hub = hub.clone();
            renewals.spawn(async move {
                let name = match which {
                    ProxyUse::JobProxy => "[job proxy refresher]",
                    ProxyUse::VmProxy => "[vm proxy refresher]",
                };
                let by = Actor { user: name.into(), ..Actor::default() };
                if let Err(refusal) = hub.renew_proxy(user.clone(), which, by).await {
                    warn!(user.id = %user, proxy = which.as_str(), error = %refusal, "proxy not renewed");
                }
            });
        }
        let next = async {
            while renewals.join_next().await.is_some() {}
            hub.clock.sleep(Duration::from_secs(interval.get())).await;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = next => (),
        }
    }
}

/// Whose proxy ends soon and can be renewed.
fn due(hub: &Hub, which: ProxyUse) -> Vec<Name> {
    let (view, now) = (hub.view.load(), hub.clock.now());
    let soon = now.after(Duration::from_secs(hub.office.config.renewal_threshold_s(which)));
    let ends = view.proxies.iter().filter_map(|(user, proxies)| Some((user, proxies.get(which)?.expires)));
    let due = ends.filter(|(user, expires)| {
        *expires <= soon
            && hub
                .office
                .login(user, which)
                .is_ok_and(|login| *expires > now || !matches!(login.proof, Proof::Renewal(_)))
    });
    due.map(|(user, _)| user.clone()).collect()
}
