//! The shares of a cycle, for people who ask: the numbers by which [`plan`](super::plan) would decide
//! on this very view.

use super::*;

/// A share of all VMs for each key that has one.
pub type ByKey<'a> = BTreeMap<Key<'a>, shares::Billionths>;

/// What each key is above its share, has, and should have.
pub fn shares_now<T>(
    view: &View,
    config: &SchedulerConfig,
    shown: impl FnOnce(&ByKey<'_>, &ByKey<'_>, &ByKey<'_>) -> T,
) -> T {
    let mut targets = Targets::new(view);
    let mut groups = groups(view, &mut targets, Jobs::All, will_take);
    let rooms: Vec<_> = view.clouds_in_order().into_iter().map(|cloud| Room::of(cloud, false)).collect();
    let mut verdicts = Verdicts { targets: &targets, rooms: &rooms, known: HashMap::new(), last: None };
    let mut reasons = Vec::new();
    let queues: Vec<Queue<'_>> = groups
        .iter_mut()
        .filter_map(|(key, group)| queue(*key, group, &mut verdicts, &mut reasons))
        .collect();
    let mut user_vms: HashMap<&str, u32> = HashMap::new();
    for vm in view.vms.values() {
        *user_vms.entry(&*vm.user).or_default() += 1;
    }
    let limited = |user: &str| {
        let has = user_vms.get(user).copied().unwrap_or(0);
        view.user_limits.get(user).is_some_and(|limit| has >= *limit)
    };
    let mut demands: Vec<_> = queues.iter().map(demand).collect();
    demands.retain(|demand| demand.high.is_some() || !limited(demand.key.user));
    demands.sort_by_key(|demand| demand.key);
    let desired = shares::desired(&demands, config.job_distribution, config.high_priority_job_weight.get());
    let vms: BTreeMap<_, _> =
        groups.iter().filter(|(_, group)| group.vms > 0).map(|(key, group)| (*key, group.vms)).collect();
    let diff = shares::diff(&vms, &desired, |key| limited(key.user));
    let all: i64 = vms.values().copied().map(i64::from).sum();
    let current = vms.iter().map(|(key, vms)| (*key, shares::ALL * i64::from(*vms) / all)).collect();
    shown(&diff, &current, &desired)
}

#[cfg(test)]
mod tests {
    use pileus_model::{Job, Vm};

    use super::*;
    use crate::testing::{self, cloud, idle_vm, job, vm};

    #[test]
    fn shares_are_shown_as_the_scheduler_has_them() {
        let mut view = testing::view([cloud("c", 10)]);
        let busy = |id: &str, user: &str| Vm { user: user.into(), job: Some("x".into()), ..idle_vm(id, "c") };
        let of = |id: &str, user: &str, vm_type: &str| Job {
            user: user.into(),
            vm_type: vm_type.into(),
            ..job(id)
        };
        let jobs = [of("1", "alice", "t1"), of("2", "bob", "t2"), of("3", "carol", "t3")];
        testing::add(&mut view, jobs, [busy("v1", "alice"), busy("v2", "alice"), busy("v3", "dave")]);
        view.user_limits.insert("carol".into(), 0);
        let text = |of: &ByKey<'_>| {
            let entries =
                of.iter().map(|(key, share)| format!("{}:{} {}", key.user, key.vm_type, share / 1_000));
            entries.collect::<Vec<_>>().join(", ")
        };
        let shown = shares_now(&view, &SchedulerConfig::default(), |diff, current, desired| {
            [diff, current, desired].map(text)
        });
        assert_eq!(
            shown,
            [
                "alice:t1 166666, bob:t2 -500000, dave:t1 1000000",
                "alice:t1 666666, dave:t1 333333",
                "alice:t1 500000, bob:t2 500000",
            ]
        );
        // A VM that boots takes its job: nobody waits for a share of it.
        testing::add(&mut view, [], [Vm { user: "bob".into(), vm_type: "t2".into(), ..vm("v4", "c") }]);
        let desired = shares_now(&view, &SchedulerConfig::default(), |_, _, desired| text(desired));
        assert_eq!(desired, "alice:t1 1000000");
    }

    #[test]
    fn nobody_has_a_share_of_nothing() {
        let view = testing::view([]);
        let shown = shares_now(&view, &SchedulerConfig::default(), |diff, current, desired| {
            [diff.len(), current.len(), desired.len()]
        });
        assert_eq!(shown, [0, 0, 0]);
    }
}
