//! What has to end: VMs that broke, idle or were told to go; clouds that drained; old jobs.

use std::{collections::HashSet, sync::Arc, time::Duration};

use pileus_model::{BootFault, Name, Override, Time, View, Vm, VmState};

use super::{rebalance, release::releases, survey::Survey};
use crate::{change::Change, command::surplus, config::SchedulerConfig, timeline::Moment};

/// Most jobs in one event.
const FORGET_MAX: usize = 10_000;

/// What to change in this cycle, rebalancing included. Every change names what it was decided upon,
/// so that the writer drops it where that is no longer true.
pub fn cleanup(view: &View, now: Time, config: &SchedulerConfig) -> Vec<Change> {
    cleanup_without(view, now, config, &HashSet::new())
}

/// The same while no VM can be booted in the `closed` clouds, which are in back-off.
pub fn cleanup_without(
    view: &View,
    moment: impl Into<Moment>,
    config: &SchedulerConfig,
    closed: &HashSet<Name>,
) -> Vec<Change> {
    let moment = moment.into();
    let now = moment.now;
    let survey = Survey::new(view, now, config, closed);
    // Scheduled jobs for which there is no VM wait anew.
    let orphans = survey.orphans.iter();
    let mut changes: Vec<_> = orphans.map(|job| Change::Unschedule { job: job.id.clone() }).collect();
    for vm in view.vms.values().filter(|vm| vm.destroy.is_none()) {
        if let Some((why, fault)) = broken(view, vm, moment, config) {
            changes.push(Change::Broken { seen: vm.clone(), why, fault });
        } else if vm.override_state == Some(Override::Retiring) {
            if vm.job.is_none() {
                changes.push(Change::Destroy { seen: vm.clone(), why: "it was retired".into() });
            }
        } else if let Some(waits) = survey.needed.get(&*vm.id) {
            if let Some(limit_s) = forsaken(vm, *waits, moment, config) {
                let why = format!("it idled for {limit_s} s though jobs wait for it");
                changes.push(Change::Destroy { seen: vm.clone(), why });
            }
        } else if idled(vm, moment) {
            changes.push(Change::Retire { seen: vm.clone() });
        }
    }
    for cloud in view.clouds.values() {
        let slots = cloud.vm_slots_to_keep();
        if cloud.used.vm_slots > slots && !surplus(view, cloud, slots).is_empty() {
            changes.push(Change::Shrink { cloud: cloud.name.clone() });
        }
        if cloud.retired && cloud.used.vm_slots == 0 {
            changes.push(Change::CloudGone { cloud: cloud.name.clone() });
        }
    }
    let swaps = rebalance::of(&survey, now, config);
    changes.extend(given_up(&survey, config, &swaps));
    changes.extend(swaps);
    let kept = Duration::from_secs(config.job_retention_s);
    let old = view.index.ended.iter().take_while(|(finished, _)| moment.expiry.since(*finished) >= kept);
    let mut old: Vec<Name> = old.map(|(_, job)| job.clone()).collect();
    old.sort();
    changes.extend(old.chunks(FORGET_MAX).map(|jobs| Change::Forget { jobs: jobs.to_vec() }));
    changes
}

/// VMs that go so that jobs which wait find room, beside the `swaps` for fair shares.
fn given_up(survey: &Survey<'_>, config: &SchedulerConfig, swaps: &[Change]) -> Vec<Change> {
    if !config.rebalance || survey.queues.is_empty() || survey.held.is_empty() {
        return Vec::new();
    }
    let gone = swaps.iter().filter_map(|change| match change {
        Change::GiveUp { seen } | Change::Destroy { seen, .. } => Some(seen.id.clone()),
        _ => None,
    });
    let released = releases(survey, config, &gone.collect()).into_iter();
    released.map(|vm| Change::GiveUp { seen: vm.clone() }).collect()
}

/// Why the VM is no good any more; and how, where it never took a job.
fn broken(
    view: &View,
    vm: &Arc<Vm>,
    moment: Moment,
    config: &SchedulerConfig,
) -> Option<(String, Option<BootFault>)> {
    if vm.error_count >= config.polling_error_threshold.get() {
        let error = vm.last_error.as_deref().unwrap_or("unknown");
        let fault = if vm.handle.is_empty() { BootFault::NotMade } else { BootFault::NotBooted };
        let fault = vm.registered.is_none().then_some(fault);
        return Some((format!("it failed {} times in a row: {error}", vm.error_count), fault));
    }
    let over = |since: Time, limit: Duration| age(since, moment) >= limit;
    match vm.state {
        VmState::Starting => {
            let timeout = view.clouds.get(&vm.cloud)?.spec.boot_timeout_s?;
            let late = over(vm.created, Duration::from_secs(timeout));
            let fault = if vm.handle.is_empty() { BootFault::NotMade } else { BootFault::NotBooted };
            late.then(|| (format!("it did not boot within {timeout} s"), Some(fault)))
        }
        VmState::Running if vm.registered.is_none() => {
            let late = over(vm.changed, config.register_timeout());
            let why = || format!("its worker did not call home within {} s", config.register_timeout_s);
            late.then(|| (why(), Some(BootFault::NotRegistered)))
        }
        VmState::Running | VmState::Error | VmState::Shutdown => None,
    }
}

/// Whether the VM has idled too long though a job has been `waiting` for it: then something is wrong
/// with it that nobody sees.
fn forsaken(vm: &Vm, waiting: Time, moment: Moment, config: &SchedulerConfig) -> Option<u64> {
    let limit_s = config.vm_idle_threshold_s?.get();
    let since = vm.idle_since.filter(|_| vm.job.is_none())?.max(waiting);
    (age(since, moment) >= Duration::from_secs(limit_s)).then_some(limit_s)
}

/// Whether the VM has had no job for as long as it may.
fn idled(vm: &Vm, moment: Moment) -> bool {
    let since = vm.idle_since.filter(|_| vm.job.is_none());
    since.is_some_and(|since| age(since, moment) >= Duration::from_secs(vm.keep_alive_s))
}

/// Time that a timer of a VM has run. It starts again with the process.
fn age(since: Time, moment: Moment) -> Duration {
    moment.now.since(since.max(moment.started))
}

#[cfg(test)]
mod tests {
    use pileus_model::{Cloud, Job, JobState};

    use super::*;
    use crate::testing::{self, cloud, idle_vm, job, vm};

    /// A change, as one reads it.
    fn short(change: &Change) -> String {
        match change {
            Change::Destroy { seen, why } => format!("destroy {}: {why}", seen.id),
            Change::Broken { seen, why, .. } => format!("destroy {}: {why}", seen.id),
            Change::GiveUp { seen } => format!("give up {}", seen.id),
            Change::Retire { seen } => format!("retire {}", seen.id),
            Change::Unschedule { job } => format!("unschedule {job}"),
            Change::Shrink { cloud } => format!("shrink {cloud}"),
            Change::CloudGone { cloud } => format!("gone {cloud}"),
            Change::Forget { jobs } => format!("forget {}", jobs.join(" ")),
            other => format!("{other:?}"),
        }
    }

    fn cleaned(view: &View, now_s: i64) -> Vec<String> {
        let mut all: Vec<_> =
            cleanup(view, Time(now_s * 1000), &SchedulerConfig::default()).iter().map(short).collect();
        all.sort();
        all
    }

    #[test]
    fn vms_end_when_they_have_to() {
        let retiring = |vm| Vm { override_state: Some(Override::Retiring), ..vm };
        let running = || Vm { state: VmState::Running, ..vm("v", "c") };
        let failed = |error_count| Vm {
            state: VmState::Error,
            error_count,
            last_error: Some("no disk".into()),
            ..vm("v", "c")
        };
        let busy = |vm| Vm { job: Some("j".into()), idle_since: None, ..vm };
        const BROKEN: &[&str] = &["destroy v: it failed 5 times in a row: no disk"];
        let cases: [(&str, Vm, i64, &[&str]); 16] = [
            ("boots", vm("v", "c"), 599, &[]),
            ("boots too long", vm("v", "c"), 600, &["destroy v: it did not boot within 600 s"]),
            ("has no worker yet", running(), 899, &[]),
            ("has no worker", running(), 900, &["destroy v: its worker did not call home within 900 s"]),
            ("idles", idle_vm("v", "c"), 59, &[]),
            ("idles too long", idle_vm("v", "c"), 60, &["retire v"]),
            ("works", busy(idle_vm("v", "c")), 9999, &[]),
            ("works and retires", retiring(busy(idle_vm("v", "c"))), 9999, &[]),
            ("retires", retiring(idle_vm("v", "c")), 1, &["destroy v: it was retired"]),
            ("retires while it boots", retiring(vm("v", "c")), 1, &["destroy v: it was retired"]),
            ("is broken for a moment", failed(4), 9999, &[]),
            ("is broken", failed(5), 1, BROKEN),
            ("is broken with its job", busy(failed(5)), 1, BROKEN),
            ("cannot be made", Vm { state: VmState::Starting, ..failed(5) }, 1, BROKEN),
            ("is being destroyed", Vm { destroy: Some("w".into()), ..failed(9) }, 9999, &[]),
            ("is not to be kept", Vm { keep_alive_s: 0, ..idle_vm("v", "c") }, 0, &["retire v"]),
        ];
        for (what, vm, now_s, wanted) in cases {
            let mut view = testing::view([cloud("c", 3)]);
            testing::add(&mut view, [], [vm]);
            assert_eq!(cleaned(&view, now_s), wanted, "a VM that {what}");
        }
    }

    #[test]
    fn an_idle_vm_stays_for_a_job_that_it_will_take() {
        let scheduled = Job { state: JobState::Scheduled, ..job("1") };
        let cases: [(&str, Job, &[&str]); 4] = [
            ("waits", job("1"), &[]),
            ("is scheduled", scheduled, &[]),
            // It would keep the room from the very job that needs it.
            ("is too large", Job { memory_mib: 5000, ..job("1") }, &["retire v"]),
            ("is another user's", Job { user: "bob".into(), ..job("1") }, &["retire v"]),
        ];
        for (what, waiting, wanted) in cases {
            let mut view = testing::view([cloud("c", 3)]);
            testing::add(&mut view, [waiting], [idle_vm("v", "c")]);
            assert_eq!(cleaned(&view, 60), wanted, "a job that {what}");
        }
    }

    #[test]
    fn clouds_shrink_and_go() {
        let busy = |id: &str| Vm { job: Some(format!("j{id}").into()), ..idle_vm(id, "c") };
        let going = |id: &str| Vm { override_state: Some(Override::Retiring), ..busy(id) };
        let of = |vm_slots, retired| Cloud { retired, ..cloud("c", vm_slots) };
        let cases: [(&str, Cloud, Vec<Vm>, &[&str]); 8] = [
            ("just enough slots", of(2, false), vec![busy("1"), busy("2")], &[]),
            ("too few slots", of(1, false), vec![busy("1"), busy("2")], &["shrink c"]),
            ("enough go already", of(1, false), vec![busy("1"), going("2")], &[]),
            ("retired", of(5, true), vec![busy("1")], &["shrink c"]),
            ("retired, the last ones go", of(5, true), vec![going("1")], &[]),
            ("drained", Cloud { draining: true, ..of(5, false) }, vec![busy("1")], &["shrink c"]),
            ("drained, and empty", Cloud { draining: true, ..of(5, false) }, vec![], &[]),
            ("retired and drained", of(5, true), vec![], &["gone c"]),
        ];
        for (what, cloud, vms, wanted) in cases {
            let mut view = testing::view([cloud]);
            testing::add(&mut view, [], vms);
            assert_eq!(cleaned(&view, 1), wanted, "{what}");
        }
    }

    #[test]
    fn old_jobs_are_forgotten_once_they_have_ended() {
        let day = 24 * 60 * 60;
        let ended = |id: &str, state| Job { state, finished: Some(Time(0)), ..job(id) };
        let mut view = testing::view([]);
        let jobs = [
            ended("1", JobState::Complete),
            ended("2", JobState::Removed),
            ended("3", JobState::Error),
            Job { finished: Some(Time(1000)), ..ended("4", JobState::Complete) },
            job("5"),
            Job { state: JobState::Held, ..job("6") },
        ];
        testing::add(&mut view, jobs, []);
        assert_eq!(cleaned(&view, day - 1), [""; 0]);
        assert_eq!(cleaned(&view, day), ["forget 1 2 3"]);
    }
}
