//! Commands that concern clouds. A cloud is found in any ASCII case; its own spelling is kept.

use std::{cmp::Reverse, collections::HashSet, sync::Arc};

use pileus_model::{Cloud, CloudSpec, Kind, Name, Origin, Refusal, Size, View, Vm};

use super::{valid, vms::retired};
use crate::change::configure;

pub fn create(view: &View, name: Name, spec: CloudSpec) -> Result<Vec<Kind>, Refusal> {
    valid::cloud(&name, &spec)?;
    if let Some(other) = view.cloud(&name) {
        let drains = if other.retired { " and has not drained yet" } else { "" };
        return Err(Refusal::Conflict(format!("Cloud {} exists{drains}.", other.name)));
    }
    let order = view.clouds.values().map(|cloud| cloud.order + 1).max().unwrap_or(0);
    Ok(vec![Kind::CloudSet(Cloud {
        name,
        spec,
        origin: Origin::Api,
        order,
        enabled_by_admin: None,
        draining: false,
        vm_slots_by_admin: None,
        retired: false,
        used: Size::default(),
    })])
}

/// What the new settings change is also taken back from what an administrator said before: the later
/// word holds.
pub fn update(view: &View, name: &str, spec: CloudSpec) -> Result<Vec<Kind>, Refusal> {
    let cloud = changeable(view, name)?;
    valid::cloud(&cloud.name, &spec)?;
    if spec.driver != cloud.spec.driver && cloud.used.vm_slots > 0 {
        return Err(Refusal::Conflict(format!("Cloud {name} has VMs: its driver cannot change.")));
    }
    let same = |unchanged: bool| unchanged.then_some(());
    let mut next = Cloud { used: Size::default(), ..Cloud::clone(cloud) };
    next.enabled_by_admin = same(spec.enabled == cloud.spec.enabled).and(cloud.enabled_by_admin);
    next.vm_slots_by_admin = same(spec.vm_slots == cloud.spec.vm_slots).and(cloud.vm_slots_by_admin);
    next.spec = spec;
    let mut events = surplus(view, cloud, next.vm_slots_to_keep());
    events.insert(0, Kind::CloudSet(next));
    Ok(events)
}

pub fn delete(view: &View, name: &str) -> Result<Vec<Kind>, Refusal> {
    let cloud = changeable(view, name)?;
    let mut events = vec![Kind::CloudRetired { cloud: cloud.name.clone() }];
    events.extend(surplus(view, cloud, 0));
    if cloud.used.vm_slots == 0 {
        events.push(Kind::CloudGone { cloud: cloud.name.clone() });
    }
    Ok(events)
}

pub fn enable(view: &View, name: &str, enabled: bool) -> Result<Vec<Kind>, Refusal> {
    let cloud = living(view, name)?;
    let event = Kind::CloudEnabled { cloud: cloud.name.clone(), enabled };
    let unchanged = cloud.enabled_by_admin == Some(enabled) && !(enabled && cloud.draining);
    Ok(if unchanged { Vec::new() } else { vec![event] })
}

pub fn drain(view: &View, name: &str) -> Result<Vec<Kind>, Refusal> {
    let cloud = living(view, name)?;
    if cloud.draining {
        return Ok(Vec::new());
    }
    let mut events = vec![Kind::CloudDraining { cloud: cloud.name.clone() }];
    events.extend(surplus(view, cloud, 0));
    Ok(events)
}

pub fn set_slots(view: &View, name: &str, vm_slots: u32) -> Result<Vec<Kind>, Refusal> {
    let cloud = living(view, name)?;
    valid::count("vm_slots", vm_slots, 0)?;
    if cloud.vm_slots_by_admin == Some(vm_slots) {
        return Ok(Vec::new());
    }
    let mut events = vec![Kind::CloudSlots { cloud: cloud.name.clone(), vm_slots }];
    events.extend(surplus(view, cloud, vm_slots));
    Ok(events)
}

/// The clouds of the configuration, as they are now. One that makes no sense refuses all of them.
pub fn reconfigure(view: &View, clouds: Vec<(String, CloudSpec)>) -> Result<Vec<Kind>, Refusal> {
    let mut seen = HashSet::new();
    for (name, spec) in &clouds {
        valid::cloud(name, spec)?;
        if !seen.insert(name.to_ascii_lowercase()) {
            return Err(Refusal::Conflict(format!("Cloud {name} is there twice, and names ignore case.")));
        }
        let old = view.cloud(name).filter(|old| old.used.vm_slots > 0);
        if old.is_some_and(|old| old.spec.driver != spec.driver) {
            return Err(Refusal::Conflict(format!("Cloud {name} has VMs: its driver cannot change.")));
        }
    }
    Ok(configure(view, clouds))
}

/// Retires as many VMs of `cloud` as it has above `vm_slots`, the youngest first.
pub fn surplus(view: &View, cloud: &Cloud, vm_slots: u32) -> Vec<Kind> {
    if cloud.used.vm_slots <= vm_slots {
        return Vec::new();
    }
    let goes = |vm: &&Arc<Vm>| vm.override_state.is_none() && vm.destroy.is_none();
    let mut stay: Vec<_> = view.vms_of(&cloud.name).filter(goes).collect();
    stay.sort_by_key(|vm| Reverse((vm.created, vm.id.clone())));
    let too_many = stay.len().saturating_sub(usize::try_from(vm_slots).unwrap_or(usize::MAX));
    stay.iter().take(too_many).map(|vm| retired(&vm.id)).collect()
}

fn living<'a>(view: &'a View, name: &str) -> Result<&'a Arc<Cloud>, Refusal> {
    let cloud = view.cloud(name).ok_or_else(|| Refusal::NotFound { kind: "Cloud", id: name.into() })?;
    if cloud.retired {
        return Err(Refusal::Conflict(format!("Cloud {name} is retired: it only drains.")));
    }
    Ok(cloud)
}

fn changeable<'a>(view: &'a View, name: &str) -> Result<&'a Arc<Cloud>, Refusal> {
    let cloud = living(view, name)?;
    if cloud.origin == Origin::File {
        return Err(Refusal::Conflict(format!("Cloud {name} is configured in a file: change it there.")));
    }
    Ok(cloud)
}
