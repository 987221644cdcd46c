//! Scheduling: pure functions from the state to what shall be done. No clock, no I/O, no chance.
//!
//! [`plan`] says which VMs to boot, [`assign`] gives waiting jobs to idle VMs, [`cleanup`] says what
//! to end, and [`rebalance`] who gives up VMs for whom; [`survey`] is what they all look at. Each looks at the
//! whole state by its index, and costs no more than n log n of lanes and VMs.
//! Source: cloud-scheduler 1.x, `cloudscheduler/cloud_management.py` and `cloud_scheduler`.

pub mod assign;
pub mod barred;
pub mod cleanup;
pub mod explain;
pub mod hash;
pub mod lane;
pub mod plan;
pub mod rebalance;
pub mod release;
pub mod room;
pub mod shares;
pub mod shelf;
pub mod shown;
pub mod survey;
pub mod targets;

use std::{
    cmp::{Ordering, Reverse},
    sync::Arc,
};

use pileus_model::{Job, LaneKey, Name, OrdSet, View, Vm, VmState};

use self::{
    barred::Barred,
    hash::HashMap,
    lane::Lane,
    room::Needs,
    shelf::Shelf,
    targets::{Targets, Which},
};
use crate::config::Algorithm;

/// Whose VM it is, and of which type: only jobs with the same key run on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key<'a> {
    pub project: &'a str,
    pub user: &'a str,
    pub vm_type: &'a str,
}

impl Ord for Key<'_> {
    /// By the letters, part by part; but most equal parts are one and the same.
    fn cmp(&self, other: &Self) -> Ordering {
        let names = |key: &Self| [key.project, key.user, key.vm_type];
        let parts = names(self).into_iter().zip(names(other));
        let mut unlike = parts.filter(|(one, two)| !std::ptr::eq(*one, *two)).map(|(one, two)| one.cmp(two));
        unlike.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'a> Key<'a> {
    pub fn of_job(job: &'a Job) -> Self {
        Self { project: &job.project, user: &job.user, vm_type: &job.vm_type }
    }

    pub fn of_vm(vm: &'a Vm) -> Self {
        Self { project: &vm.project, user: &vm.user, vm_type: &vm.vm_type }
    }

    /// The user alone: a name means another person in another project.
    pub fn owner(self) -> (&'a str, &'a str) {
        (self.project, self.user)
    }
}

/// A job that waits, and where it may run.
#[derive(Debug, Clone, Copy)]
pub struct Waiting<'a> {
    pub job: &'a Job,
    pub needs: Needs,
    pub targets: Which,
    /// Those of its targets where a VM may be booted for it now.
    pub boots: Which,
    /// The greater is served first; among equals the older id.
    pub rank: Rank,
    /// Nothing is booted for it for a while.
    pub banned: bool,
}

/// High priority before all, then fewer starts that a host failed, then the priority.
pub type Rank = (bool, Reverse<u32>, i64);

/// The waiting jobs of one key, and the VMs that will take them.
#[derive(Debug, Default)]
pub struct Group<'a> {
    /// Jobs for which a VM was booted.
    pub scheduled: Vec<Waiting<'a>>,
    /// New jobs.
    pub lanes: Vec<Lane<'a>>,
    /// VMs that have, or will have, no job.
    pub free: Shelf<'a>,
    /// All VMs of the key.
    pub held: Held,
    /// The least of the limits that the user's own jobs of the key name.
    pub limit: Option<u32>,
}

/// What the VMs of a key hold together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    pub vms: u32,
    pub cpu_cores: u64,
    pub memory_mib: u64,
    pub storage_gib: u64,
}

impl Group<'_> {
    fn limited_by(&mut self, limit: Option<u32>) {
        self.limit = self.limit.into_iter().chain(limit).min();
    }
}

impl Held {
    pub fn add(&mut self, vm: &Vm) {
        self.vms += 1;
        self.cpu_cores += u64::from(vm.cpu_cores);
        self.memory_mib += vm.memory_mib;
        self.storage_gib += vm.storage_gib;
    }
}

/// Which jobs are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jobs {
    /// All that wait.
    All,
    /// Those for whose key there is a VM that takes a job.
    WithFreeVm,
}

/// Finds the group of a job or a VM. Names that are shared have one address (see `state::shared`), so that
/// most are found without a look at a single letter.
#[derive(Default)]
struct Finder<'a> {
    by_address: HashMap<[usize; 3], usize>,
    by_key: HashMap<Key<'a>, usize>,
    groups: Vec<(Key<'a>, Group<'a>)>,
}

impl<'a> Finder<'a> {
    fn get(&mut self, project: &'a Name, user: &'a Name, vm_type: &'a Name) -> &mut Group<'a> {
        let address = [project, user, vm_type].map(|name| name.as_ptr().addr());
        let Self { by_address, by_key, groups } = self;
        let place = *by_address.entry(address).or_insert_with(|| {
            let key = Key { project, user, vm_type };
            *by_key.entry(key).or_insert_with(|| {
                groups.push((key, Group::default()));
                groups.len() - 1
            })
        });
        &mut groups[place].1
    }
}

/// Sorts jobs and VMs by key, in no order that means anything. `free` says which VMs take a job.
///
/// Costs by VMs, lanes and jobs with a VM to come; jobs of one lane and jobs that have ended cost nothing.
pub fn groups<'a>(
    view: &'a View,
    targets: &mut Targets<'a>,
    barred: &Barred<'a>,
    algorithm: Algorithm,
    jobs: Jobs,
    free: impl Fn(&Vm) -> bool,
) -> Vec<(Key<'a>, Group<'a>)> {
    let mut finder = Finder::default();
    let mut with_free = Vec::new();
    for vm in view.vms.values() {
        let group = finder.get(&vm.project, &vm.user, &vm.vm_type);
        group.held.add(vm);
        if free(vm)
            && let Some(cloud) = targets.cloud(&vm.cloud)
        {
            if group.free.is_empty() {
                with_free.push(&**vm);
            }
            group.free.put(vm, cloud);
        }
    }
    let mut sort = |job| Waiting::of(job, targets, barred, algorithm);
    for job in view.index.scheduled.iter().filter_map(|id| view.jobs.get(id)) {
        let group = finder.get(&job.project, &job.user, &job.vm_type);
        group.limited_by(job.user_type_limit);
        group.scheduled.push(sort(job));
    }
    for job in view.index.limiting.iter().filter_map(|id| view.jobs.get(id)) {
        finder.get(&job.project, &job.user, &job.vm_type).limited_by(job.user_type_limit);
    }
    let mut add = |(lane, ids): (&'a Arc<LaneKey>, &'a OrdSet<Name>)| {
        let Some(first) = ids.get_min().and_then(|id| view.jobs.get(id)) else { return };
        let group = finder.get(&lane.project, &lane.user, &lane.vm_type);
        group.limited_by(lane.user_type_limit);
        group.lanes.push(Lane { view, ids, left: ids.len(), first: sort(first) });
    };
    match jobs {
        Jobs::All => view.index.waiting.iter().for_each(add),
        Jobs::WithFreeVm => {
            for vm in with_free {
                view.index.lanes_of(&vm.project, &vm.user, &vm.vm_type).for_each(&mut add);
            }
        }
    }
    finder.groups
}

/// `true` if a job may start on the VM now: its worker has called home, it has no job, and its cloud is not being
/// drained.
pub fn is_free(view: &View, vm: &Vm) -> bool {
    let drains = || view.clouds.get(&vm.cloud).is_some_and(|cloud| cloud.draining);
    vm.takes_jobs() && vm.registered.is_some() && vm.job.is_none() && !drains()
}

/// Whether the VM takes a job now or once it has booted or ended its present one's clean-up.
pub fn will_take(vm: &Vm) -> bool {
    vm.job.is_none()
        && vm.override_state.is_none()
        && vm.destroy.is_none()
        && matches!(vm.state, VmState::Starting | VmState::Running)
}
