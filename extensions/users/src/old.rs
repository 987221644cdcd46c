//! What the admin port says of user limits: Python's words, to the byte.
//!
//! Source: Cloud Scheduler 1.13.2, observed on loopback. A file that cannot be read leaves the limits
//! as they are, where there it took them all away.

use std::sync::Arc;

use pileus_sdk::{
    Call, Fault, Reply,
    model::{Command, Engine, Refusal},
    old::python::{repr_dict, truth},
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
}
