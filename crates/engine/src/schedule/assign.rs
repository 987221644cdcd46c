//! Which waiting job an idle VM gets. One job per VM at a time.

use pileus_model::{Name, View, Vm};

use super::{
    Group, Jobs, Waiting,
    barred::Barred,
    groups, is_free,
    lane::{InOrder, turn},
    targets::Targets,
};
use crate::config::Algorithm;

/// Pairs of a job and the VM that is to run it.
///
/// A VM takes jobs of its own project, user and type, which fit into it and may run in its cloud:
/// high priority first, then the higher priority, then the older id; with [`Algorithm::Fifo`] the older
/// id alone. A job takes the smallest VM
/// that it fits into.
pub fn assign(view: &View, algorithm: Algorithm) -> Vec<(Name, Name)> {
    let idle = |vm: &Vm| is_free(view, vm);
    if !view.vms.values().any(|vm| idle(vm)) {
        return Vec::new();
    }
    let mut targets = Targets::new(view);
    let mut pairs = Vec::new();
    let groups = groups(view, &mut targets, &Barred::nothing(), algorithm, Jobs::WithFreeVm, idle);
    for (_, Group { mut scheduled, lanes, mut free, .. }) in groups {
        scheduled.sort_by_key(turn);
        let (mut scheduled, mut lanes) = (scheduled.into_iter().peekable(), InOrder::of(lanes));
        // A lane whose first job finds no VM is left out: its other jobs ask for the same.
        while !free.is_empty() {
            let lane = lanes.pop();
            let before = |one: &Waiting<'_>| lane.is_none_or(|lane| turn(one) < turn(&lane.first));
            if let Some(waiting) = scheduled.next_if(before) {
                pairs.extend(free.take(&waiting, &targets).map(|vm| pair(&waiting, vm)));
                lane.into_iter().for_each(|lane| lanes.put(lane));
            } else if let Some(lane) = lane {
                if let Some(vm) = free.take(&lane.first, &targets) {
                    pairs.push(pair(&lane.first, vm));
                    lanes.put_rest(&lane);
                }
            } else {
                break;
            }
        }
    }
    pairs.sort();
    pairs
}

fn pair(waiting: &Waiting<'_>, vm: &Vm) -> (Name, Name) {
    (waiting.job.id.clone(), vm.id.clone())
}

#[cfg(test)]
mod tests {
    use pileus_model::{Job, JobState, Override, VmState};

    use super::*;
    use crate::testing::{self, idle_vm, job};

    #[test]
    fn an_idle_vm_gets_the_job_that_goes_first() {
        let small = || idle_vm("v", "a");
        let of = |jobs: Vec<Job>, vm: Vm| (jobs, vm);
        let big = Job { memory_mib: 2000, ..job("0-big") };
        let held = Job { state: JobState::Held, ..job("0-held") };
        let scheduled = Job { state: JobState::Scheduled, ..job("2") };
        let urgent = Job { priority: 9, ..job("3") };
        let high = Job { high_priority: true, priority: -5, ..job("4") };
        let other = Job { user: "bob".into(), ..job("0") };
        let elsewhere = Job { project: "q".into(), ..job("0") };
        let typed = Job { vm_type: "t2".into(), ..job("0") };
        let target = |cloud: &str| Job { target_clouds: vec![cloud.into()], ..job("0") };
        let cases = [
            ("the older id", of(vec![job("1"), job("2")], small()), Some("1")),
            ("scheduled or new", of(vec![scheduled.clone(), job("3")], small()), Some("2")),
            ("the higher priority", of(vec![job("1"), urgent.clone()], small()), Some("3")),
            ("high priority before all", of(vec![job("1"), urgent, high], small()), Some("4")),
            ("one that is too large is passed over", of(vec![big.clone(), job("1")], small()), Some("1")),
            ("a held one is not taken", of(vec![held], small()), None),
            ("another user's is not taken", of(vec![other], small()), None),
            ("another project's is not taken", of(vec![elsewhere], small()), None),
            ("another type is not taken", of(vec![typed], small()), None),
            ("its target is this cloud", of(vec![target("A")], small()), Some("0")),
            ("its target is another cloud", of(vec![target("b")], small()), None),
            ("not registered", of(vec![job("1")], Vm { registered: None, ..small() }), None),
            ("busy", of(vec![job("1")], Vm { job: Some("x".into()), ..small() }), None),
            (
                "retiring",
                of(vec![job("1")], Vm { override_state: Some(Override::Retiring), ..small() }),
                None,
            ),
            ("being destroyed", of(vec![job("1")], Vm { destroy: Some("w".into()), ..small() }), None),
            ("broken", of(vec![job("1")], Vm { state: VmState::Error, ..small() }), None),
        ];
        for (what, (jobs, vm), wanted) in cases {
            let mut view = testing::view([testing::cloud("a", 3), testing::cloud("b", 3)]);
            testing::add(&mut view, jobs, [vm]);
            let pairs = assign(&view, Algorithm::Fairshare);
            assert_eq!(pairs.first().map(|(job, _)| &**job), wanted, "{what}");
            assert!(pairs.len() <= 1, "{what}: one job per VM");
        }
    }

    #[test]
    fn nothing_starts_in_a_cloud_that_is_drained() {
        for (draining, wanted) in [(false, 1), (true, 0)] {
            let cloud = pileus_model::Cloud { draining, ..testing::cloud("a", 3) };
            let mut view = testing::view([cloud]);
            testing::add(&mut view, [job("1")], [idle_vm("v", "a")]);
            assert_eq!(assign(&view, Algorithm::Fairshare).len(), wanted, "{draining}");
        }
    }

    #[test]
    fn a_job_takes_the_smallest_vm_that_it_fits_into() {
        let mut view = testing::view([testing::cloud("a", 3)]);
        let large = Vm { memory_mib: 5000, ..idle_vm("0-large", "a") };
        testing::add(&mut view, [job("1")], [large, idle_vm("1-small", "a")]);
        assert_eq!(assign(&view, Algorithm::Fairshare), [("1".into(), "1-small".into())]);
    }
}
