//! The shares of a cycle, for people who ask: the numbers by which [`plan`](super::plan) would decide
//! on this very view.

use std::collections::BTreeMap;

use pileus_model::{Time, View};

use super::{Key, shares::Billionths, survey::Survey};
use crate::config::SchedulerConfig;

/// A share of all VMs for each key that has one.
pub type ByKey<'a> = BTreeMap<Key<'a>, Billionths>;

/// Shows what each key is above its share, has, and should have.
pub fn shares_now<T>(
    view: &View,
    now: Time,
    config: &SchedulerConfig,
    shown: impl FnOnce(&ByKey<'_>, &ByKey<'_>, &ByKey<'_>) -> T,
) -> T {
    let survey = Survey::new(view, now, config, &Default::default());
    let limited = |key: Key<'_>| survey.at_limit(key, 0).or_else(|| survey.at_type_limit(key, 0)).is_some();
    let shares = survey.shares(config, limited);
    shown(&shares.diff, &shares.current, &shares.desired)
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
        let config = SchedulerConfig::default();
        let shown = |view: &View| {
            shares_now(view, Time(0), &config, |diff, current, desired| [diff, current, desired].map(text))
        };
        assert_eq!(
            shown(&view),
            [
                "alice:t1 166666, bob:t2 -500000, dave:t1 1000000",
                "alice:t1 666666, dave:t1 333333",
                "alice:t1 500000, bob:t2 500000",
            ]
        );
        // A VM that boots takes its job: nobody waits for a share of it.
        testing::add(&mut view, [], [Vm { user: "bob".into(), vm_type: "t2".into(), ..vm("v4", "c") }]);
        assert_eq!(shown(&view)[2], "alice:t1 1000000");
        assert_eq!(shown(&testing::view([])), ["", "", ""], "nobody has a share of nothing");
    }
}
