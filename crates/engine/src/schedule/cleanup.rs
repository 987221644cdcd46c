//! What has to end: VMs that broke, idle or were told to go; clouds that drained; old jobs.

use std::{collections::HashSet, sync::Arc, time::Duration};

use pileus_model::{JobState, Name, Override, Time, View, Vm, VmState};

use super::{groups, targets::Targets, will_take};
use crate::{change::Change, command::surplus, config::SchedulerConfig};

/// Most jobs in one event.
const FORGET_MAX: usize = 10_000;

/// What to change in this cycle. Every change names what it was decided upon, so that the writer
/// drops it where that is no longer true.
pub fn cleanup(view: &View, now: Time, config: &SchedulerConfig) -> Vec<Change> {
    let mut changes = Vec::new();
    let needed = needed(view, &mut changes);
    for vm in view.vms.values().filter(|vm| vm.destroy.is_none()) {
        if let Some(why) = broken(view, vm, now, config) {
            changes.push(Change::Destroy { seen: vm.clone(), why });
        } else if vm.override_state == Some(Override::Retiring) {
            if vm.job.is_none() {
                changes.push(Change::Destroy { seen: vm.clone(), why: "it was retired".into() });
            }
        } else if idled(vm, now) && !needed.contains(&*vm.id) {
            changes.push(Change::Retire { seen: vm.clone() });
        }
    }
    for cloud in view.clouds.values() {
        let slots = if cloud.retired { 0 } else { cloud.vm_slots() };
        if cloud.used.vm_slots > slots && !surplus(view, cloud, slots).is_empty() {
            changes.push(Change::Shrink { cloud: cloud.name.clone() });
        }
        if cloud.retired && cloud.used.vm_slots == 0 {
            changes.push(Change::CloudGone { cloud: cloud.name.clone() });
        }
    }
    let kept = Duration::from_secs(config.job_retention_s);
    let old = |finished: Option<Time>| finished.is_some_and(|at| now.since(at) >= kept);
    let old: Vec<Name> = view
        .jobs
        .values()
        .filter(|job| job.state.is_final() && old(job.finished))
        .map(|job| job.id.clone())
        .collect();
    changes.extend(old.chunks(FORGET_MAX).map(|jobs| Change::Forget { jobs: jobs.to_vec() }));
    changes
}

/// The VMs that waiting jobs will take. Scheduled jobs for which there is none wait anew.
fn needed<'a>(view: &'a View, changes: &mut Vec<Change>) -> HashSet<&'a str> {
    let mut targets = Targets::new(view);
    let mut needed = HashSet::new();
    for (_, mut group) in groups(view, &mut targets, will_take) {
        let all: Vec<_> = group.free.rest().collect();
        let (scheduled, new): (Vec<_>, Vec<_>) =
            group.waiting.iter().partition(|waiting| waiting.job.state == JobState::Scheduled);
        for waiting in scheduled {
            if group.free.take(waiting, &targets).is_none() {
                changes.push(Change::Unschedule { job: waiting.job.id.clone() });
            }
        }
        for waiting in new {
            group.free.take(waiting, &targets);
        }
        let left: HashSet<_> = group.free.rest().map(|vm| &*vm.id).collect();
        needed.extend(all.into_iter().map(|vm| &*vm.id).filter(|vm| !left.contains(vm)));
    }
    needed
}

/// Why the VM is no good any more.
fn broken(view: &View, vm: &Arc<Vm>, now: Time, config: &SchedulerConfig) -> Option<String> {
    if vm.error_count >= config.polling_error_threshold.get() {
        let error = vm.last_error.as_deref().unwrap_or("unknown");
        return Some(format!("it failed {} times in a row: {error}", vm.error_count));
    }
    let over = |since: Time, limit: Duration| now.since(since) >= limit;
    match vm.state {
        VmState::Starting => {
            let timeout = view.clouds.get(&vm.cloud)?.spec.boot_timeout_s?;
            let late = over(vm.created, Duration::from_secs(timeout));
            late.then(|| format!("it did not boot within {timeout} s"))
        }
        VmState::Running if vm.registered.is_none() => {
            let late = over(vm.changed, config.register_timeout());
            late.then(|| format!("its worker did not call home within {} s", config.register_timeout_s))
        }
        VmState::Running | VmState::Error | VmState::Shutdown => None,
    }
}

/// Whether the VM has had no job for as long as it may.
fn idled(vm: &Vm, now: Time) -> bool {
    let since = vm.idle_since.filter(|_| vm.job.is_none());
    since.is_some_and(|since| now.since(since) >= Duration::from_secs(vm.keep_alive_s))
}
