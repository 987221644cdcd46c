//! What the admin port says of user limits and credentials: Python's words, to the byte.
//!
//! Source: Cloud Scheduler 1.13.2, observed on loopback. A file that cannot be read leaves the limits
//! as they are, where there it took them all away.

use std::sync::Arc;

use pileus_sdk::{
    Call, Deps, Fault, Reply,
    model::{Command, Name, Proxy, Refusal},
    old::python::{repr_dict, truth},
};

use crate::credentials::renew;

pub struct Old {
    pub deps: Deps,
}

impl Old {
    /// `GET /user-limits`: `{u'alice': 2, u'bob': 5}`.
    pub async fn limits(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let view = self.deps.engine.view();
        Reply::text(repr_dict(view.user_limits.iter().map(|(user, vms)| (user, vms.to_string()))))
    }

    /// `POST /user-limits`: `True` if there are limits afterwards; `False` if there are none, or the file
    /// could not be read.
    pub async fn reload(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        match self.deps.engine.submit(Command::ReloadUserLimits, call.actor()).await {
            Ok(receipt) => Reply::text(truth(!receipt.view.user_limits.is_empty())),
            Err(refusal @ (Refusal::Full | Refusal::Unavailable)) => Err(refusal.into()),
            Err(_) => Reply::text(truth(false)),
        }
    }

    /// `POST /users/{user}` with `refresh=job_proxy|vm_proxy`: an empty body where all that there is was
    /// renewed. There it always failed.
    pub async fn refresh(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let params = call.query_or_form();
        let proxy = params.get("refresh").and_then(Proxy::from_word).ok_or(Fault::NoRoute)?;
        let user = Name::from(&*call.param("user"));
        match renew(&self.deps, &user, &[proxy], call.actor()).await {
            Ok(_) => Reply::text(""),
            Err(Fault::Unavailable { reason, .. }) => {
                Reply::text(format!("Unable to refresh {} of {user}: {reason}", proxy.as_str()))
            }
            Err(fault) => Err(fault),
        }
    }
}
