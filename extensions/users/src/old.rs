//! What the admin port says of user limits, in Python's words and to the byte, and of users' proxies.
//!
//! Source: Cloud Scheduler 1.13.2, observed on loopback. A file that cannot be read leaves the limits
//! as they are, where there it took them all away. `POST /users/{user}` always failed there; its texts
//! are ours, in the manner of their neighbours.

use std::sync::Arc;

use pileus_sdk::{
    Call, Fault, Reply,
    model::{Command, Engine, ProxyUse, Refusal},
    old::python::{repr_dict, truth},
    rfc3339,
};

pub struct Old {
    pub engine: Arc<dyn Engine>,
}

impl Old {
    /// `GET /user-limits`: `{u'alice': 2, u'bob': 5}`.
    pub async fn limits(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let view = self.engine.view();
        Reply::text(repr_dict(view.user_limits.iter().map(|(user, vms)| (user, vms.to_string()))))
    }

    /// `POST /user-limits`: `True` if there are limits afterwards; `False` if there are none, or the file
    /// could not be read.
    pub async fn reload(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        match self.engine.submit(Command::ReloadUserLimits, call.actor()).await {
            Ok(receipt) => Reply::text(truth(!receipt.view.user_limits.is_empty())),
            Err(refusal @ (Refusal::Full | Refusal::Unavailable)) => Err(refusal.into()),
            Err(_) => Reply::text(truth(false)),
        }
    }

    /// `POST /users/{user}` with `refresh=job_proxy|vm_proxy`: a sentence, whether it worked or not.
    pub async fn refresh(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let params = call.query_or_form();
        let wanted = params.get("refresh").ok_or(Fault::NoRoute)?;
        let which = ProxyUse::ALL.into_iter().find(|which| which.as_str() == wanted).ok_or(Fault::NoRoute)?;
        let (user, what) = (
            call.param("user"),
            match which {
                ProxyUse::JobProxy => "job",
                ProxyUse::VmProxy => "VM",
            },
        );
        let command = Command::RenewProxy { user: (&*user).into(), which };
        match self.engine.submit(command, call.actor()).await {
            Ok(receipt) => {
                let proxy = receipt.view.proxies.get(&*user).and_then(|proxies| proxies.get(which));
                let until = proxy.map(|proxy| format!(" until {}", rfc3339(proxy.expires)));
                Reply::text(format!("Renewed the {what} proxy of {user}{}.", until.unwrap_or_default()))
            }
            // A name that no user can have is no word of a script's either.
            Err(refusal @ (Refusal::Full | Refusal::Unavailable | Refusal::Invalid { .. })) => {
                Err(refusal.into())
            }
            Err(refusal) => Reply::text(format!("Unable to renew the {what} proxy of {user}. {refusal}")),
        }
    }
}
