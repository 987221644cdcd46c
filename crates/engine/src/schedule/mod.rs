//! Scheduling: pure functions from the state to what shall be done. No clock, no I/O, no chance.
//!
//! [`plan`] says which VMs to boot, [`assign`] gives waiting jobs to idle VMs, [`cleanup`] says what
//! to end, and [`rebalance`] who gives up VMs for whom; [`survey`] is what they all look at. Each looks at the whole state, builds its indexes once, and costs no more than n log n.
//! Source: cloud-scheduler 1.x, `cloudscheduler/cloud_management.py` and `cloud_scheduler`.

pub mod assign;
pub mod barred;
pub mod cleanup;
pub mod explain;
pub mod hash;
pub mod plan;
pub mod rebalance;
pub mod room;
pub mod shares;
pub mod shelf;
pub mod shown;
pub mod survey;
pub mod targets;

use std::cmp::Ordering;

use pileus_model::{Job, JobState, Name, View, Vm, VmState};

use self::{
    barred::Barred,
    hash::HashMap,
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
    /// Its place among all jobs, by id: that of submission.
    pub order: u32,
    pub needs: Needs,
    pub targets: Which,
    /// Those of its targets where a VM may be booted for it now.
    pub boots: Which,
    /// The greater is served first; among equals the older id.
    pub rank: Rank,
    /// A VM was booted for it already.
    pub scheduled: bool,
    /// People are told why it waits.
    pub told: bool,
    /// Nothing is booted for it for a while.
    pub banned: bool,
}

/// High priority before all, then the priority.
pub type Rank = (bool, i64);

impl<'a> Waiting<'a> {
    /// Takes out of the job all that is asked of every job: a second look at 100 000 of them costs
    /// more than a copy.
    fn of(
        job: &'a Job,
        order: u32,
        (targets, boots): (Which, Which),
        banned: bool,
        algorithm: Algorithm,
    ) -> Self {
        let rank = match algorithm {
            Algorithm::Fairshare => (job.high_priority, job.priority),
            Algorithm::Fifo => Rank::default(),
        };
        Self {
            job,
            order,
            needs: Needs::of(job),
            targets,
            boots,
            rank,
            scheduled: job.state == JobState::Scheduled,
            told: job.reason.is_some(),
            banned,
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

/// So many jobs are fetched from memory at a time.
const FETCHED: usize = 32;

/// A word out of each part of a job that the sorting looks at. Jobs lie all over the memory, and waiting
/// for one after the other takes longer than all else: nothing depends on this sum, so that the processor
/// fetches many at once.
fn fetch(jobs: &[(u32, &Job)]) -> usize {
    let words = jobs.iter().map(|(_, job)| {
        job.state as usize
            ^ job.project.as_ptr().addr()
            ^ job.vm_type.as_ptr().addr()
            ^ job.target_clouds.len()
            ^ job.blocked_clouds.len()
            ^ usize::from(job.reason.is_some())
            ^ usize::from(job.user_type_limit.is_some())
            ^ usize::from(job.banned_until.is_some())
            ^ usize::from(job.image.is_some())
    });
    words.fold(0, |all, word| all ^ word)
}

/// What [`groups`] finds.
pub struct Sorted<'a> {
    /// Jobs and VMs by key, in no order that means anything.
    pub groups: Vec<(Key<'a>, Group<'a>)>,
    /// Jobs that have ended.
    pub ended: Vec<&'a Job>,
}

/// Sorts jobs and VMs by key. `free` says which VMs take a job.
pub fn groups<'a>(
    view: &'a View,
    targets: &mut Targets<'a>,
    barred: &Barred<'a>,
    algorithm: Algorithm,
    jobs: Jobs,
    free: impl Fn(&Vm) -> bool,
) -> Sorted<'a> {
    let (mut finder, mut ended) = (Finder::default(), Vec::new());
    for vm in view.vms.values() {
        let group = finder.get(&vm.project, &vm.user, &vm.vm_type);
        group.held.add(vm);
        if free(vm)
            && let Some(cloud) = targets.cloud(&vm.cloud)
        {
            group.free.put(vm, cloud);
        }
    }
    let mut all = (0..).zip(view.jobs.values().map(|job| &**job));
    let mut fetched: Vec<(u32, &Job)> = Vec::with_capacity(FETCHED);
    loop {
        fetched.clear();
        fetched.extend(all.by_ref().take(FETCHED));
        if fetched.is_empty() {
            break;
        }
        std::hint::black_box(fetch(&fetched));
        for (order, job) in fetched.iter().copied() {
            let waits = matches!(job.state, JobState::New | JobState::Scheduled);
            let limits = job.user_type_limit.is_some() && (waits || job.state == JobState::Running);
            if job.state.is_final() {
                ended.push(job);
            }
            if !waits && !limits {
                continue;
            }
            let group = finder.get(&job.project, &job.user, &job.vm_type);
            if let Some(limit) = job.user_type_limit {
                group.limit = Some(group.limit.map_or(limit, |least| least.min(limit)));
            }
            if waits && (jobs == Jobs::All || !group.free.is_empty()) {
                let which = targets.of(&job.target_clouds);
                let which = (which, barred.but_for(job, which, targets));
                group.waiting.push(Waiting::of(job, order, which, barred.bans(job), algorithm));
            }
        }
    }
    for (_, group) in &mut finder.groups {
        // Stable: the view is in the order of the ids, which is that of submission.
        group.waiting.sort_by_key(|waiting| std::cmp::Reverse(waiting.rank));
    }
    Sorted { groups: finder.groups, ended }
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
