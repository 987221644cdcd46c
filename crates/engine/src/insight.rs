//! What the engine tells of its own thoughts: shares, what did not come up, what each reconciler holds.
//!
//! Kept beside the state, in memory: none of it decides anything, and a restart begins anew.

use std::{collections::BTreeMap, sync::Mutex};

use pileus_model::{
    Event, FailedBoots, Holding, JobState, Kind, Name, Override, Share, Shares, Stray, View, Vm, VmState,
};

use crate::{
    hub::{Hub, RECONCILERS, lock},
    schedule::{
        Key,
        plan::shown::{ByKey, shares_now},
    },
    sources::SOURCES,
};

/// What is remembered.
#[derive(Debug, Default)]
pub struct Insight {
    /// By cloud and VM type.
    failures: Mutex<BTreeMap<(Name, Name), FailedBoots>>,
    /// What the last sweep of each driver found.
    strays: Mutex<BTreeMap<String, Vec<Name>>>,
}

impl Insight {
    /// Remembers which types do not come up where, by what just happened.
    pub fn learn(&self, before: &View, after: &View, events: &[Event]) {
        let find = |vm: &str| after.vms.get(vm).or_else(|| before.vms.get(vm));
        for event in events {
            match &event.kind {
                Kind::VmDestroy { vm, why } => {
                    let Some(vm) = find(vm).filter(|vm| came_not_up(vm, &event.by.user)) else { continue };
                    let (cloud, vm_type) = (vm.cloud.clone(), vm.vm_type.clone());
                    let key = (cloud.clone(), vm_type.clone());
                    let failure = FailedBoots { cloud, vm_type, why: why.clone(), at: event.time };
                    lock(&self.failures).insert(key, failure);
                }
                Kind::VmRegistered { vm } => {
                    let Some(vm) = find(vm) else { continue };
                    let mut failures = lock(&self.failures);
                    if !failures.is_empty() {
                        failures.remove(&(vm.cloud.clone(), vm.vm_type.clone()));
                    }
                }
                Kind::CloudGone { cloud } => lock(&self.failures).retain(|(of, _), _| of != cloud),
                _ => (),
            }
        }
    }

    /// A driver was swept.
    pub fn swept(&self, driver: &str, strays: &[Name]) {
        lock(&self.strays).insert(driver.to_owned(), strays.to_vec());
    }

    pub fn failed_boots(&self) -> Vec<FailedBoots> {
        lock(&self.failures).values().cloned().collect()
    }

    pub fn strays(&self) -> Vec<Stray> {
        let strays = lock(&self.strays);
        let of = |(driver, machines): (&String, &Vec<Name>)| {
            let strays =
                machines.iter().map(|machine| Stray { machine: machine.clone(), driver: driver.clone() });
            strays.collect::<Vec<_>>()
        };
        strays.iter().flat_map(of).collect()
    }
}

/// Whether the clean-up gave a VM up that nobody had told to go, before its worker ever called home.
fn came_not_up(vm: &Vm, by: &str) -> bool {
    by == "[cleanup]" && vm.registered.is_none() && vm.override_state.is_none()
}

/// The shares by which the scheduler would decide now.
pub fn shares(hub: &Hub) -> Shares {
    let view = hub.view.load_full();
    shares_now(&view, &hub.config, |diff, current, desired| Shares {
        diff: list(diff),
        current: list(current),
        desired: list(desired),
    })
}

fn list(shares: &ByKey<'_>) -> Vec<Share> {
    let share = |(key, billionths): (&Key<'_>, &i64)| Share {
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
    let now = hub.clock.now();
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

#[cfg(test)]
mod tests {
    use pileus_model::{Actor, Owner, Time};

    use super::*;
    use crate::{
        state::apply,
        testing::{self, cloud, vm},
    };

    #[test]
    fn what_does_not_come_up_is_remembered_until_it_does() {
        let insight = Insight::default();
        let destroy = |vm: &str| Kind::VmDestroy { vm: vm.into(), why: "it did not boot".into() };
        let mut view = testing::view([cloud("c", 9)]);
        let going = Vm { override_state: Some(Override::Retiring), ..vm("going", "c") };
        let up = Vm { registered: Some(Time(1)), ..vm("up", "c") };
        testing::add(&mut view, [], [vm("v", "c"), vm("w", "c"), going, up]);
        // What happens, by whom, and how many failures are known then.
        let steps = [
            (destroy("going"), "[cleanup]", 0),
            (destroy("up"), "[cleanup]", 0),
            (destroy("w"), "ada", 0),
            (destroy("v"), "[cleanup]", 1),
            (destroy("nobody"), "[cleanup]", 1),
            (Kind::VmRegistered { vm: "w".into() }, "[vm w]", 0),
            (destroy("v"), "[cleanup]", 1),
            (Kind::CloudGone { cloud: "other".into() }, "[cleanup]", 1),
            (Kind::CloudGone { cloud: "c".into() }, "[cleanup]", 0),
        ];
        for (kind, by, known) in steps {
            let by = Actor { user: by.into(), ..Actor::default() };
            let event = Event { seq: view.seq + 1, time: Time(5), by, owner: Owner::Service, kind };
            let before = view.clone();
            apply(&mut view, &event);
            insight.learn(&before, &view, std::slice::from_ref(&event));
            assert_eq!(insight.failed_boots().len(), known, "{event:?}");
        }
    }

    #[test]
    fn strays_are_those_of_the_last_sweep() {
        let insight = Insight::default();
        insight.swept("local", &["a".into(), "b".into()]);
        insight.swept("local", &["b".into()]);
        insight.swept("ec2", &[]);
        let strays = insight.strays();
        assert_eq!(strays, [Stray { machine: "b".into(), driver: "local".into() }]);
    }
}
