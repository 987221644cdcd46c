//! Commands that concern VMs. One unknown VM refuses the whole command.

use std::sync::Arc;

use pileus_model::{Kind, Name, Override, Refusal, View, Vm};

use super::valid::{self, invalid};

pub fn shutdown(view: &View, vms: &[Name], why: &str) -> Result<Vec<Kind>, Refusal> {
    valid::text("why", why, valid::TEXT_MAX)?;
    let found = find_all(view, vms)?.into_iter().filter(|vm| vm.destroy.is_none());
    Ok(found.map(|vm| Kind::VmDestroy { vm: vm.id.clone(), why: why.to_owned() }).collect())
}

pub fn retire(view: &View, vms: &[Name]) -> Result<Vec<Kind>, Refusal> {
    let found = find_all(view, vms)?.into_iter();
    let found = found.filter(|vm| vm.override_state != Some(Override::Retiring) || !vm.force_retire);
    Ok(found.map(|vm| retired(&vm.id)).collect())
}

/// By the time that this is asked the drivers have been told to let go.
pub fn remove(view: &View, vms: &[Name]) -> Result<Vec<Kind>, Refusal> {
    let gone = |vm: &Arc<Vm>| Kind::VmGone { vm: vm.id.clone(), why: "an administrator removed it".into() };
    Ok(find_all(view, vms)?.into_iter().map(gone).collect())
}

pub fn reset(view: &View, vm: &str) -> Result<Vec<Kind>, Refusal> {
    let it = find(view, vm)?;
    if it.destroy.is_some() {
        return Err(Refusal::Conflict(format!("VM {vm} is being destroyed.")));
    }
    let clean = it.override_state.is_none() && !it.force_retire;
    let event = Kind::VmOverride { vm: it.id.clone(), state: None, force_retire: false };
    Ok(if clean { Vec::new() } else { vec![event] })
}

/// The VM finishes its job and goes, because an administrator, idling or its cloud wants it so.
pub fn retired(vm: &Name) -> Kind {
    Kind::VmOverride { vm: vm.clone(), state: Some(Override::Retiring), force_retire: true }
}

/// All of them, each once, in the order asked for.
pub fn find_all<'a>(view: &'a View, vms: &[Name]) -> Result<Vec<&'a Arc<Vm>>, Refusal> {
    if vms.len() > valid::VMS_MAX {
        return invalid("vms", format!("must not name more than {} VMs", valid::VMS_MAX));
    }
    let mut seen = std::collections::HashSet::new();
    vms.iter().filter(|vm| seen.insert(*vm)).map(|vm| find(view, vm)).collect()
}

fn find<'a>(view: &'a View, vm: &str) -> Result<&'a Arc<Vm>, Refusal> {
    view.vms.get(vm).ok_or_else(|| Refusal::NotFound { kind: "VM", id: vm.into() })
}
