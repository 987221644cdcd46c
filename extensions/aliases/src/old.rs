//! What the admin port says of aliases: Python's words, to the byte.
//!
//! Source: Cloud Scheduler 1.13.2, observed on loopback. A file that cannot be read leaves the aliases
//! as they are, where there it took them all away.

use std::sync::Arc;

use pileus_sdk::{
    Call, Fault, Reply,
    model::{Command, Engine, Refusal},
    old::python::{repr, repr_dict, truth},
};

pub struct Old {
    pub engine: Arc<dyn Engine>,
}

impl Old {
    /// `GET /cloud-aliases`: `{u'West': [u'alpha', u'beta']}`.
    pub async fn aliases(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let view = self.engine.view();
        Reply::text(repr_dict(view.aliases.iter().map(|(alias, clouds)| {
            let clouds: Vec<_> = clouds.iter().map(|cloud| repr(cloud)).collect();
            (alias, format!("[{}]", clouds.join(", ")))
        })))
    }

    /// `POST /cloud-aliases`: `True` if there are aliases afterwards; `False` if there are none, or the
    /// file could not be read.
    pub async fn reload(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        match self.engine.submit(Command::ReloadAliases, call.actor()).await {
            Ok(receipt) => Reply::text(truth(!receipt.view.aliases.is_empty())),
            Err(refusal @ (Refusal::Full | Refusal::Unavailable)) => Err(refusal.into()),
            Err(_) => Reply::text(truth(false)),
        }
    }
}
