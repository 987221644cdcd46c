//! Circuit breaker of clouds whose VMs fail: such a cloud is left alone for a while, then probed with one VM.
//!
//! The failures stand in the view (`View::health`), so a restart does not forget them. The waits are kept in
//! memory and measured on the monotonic clock: after a start, a cloud may be probed at once.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use pileus_model::{CloudHealth, FAILED_VMS_MAX, Monotonic, Name, View};

use crate::hub::lock;

/// Waits before a probe, in seconds: after three failed VMs, after four, and so on.
const WAITS_S: [u64; 4] = [300, 600, 1200, 1800];

/// Waits of the clouds whose VMs fail.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<HashMap<Name, Wait>>);

/// Wait of one cloud.
#[derive(Debug, Clone, Copy)]
struct Wait {
    /// Failures when it began.
    failures: u32,
    until: Monotonic,
}

/// A cloud that takes no VM now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    pub cloud: Name,
    /// Time until the next probe; `None`: a probe is under way.
    pub left: Option<Duration>,
    /// Cause, for people.
    pub why: String,
}

impl Breaker {
    /// Breaker of a service that starts with this view.
    pub fn new(view: &View) -> Self {
        let suspects = view.health.iter().filter(|(_, health)| health.is_suspect());
        let wait = |health: &CloudHealth| Wait { failures: health.failures(), until: Monotonic::default() };
        Self(Mutex::new(suspects.map(|(cloud, health)| (cloud.clone(), wait(health))).collect()))
    }

    /// Returns the clouds that take no VM now.
    pub fn suspects(&self, view: &View, now: Monotonic) -> Vec<Suspect> {
        if view.health.is_empty() {
            return Vec::new();
        }
        let mut waits = lock(&self.0);
        waits.retain(|cloud, _| view.health.get(cloud).is_some_and(CloudHealth::is_suspect));
        let suspects = view.health.iter().filter(|(_, health)| health.is_suspect());
        suspects
            .filter_map(|(cloud, health)| {
                let failures = health.failures();
                let fresh = Wait { failures, until: now.after(pause(failures)) };
                let wait = waits.entry(cloud.clone()).or_insert(fresh);
                if wait.failures != failures {
                    *wait = fresh;
                }
                let left = (wait.until > now).then(|| wait.until.since(now));
                let probed = || view.vms_of(cloud).any(|vm| health.is_unproven(vm));
                let why = cause(health);
                (left.is_some() || probed()).then(|| Suspect { cloud: cloud.clone(), left, why })
            })
            .collect()
    }
}

fn pause(failures: u32) -> Duration {
    let place = usize::try_from(failures.saturating_sub(FAILED_VMS_MAX)).unwrap_or(usize::MAX);
    Duration::from_secs(WAITS_S[place.min(WAITS_S.len() - 1)])
}

fn cause(health: &CloudHealth) -> String {
    if health.jobless >= FAILED_VMS_MAX {
        format!("its last {} VMs could not start a job", health.jobless)
    } else {
        format!("its last {} VMs did not register", health.unregistered)
    }
}

#[cfg(test)]
mod tests {
    use pileus_model::Vm;

    use super::*;
    use crate::testing::{self, cloud, idle_vm, vm};

    fn view(unregistered: u32, jobless: u32, vms: Vec<Vm>) -> View {
        let mut view = testing::view([cloud("c", 9)]);
        testing::add(&mut view, [], vms);
        view.health.insert("c".into(), CloudHealth { unregistered, jobless, ..CloudHealth::default() });
        view
    }

    #[test]
    fn a_cloud_is_left_alone_longer_and_longer() {
        let at = |seconds| Monotonic::default().after(Duration::from_secs(seconds));
        let breaker = Breaker::new(&View::default());
        // Failed VMs so far, the time in seconds, and what is left to wait.
        let cases = [
            (2, 0, None),
            (3, 0, Some(300)),
            (3, 299, Some(1)),
            (3, 300, None),
            (4, 301, Some(600)),
            (5, 400, Some(1200)),
            (6, 500, Some(1800)),
            (90, 600, Some(1800)),
            (0, 700, None),
            (3, 800, Some(300)),
        ];
        for (failures, now, left) in cases {
            let suspects = breaker.suspects(&view(failures, 0, Vec::new()), at(now));
            let found = suspects.first().and_then(|suspect| suspect.left);
            assert_eq!(found, left.map(Duration::from_secs), "{failures} failures at {now} s");
        }
    }

    #[test]
    fn a_probe_is_alone_until_it_proves_its_cloud() {
        let busy = Vm { job_runs_s: vec![1], ..idle_vm("v", "c") };
        let cases = [
            ("none there", 3, 0, vec![], false),
            ("one boots", 3, 0, vec![vm("v", "c")], true),
            ("it registered", 3, 0, vec![idle_vm("v", "c")], false),
            ("it registered, and has run no job", 0, 3, vec![idle_vm("v", "c")], true),
            ("it has run one", 0, 3, vec![busy], false),
        ];
        for (what, unregistered, jobless, vms, closed) in cases {
            let view = view(unregistered, jobless, vms);
            // After a start a cloud is probed at once.
            let found = Breaker::new(&view).suspects(&view, Monotonic::default());
            assert_eq!(found.iter().any(|suspect| suspect.left.is_none()), closed, "{what}");
        }
    }
}
