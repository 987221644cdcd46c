//! VMs of one key that take a job, sorted so that a job finds the smallest one it fits into.

use std::collections::{BTreeMap, VecDeque};

use pileus_model::Vm;

use super::{
    Waiting,
    hash::HashSet,
    room::Needs,
    targets::{Targets, Which},
};

/// How many sorts of VM (size and cloud) are tried for a job that fits none exactly. A VM that was
/// booted for a job has its very size and is found first; beyond that this bounds the work where
/// somebody has thousands of sizes.
const TRIES: usize = 256;

/// The VMs.
#[derive(Debug, Default)]
pub struct Shelf<'a> {
    /// By size, then by the cloud's place; the oldest first.
    vms: BTreeMap<(Needs, usize), VecDeque<&'a Vm>>,
    /// What was asked for in vain: as VMs only leave, it stays so.
    in_vain: HashSet<(Needs, Which)>,
}

impl<'a> Shelf<'a> {
    pub fn put(&mut self, vm: &'a Vm, place: usize) {
        self.vms.entry((Needs::met_by(vm), place)).or_default().push_back(vm);
    }

    pub fn is_empty(&self) -> bool {
        self.vms.is_empty()
    }

    /// Takes a VM that the job fits into and that stands where it may run.
    pub fn take(&mut self, waiting: &Waiting<'_>, targets: &Targets<'_>) -> Option<&'a Vm> {
        if self.vms.is_empty() || self.in_vain.contains(&(waiting.needs, waiting.targets)) {
            return None;
        }
        let fits = |(size, place): &&(Needs, usize)| {
            waiting.needs.fit(size) && targets.allow(waiting.targets, *place)
        };
        let larger = self.vms.range((waiting.needs, 0)..).map(|(sort, _)| sort);
        let Some(sort) = larger.take(TRIES).find(fits).copied() else {
            self.in_vain.insert((waiting.needs, waiting.targets));
            return None;
        };
        let same = self.vms.get_mut(&sort)?;
        let vm = same.pop_front();
        if same.is_empty() {
            self.vms.remove(&sort);
        }
        vm
    }
}
