//! What the engine tells of its own thoughts: shares, what each reconciler holds, strays.
//!
//! None of it decides anything.

use pileus_model::{Clock, Holding, JobState, Name, Override, Shares, Stray, TypeShare, Vm, VmState};

use crate::{
    hub::{Hub, RECONCILERS, lock},
    schedule::{
        Key,
        shown::{ByKey, shares_now},
    },
    sources::SOURCES,
};

/// Machines that no VM matched when their driver looked last.
pub fn strays(hub: &Hub) -> Vec<Stray> {
    let strays = lock(&hub.strays);
    let of = |(driver, machines): (&String, &Vec<Name>)| {
        let stray = |machine: &Name| Stray { machine: machine.clone(), driver: driver.clone() };
        machines.iter().map(stray).collect::<Vec<_>>()
    };
    strays.iter().flat_map(of).collect()
}

/// The shares by which the scheduler would decide now.
pub fn shares(hub: &Hub) -> Shares {
    let view = hub.view.load_full();
    shares_now(&view, hub.clock.moment(&view).now, &hub.config, |diff, current, desired| Shares {
        diff: list(diff),
        current: list(current),
        desired: list(desired),
    })
}

fn list(shares: &ByKey<'_>) -> Vec<TypeShare> {
    let share = |(key, billionths): (&Key<'_>, &i64)| TypeShare {
        project: key.project.into(),
        user: key.user.into(),
        vm_type: key.vm_type.into(),
        billionths: *billionths,
    };
    shares.iter().map(share).collect()
}

/// What each reconciler holds.
pub fn holdings(hub: &Hub) -> Vec<Holding> {
    let view = hub.view.load_full();
    let now = hub.clock.monotonic();
    let jobs = |state: JobState| view.jobs.values().filter(|job| job.state == state).count();
    let vms = |picks: &dyn Fn(&Vm) -> bool| view.vms.values().filter(|vm| picks(vm)).count();
    let mut scheduler = vec![
        format!("jobs that wait: {}", jobs(JobState::New)),
        format!("jobs with a VM to come: {}", jobs(JobState::Scheduled)),
        format!("VMs that boot: {}", vms(&|vm| vm.state == VmState::Starting)),
    ];
    for (cloud, until) in lock(&hub.closed).iter().filter(|(_, until)| **until > now) {
        let left_s = until.since(now).as_secs();
        scheduler.push(format!("cloud {cloud} is left alone for another {left_s} s"));
    }
    for suspect in hub.breaker.suspects(&view, hub.clock.monotonic()) {
        let (cloud, why) = (suspect.cloud, suspect.why);
        scheduler.push(match suspect.left {
            Some(left) => format!("cloud {cloud} is left alone for another {} s: {why}", left.as_secs()),
            None => format!("cloud {cloud} is tried with one VM: {why}"),
        });
    }
    let retiring = vms(&|vm| vm.override_state == Some(Override::Retiring) && vm.destroy.is_none());
    let mut cleanup = vec![
        format!("VMs that idle: {}", vms(&|vm| vm.idle_since.is_some() && vm.job.is_none())),
        format!("VMs that retire: {retiring}"),
        format!("VMs to be destroyed: {}", vms(&|vm| vm.destroy.is_some())),
    ];
    for cloud in view.clouds_in_order().into_iter().filter(|cloud| cloud.retired) {
        cleanup.push(format!("cloud {} drains: {} VMs", cloud.name, cloud.used.vm_slots));
    }
    let mut vm_poller = Vec::new();
    for cloud in view.clouds_in_order() {
        let (name, driver, vms) = (&cloud.name, &cloud.spec.driver, cloud.used.vm_slots);
        let trouble = lock(&hub.troubles).get(name).map_or_else(String::new, |text| format!(": {text}"));
        vm_poller.push(format!("cloud {name} (driver {driver}): {vms} VMs{trouble}"));
    }
    for (driver, slot) in hub.fleet.slots() {
        let swept = lock(&slot.swept).map(|at| now.since(at).as_secs());
        let swept = swept.map_or_else(|| "never".to_owned(), |ago_s| format!("{ago_s} s ago"));
        vm_poller.push(format!("driver {driver}: looked for strays {swept}"));
    }
    let source = |source: &&str| {
        let of = view.jobs.values().filter(|job| *job.source == **source).count();
        format!("source {source}: {of} jobs")
    };
    let job_poller = SOURCES.iter().map(source).collect();
    let machine_poller = vec![
        format!("machines that called home: {}", vms(&|vm| vm.registered.is_some())),
        format!(
            "machines that may take a job: {}",
            vms(&|vm| vm.registered.is_some() && vm.job.is_none() && vm.takes_jobs())
        ),
        format!("jobs that run: {}", jobs(JobState::Running)),
    ];
    let lines = [scheduler, cleanup, vm_poller, job_poller, machine_poller];
    RECONCILERS.into_iter().zip(lines).map(|(name, lines)| Holding { name, lines }).collect()
}
