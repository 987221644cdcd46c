//! What can be done to VMs: to one, or to many with a result for each.

use std::{collections::BTreeSet, sync::Arc};

use pileus_sdk::{
    Call, Fault, Reply, Scope, StatusCode,
    model::{Actor, Command, Engine, Name, Refusal},
};

use crate::{
    ALL,
    body::{Outcome, Results, Which},
    vms::find,
};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Destroyed at once.
    Shutdown,
    /// Finishes its job, then destroyed.
    ForceRetire,
    /// Forgotten.
    Remove,
    /// The override is taken back.
    Reset,
}

impl Deed {
    /// The one key of the body.
    fn key(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::ForceRetire => "force_retire",
            Self::Remove => "remove",
            Self::Reset => "reset_override_state",
        }
    }

    /// The commands that do it: one for all, but for resets, which are one each.
    fn commands(self, vms: &[Name], by: &Actor) -> Vec<Command> {
        match self {
            Self::Shutdown => {
                let why =
                    if by.user.is_empty() { "shut down".into() } else { format!("shut down by {}", by.user) };
                vec![Command::ShutdownVms { vms: vms.to_vec(), why }]
            }
            Self::ForceRetire => vec![Command::RetireVms { vms: vms.to_vec() }],
            Self::Remove => vec![Command::RemoveVms { vms: vms.to_vec() }],
            Self::Reset => vms.iter().map(|vm| Command::ResetVm { vm: vm.clone() }).collect(),
        }
    }

    /// Does it to every VM. The engine refuses a command whole; where it does, each VM is asked for
    /// alone, so that one that has just gone does not keep the others. A result for each, in order.
    pub async fn apply(self, engine: &dyn Engine, vms: &[Name], by: &Actor) -> Vec<Result<(), Refusal>> {
        if vms.len() > 1
            && let [command] = &self.commands(vms, by)[..]
            && engine.submit(command.clone(), by.clone()).await.is_ok()
        {
            return vms.iter().map(|_| Ok(())).collect();
        }
        let mut results = Vec::with_capacity(vms.len());
        for vm in vms {
            for command in self.commands(std::slice::from_ref(vm), by) {
                results.push(engine.submit(command, by.clone()).await.map(drop));
            }
        }
        results
    }
}

/// The controller of one deed.
pub struct Verbs {
    pub engine: Arc<dyn Engine>,
    pub deed: Deed,
}

impl Verbs {
    /// `POST …/vms/{id}/action` `{"shutdown": null}`: 202.
    pub async fn one(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let scope = Scope::of(&call, ALL)?;
        let vm = find(&self.engine.view(), &scope, &call.id())?.id.clone();
        call.nothing(self.deed.key())?;
        for result in self.deed.apply(&*self.engine, &[vm], &call.actor()).await {
            result?;
        }
        Reply::status(StatusCode::ACCEPTED)
    }

    /// `POST …/vms/action` `{"shutdown": {"vms": ["…"]}}` or `{"shutdown": {"cloud": "…"}}`, of a cloud also
    /// the `"count": N` oldest alone: 200 with
    /// a result for each VM; 404 where there is no such cloud.
    pub async fn many(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let scope = Scope::of(&call, ALL)?;
        let key = self.deed.key();
        let which: Which = call.json(key)?;
        let view = self.engine.view();
        let asked: Vec<Name> = match (which.vms, which.cloud) {
            // Which VMs these were was settled the first time: others are not meant now.
            (None, Some(_)) if call.is_repeated() => return Reply::status(StatusCode::ACCEPTED),
            (Some(vms), None) if which.count.is_none() => {
                let mut seen = BTreeSet::new();
                vms.into_iter().map(Name::from).filter(|vm| seen.insert(vm.clone())).collect()
            }
            (None, Some(name)) => {
                let cloud = view.cloud(&name).ok_or(Fault::NotFound { kind: "Cloud", id: name })?;
                let vms = view.vms_of(&cloud.name).filter(|vm| scope.sees(&vm.project));
                vms.take(which.count.unwrap_or(usize::MAX)).map(|vm| vm.id.clone()).collect()
            }
            _ => {
                let text = format!(
                    "Invalid input for field `{key}`: it needs either `vms` or `cloud`, and `count` goes with `cloud`"
                );
                return Err(Fault::BadRequest(text));
            }
        };
        let known: Vec<Name> = asked.iter().filter(|vm| find(&view, &scope, vm).is_ok()).cloned().collect();
        let done = self.deed.apply(&*self.engine, &known, &call.actor()).await;
        let mut done = done.into_iter().map(|result| result.map_err(Fault::from));
        let results = asked.iter().map(|vm| {
            let result = match find(&view, &scope, vm) {
                Ok(_) => done.next().unwrap_or(Ok(())),
                Err(fault) => Err(fault),
            };
            let (status, message) = match result {
                Ok(()) => (StatusCode::ACCEPTED, "accepted".to_owned()),
                Err(fault) => (fault.code().0, fault.to_string()),
            };
            Outcome { id: vm.to_string(), status: status.as_u16(), message }
        });
        Reply::ok(&Results { results: results.collect() })
    }
}
