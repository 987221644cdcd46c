//! Scheduling: pure functions from the state to what shall be done. No clock, no I/O, no chance.
//!
//! [`plan`] says which VMs to boot, [`assign`] gives waiting jobs to idle VMs, [`cleanup`] says what
//! to end. Each looks at the whole state, builds its indexes once, and costs no more than n log n.
//! Source: cloud-scheduler 1.x, `cloudscheduler/cloud_management.py` and `cloud_scheduler`.

pub mod assign;
pub mod cleanup;
pub mod explain;
pub mod plan;
pub mod room;
pub mod shares;
pub mod shelf;
pub mod targets;

use std::collections::HashMap;

use pileus_model::{Job, JobState, View, Vm, VmState};

use self::{
    room::Needs,
    shelf::Shelf,
    targets::{Targets, Which},
};

/// Whose VM it is, and of which type: only jobs with the same key run on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key<'a> {
    pub project: &'a str,
    pub user: &'a str,
    pub vm_type: &'a str,
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
    /// The greater is served first; among equals the older id.
    pub rank: Rank,
    /// A VM was booted for it already.
    pub scheduled: bool,
    /// People are told why it waits.
    pub told: bool,
}

/// High priority before all, then the priority.
pub type Rank = (bool, i64);

impl<'a> Waiting<'a> {
    /// Takes out of the job all that is asked of every job: a second look at 100 000 of them costs
    /// more than a copy.
    fn of(job: &'a Job, targets: Which) -> Self {
        Self {
            job,
            needs: Needs::of(job),
            targets,
            rank: (job.high_priority, job.priority),
            scheduled: job.state == JobState::Scheduled,
            told: job.reason.is_some(),
        }
    }
}

/// The waiting jobs of one key, and the VMs that will take them.
#[derive(Debug, Default)]
pub struct Group<'a> {
    /// Jobs that wait, scheduled ones included: the first one is served first.
    pub waiting: Vec<Waiting<'a>>,
    /// VMs that have, or will have, no job.
    pub free: Shelf<'a>,
    /// All VMs of the key.
    pub vms: u32,
}

/// Which jobs are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jobs {
    /// All that wait.
    All,
    /// Those for whose key there is a VM that takes a job.
    WithFreeVm,
}

/// Sorts jobs and VMs by key. `free` says which VMs take a job.
pub fn groups<'a>(
    view: &'a View,
    targets: &mut Targets<'a>,
    jobs: Jobs,
    free: impl Fn(&Vm) -> bool,
) -> HashMap<Key<'a>, Group<'a>> {
    let mut groups: HashMap<Key<'a>, Group<'a>> = HashMap::new();
    for vm in view.vms.values() {
        let group = groups.entry(Key::of_vm(vm)).or_default();
        group.vms += 1;
        if free(vm)
            && let Some(cloud) = targets.cloud(&vm.cloud)
        {
            group.free.put(vm, cloud);
        }
    }
    for job in view.jobs.values() {
        if matches!(job.state, JobState::New | JobState::Scheduled) {
            let group = match jobs {
                Jobs::All => Some(groups.entry(Key::of_job(job)).or_default()),
                Jobs::WithFreeVm => groups.get_mut(&Key::of_job(job)).filter(|group| !group.free.is_empty()),
            };
            if let Some(group) = group {
                group.waiting.push(Waiting::of(job, targets.of(&job.target_clouds)));
            }
        }
    }
    for group in groups.values_mut() {
        // Stable: the view is in the order of the ids, which is that of submission.
        group.waiting.sort_by_key(|waiting| std::cmp::Reverse(waiting.rank));
    }
    groups
}

/// Whether the VM takes a job now or once it has booted or ended its present one's clean-up.
pub fn will_take(vm: &Vm) -> bool {
    vm.job.is_none()
        && vm.override_state.is_none()
        && vm.destroy.is_none()
        && matches!(vm.state, VmState::Starting | VmState::Running)
}
