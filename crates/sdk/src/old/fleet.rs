//! Which VMs the old wire lists under a cloud, and which it calls retired.

use std::{collections::BTreeMap, sync::Arc};

use pileus_model::{Cloud, View, Vm};

/// A cloud with its VMs in the order of their creation.
///
/// `draining` is what Cloud Scheduler's retired list held: every VM of a retired cloud, and the
/// surplus of a cloud whose slots were cut: the youngest that retire, as many as are too many.
#[derive(Debug)]
pub struct Fleet<'a> {
    /// The cloud.
    pub cloud: &'a Arc<Cloud>,
    /// VMs that count.
    pub listed: Vec<&'a Arc<Vm>>,
    /// VMs that are listed at the bottom, and count nowhere.
    pub draining: Vec<&'a Arc<Vm>>,
}

impl<'a> Fleet<'a> {
    /// The cloud of this name, in any ASCII case, with its VMs.
    pub fn of(view: &'a View, name: &str) -> Option<Self> {
        let cloud = view.cloud(name)?;
        Some(Self::split(cloud, view.vms_of(&cloud.name).collect()))
    }

    /// The same of a cloud that is still configured: the only ones that the info port finds.
    pub fn active(view: &'a View, name: &str) -> Option<Self> {
        Self::of(view, name).filter(|fleet| !fleet.cloud.retired)
    }

    /// The listed VM of this id.
    pub fn vm(&self, id: &str) -> Option<&'a Arc<Vm>> {
        self.listed.iter().copied().find(|vm| &*vm.id == id)
    }

    /// Whether Cloud Scheduler had an entry for it in its retired list.
    pub fn drains(&self) -> bool {
        self.cloud.retired || !self.draining.is_empty()
    }

    fn split(cloud: &'a Arc<Cloud>, vms: Vec<&'a Arc<Vm>>) -> Self {
        if cloud.retired {
            return Self { cloud, listed: Vec::new(), draining: vms };
        }
        let mut surplus = vms.len().saturating_sub(cloud.vm_slots() as usize);
        let mut fleet = Self { cloud, listed: Vec::with_capacity(vms.len()), draining: Vec::new() };
        for vm in vms.into_iter().rev() {
            if surplus > 0 && vm.override_state.is_some() {
                surplus -= 1;
                fleet.draining.push(vm);
            } else {
                fleet.listed.push(vm);
            }
        }
        fleet.listed.reverse();
        fleet.draining.reverse();
        fleet
    }
}

/// Every cloud with its VMs: in the order of the configuration, retired ones last. Walks the VMs once.
pub fn pool(view: &View) -> Vec<Fleet<'_>> {
    let mut by_cloud: BTreeMap<&str, Vec<&Arc<Vm>>> = BTreeMap::new();
    for vm in view.vms.values() {
        by_cloud.entry(&vm.cloud).or_default().push(vm);
    }
    let clouds = view.clouds_in_order().into_iter();
    clouds.map(|cloud| Fleet::split(cloud, by_cloud.remove(&*cloud.name).unwrap_or_default())).collect()
}

#[cfg(test)]
mod tests {
    use pileus_model::Override;

    use super::*;
    use crate::testing;

    #[test]
    fn the_surplus_of_cut_slots_drains_youngest_first() {
        // slots, which of three VMs retire, who is listed, who drains
        let cases = [
            (3, [false, false, false], "1 2 3", ""),
            (3, [false, true, true], "1 2 3", ""), // retired by an administrator: within the slots
            (1, [false, true, true], "1", "2 3"),
            (2, [false, true, true], "1 2", "3"),
            (1, [true, false, false], "2 3", "1"), // two are too many, one of them is told so far
            (0, [true, true, true], "", "1 2 3"),
        ];
        for (slots, retires, listed, draining) in cases {
            let mut view = View::default();
            testing::put_cloud(&mut view, "a", |cloud| cloud.vm_slots_by_admin = Some(slots));
            for (id, retires) in ["1", "2", "3"].into_iter().zip(retires) {
                testing::put_vm(&mut view, id, "a", |vm| {
                    vm.override_state = retires.then_some(Override::Retiring);
                });
            }
            let ids = |vms: &[&Arc<Vm>]| vms.iter().map(|vm| &*vm.id).collect::<Vec<_>>().join(" ");
            let fleet = Fleet::active(&view, "A").unwrap();
            assert_eq!((ids(&fleet.listed), ids(&fleet.draining)), (listed.into(), draining.into()));
            assert_eq!(fleet.drains(), !draining.is_empty());
            assert_eq!(ids(&pool(&view)[0].listed), listed);
        }
    }

    #[test]
    fn a_retired_cloud_drains_whole() {
        let mut view = View::default();
        testing::put_cloud(&mut view, "a", |cloud| cloud.retired = true);
        testing::put_vm(&mut view, "1", "a", |_| ());
        assert!(Fleet::active(&view, "a").is_none());
        let fleet = Fleet::of(&view, "a").unwrap();
        assert_eq!((fleet.listed.len(), fleet.draining.len(), fleet.drains()), (0, 1, true));
    }
}
