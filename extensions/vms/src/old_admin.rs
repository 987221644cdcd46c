//! What the admin port does to VMs, and says of it, to the byte.
//!
//! Source: Cloud Scheduler 1.13.2, observed on loopback, and the page that describes it: both forms of
//! every call are answered. Lines come in the order of the VMs' creation and name the right VM, which
//! there was left to chance.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use pileus_sdk::{
    Call, Deps, Fault, Params, Reply,
    model::{Name, Refusal, View, Vm},
    old::{Fleet, python::int},
    watch,
};

use crate::verbs::Deed;

/// How long a shutdown waits for the cloud to let go.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct OldAdmin {
    pub deps: Deps,
}

impl OldAdmin {
    /// `PUT /clouds/{cloud}/vms` with `action=shutdown|force_retire|remove` and `count=all|N`.
    pub async fn put_vms(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let params = call.query_or_form();
        let count = params.get("count").ok_or(Fault::NoRoute)?;
        match params.get("action") {
            Some("shutdown") => self.shutdown_many(&call, count).await,
            Some("force_retire") => self.retire_many(&call, count).await,
            Some("remove") if count == "all" => self.remove_all(&call).await,
            _ => Err(Fault::NoRoute),
        }
    }

    /// `POST /clouds/{cloud}/vms` with `action=force_retire`; `count` may be left out.
    pub async fn post_vms(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let params = call.query_or_form();
        retires(&params)?;
        self.retire_many(&call, params.get("count").unwrap_or("all")).await
    }

    /// `DELETE /clouds/{cloud}/vms`.
    pub async fn delete_vms(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        self.remove_all(&call).await
    }

    /// `PUT /clouds/{cloud}/vms/{vm}` with `action=shutdown|force_retire|remove|reset_override_state`.
    pub async fn put_vm(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        match call.query_or_form().get("action") {
            Some("shutdown") => self.shutdown_one(&call).await,
            Some("force_retire") => self.retire_one(&call).await,
            Some("remove") => self.remove_one(&call).await,
            Some("reset_override_state") => self.reset_one(&call).await,
            _ => Err(Fault::NoRoute),
        }
    }

    /// `POST /clouds/{cloud}/vms/{vm}` with `action=force_retire`.
    pub async fn post_vm(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        retires(&call.query_or_form())?;
        self.retire_one(&call).await
    }

    /// `DELETE /clouds/{cloud}/vms/{vm}`.
    pub async fn delete_vm(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        self.remove_one(&call).await
    }

    async fn shutdown_many(&self, call: &Call, count: &str) -> Result<Reply, Fault> {
        let (view, name) = (self.deps.engine.view(), call.param("cloud"));
        let fleet = Fleet::active(&view, &name);
        let (vms, unknown) = if count == "all" {
            (fleet.map(|fleet| fleet.listed), format!("Could not find a Cluster with name: {name}."))
        } else {
            let Some(count) = int(count) else {
                return Reply::text(format!("Unable to shutdown {count} VMs, use a number."));
            };
            let count = usize::try_from(count).unwrap_or(0);
            let vms = fleet.map(|fleet| fleet.listed.into_iter().take(count).collect());
            (vms, format!("Could not find cloud named: {name}"))
        };
        let Some(vms) = vms else { return Reply::text(unknown) };
        let lines = self.shutdown(call, &vms).await?.into_iter().map(|(vm, gone)| match gone {
            true => format!("VM {vm} has been Destroyed."),
            false => format!("Destroying VM {vm} failed. Leaving it for now."),
        });
        Reply::text(lines.map(|line| line + "\n").collect::<String>())
    }

    async fn shutdown_one(&self, call: &Call) -> Result<Reply, Fault> {
        let (view, name, id) = (self.deps.engine.view(), call.param("cloud"), call.param("vm"));
        let Some(fleet) = Fleet::of(&view, &name) else {
            return Reply::text(format!("Could not find a Cluster with name: {name}."));
        };
        let Some(vm) = any(&fleet, &id) else {
            return Reply::text(format!("Could not find VM with ID: {id} on Cluster: {name}."));
        };
        self.shutdown(call, &[vm]).await?;
        Reply::text("")
    }

    /// Asks for the end of these VMs, and waits until the cloud has let go of each or could not.
    /// Which are gone, in the order given.
    async fn shutdown(&self, call: &Call, vms: &[&Arc<Vm>]) -> Result<Vec<(Name, bool)>, Fault> {
        let results = self.apply(call, Deed::Shutdown, vms).await?;
        let mut ends: BTreeMap<&Name, bool> = BTreeMap::new();
        let mut waiting = Vec::new();
        for (vm, result) in vms.iter().copied().zip(results) {
            match result {
                Ok(()) => waiting.push(vm),
                Err(Refusal::NotFound { .. }) => drop(ends.insert(&vm.id, true)),
                Err(_) => drop(ends.insert(&vm.id, false)),
            }
        }
        let look = |view: &View| {
            waiting.retain(|before| {
                let now = view.vms.get(&before.id);
                if now.is_some_and(|now| !failed(before, now)) {
                    return true;
                }
                ends.insert(&before.id, now.is_none());
                false
            });
            waiting.is_empty().then_some(())
        };
        watch(&*self.deps.engine, &*self.deps.clock, PATIENCE, look).await;
        Ok(vms.iter().map(|vm| (vm.id.clone(), ends.get(&vm.id) == Some(&true))).collect())
    }

    async fn retire_many(&self, call: &Call, count: &str) -> Result<Reply, Fault> {
        let (view, name) = (self.deps.engine.view(), call.param("cloud"));
        let number = int(count);
        if count != "all" && number.is_none() {
            return Reply::text(format!("Unable to retire {count} VMs, use a number"));
        }
        let Some(fleet) = Fleet::active(&view, &name) else {
            return Reply::text(format!("Cloud not find Cloud {name}."));
        };
        let all = fleet.listed.len();
        let (take, answer) = match number {
            None => (all, format!("Retired all VMs in {name}.")),
            Some(number) => {
                let number = number.min(all as i64);
                // Fewer than none: all but so many, as a slice in Python.
                let take = if number < 0 { all as i64 + number.max(-(all as i64)) } else { number };
                (usize::try_from(take).unwrap_or(0), format!("Retired {number} VM(s) in {name}."))
            }
        };
        self.apply(call, Deed::ForceRetire, &fleet.listed[..take]).await?;
        Reply::text(answer)
    }

    async fn retire_one(&self, call: &Call) -> Result<Reply, Fault> {
        let (view, name, id) = (self.deps.engine.view(), call.param("cloud"), call.param("vm"));
        let Some(fleet) = Fleet::of(&view, &name) else {
            return Reply::text(format!("Could not find Cloud {name}."));
        };
        // An unknown VM was silence, unless the cloud had an entry among the retired ones.
        let unknown = if fleet.drains() { format!("Could not find VM ID {id}.") } else { String::new() };
        let Some(vm) = any(&fleet, &id) else { return Reply::text(unknown) };
        Reply::text(match self.apply_one(call, Deed::ForceRetire, vm).await? {
            Ok(()) => format!("Retired VM {id} on {name}."),
            Err(Refusal::NotFound { .. }) => unknown,
            Err(_) => "Unable to retire VM.".to_owned(),
        })
    }

    async fn remove_all(&self, call: &Call) -> Result<Reply, Fault> {
        let (view, name) = (self.deps.engine.view(), call.param("cloud"));
        let Some(fleet) = Fleet::active(&view, &name) else {
            return Reply::text(format!("Could not find Cloud {name}."));
        };
        for result in self.apply(call, Deed::Remove, &fleet.listed).await? {
            match result {
                Ok(()) | Err(Refusal::NotFound { .. }) => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Reply::text(format!("Removed all VMs from {name}."))
    }

    async fn remove_one(&self, call: &Call) -> Result<Reply, Fault> {
        let (view, name, id) = (self.deps.engine.view(), call.param("cloud"), call.param("vm"));
        let Some(fleet) = Fleet::of(&view, &name) else {
            return Reply::text(format!("Could not find Cloud {name}."));
        };
        let unknown = format!("Could not find VM ID: {id} on Cloud: {name}");
        let Some(vm) = any(&fleet, &id) else { return Reply::text(unknown) };
        let from = if fleet.vm(&id).is_some() { "." } else { " retired resources." };
        match self.apply_one(call, Deed::Remove, vm).await? {
            Ok(()) => Reply::text(format!("Removed {name}'s VM {id} from CloudScheduler{from}")),
            Err(Refusal::NotFound { .. }) => Reply::text(unknown),
            Err(refusal) => Err(refusal.into()),
        }
    }

    async fn reset_one(&self, call: &Call) -> Result<Reply, Fault> {
        let (view, name, id) = (self.deps.engine.view(), call.param("cloud"), call.param("vm"));
        let Some(fleet) = Fleet::of(&view, &name) else {
            return Reply::text(format!("Could not find Cloud {name}."));
        };
        let unknown = format!("Could not find VM ID {id}.");
        let Some(vm) = fleet.vm(&id) else { return Reply::text(unknown) };
        match self.apply_one(call, Deed::Reset, vm).await? {
            // The two names are swapped, and scripts know them so.
            Ok(()) => Reply::text(format!("Reset state of {name} on {id}")),
            Err(Refusal::NotFound { .. }) => Reply::text(unknown),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// A result for each VM; a fault where the state cannot be written at all.
    async fn apply(
        &self,
        call: &Call,
        deed: Deed,
        vms: &[&Arc<Vm>],
    ) -> Result<Vec<Result<(), Refusal>>, Fault> {
        let ids: Vec<Name> = vms.iter().map(|vm| vm.id.clone()).collect();
        let results = deed.apply(&*self.deps.engine, &ids, &call.actor()).await;
        for result in &results {
            if let Err(refusal @ (Refusal::Full | Refusal::Unavailable)) = result {
                return Err(refusal.clone().into());
            }
        }
        Ok(results)
    }

    async fn apply_one(&self, call: &Call, deed: Deed, vm: &Arc<Vm>) -> Result<Result<(), Refusal>, Fault> {
        Ok(self.apply(call, deed, &[vm]).await?.pop().unwrap_or(Ok(())))
    }
}

/// The page's `POST` has no other action.
fn retires(params: &Params) -> Result<(), Fault> {
    if params.get("action") == Some("force_retire") { Ok(()) } else { Err(Fault::NoRoute) }
}

/// A VM of this cloud, listed or draining.
fn any<'a>(fleet: &Fleet<'a>, id: &str) -> Option<&'a Arc<Vm>> {
    fleet.listed.iter().chain(&fleet.draining).copied().find(|vm| &*vm.id == id)
}

/// Whether something went wrong with the VM since.
fn failed(before: &Vm, now: &Vm) -> bool {
    now.error_count > before.error_count || (now.last_error.is_some() && now.last_error != before.last_error)
}
