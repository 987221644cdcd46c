//! Why a job waits, as the scheduler itself would say.
//!
//! A cycle of [`plan`](super::plan) is run upon the view, and what it found out of the job is told; the
//! tests of a cloud are those of [`Room::unfit`]. So this can tell no other story than what happens.

use std::collections::HashSet;

use pileus_model::{Bounded, CloudTest, Explanation, Job, JobState, Name, QueuePlace, Share, View, VmState};

use super::{
    Key,
    plan::{Cycle, Found, Queue, cycle},
    room::{Needs, Room, Unfit},
    shares::{ALL, Billionths},
    targets::Targets,
};
use crate::config::SchedulerConfig;

/// Explains a job; `None` where there is none of this id. `closed` clouds are in back-off.
pub fn explain(
    view: &View,
    config: &SchedulerConfig,
    closed: &HashSet<Name>,
    id: &str,
) -> Option<Explanation> {
    let job = view.jobs.get(id)?;
    Some(cycle(view, config, closed, |cycle, queues| {
        let key = Key::of_job(job);
        let queue = queues.iter().find(|queue| queue.key == key);
        let place = queue.and_then(|queue| queue.jobs.iter().position(|waiting| waiting.job.id == job.id));
        Explanation {
            job: job.id.clone(),
            state: job.state,
            why: why(job, &cycle, queue, place),
            seq: view.seq,
            clouds: clouds(view, job, closed, &cycle),
            queue: queue.zip(place).map(|(queue, place)| QueuePlace {
                position: place as u64 + 1,
                length: queue.jobs.len() as u64,
            }),
            share: share(&cycle, key),
            user_vms: Bounded {
                now: view.vms.values().filter(|vm| vm.user == job.user).count() as u64,
                limit: view.user_limits.get(&job.user).map(|limit| u64::from(*limit)),
            },
            starting_vms: Bounded {
                now: view.vms.values().filter(|vm| vm.state == VmState::Starting).count() as u64,
                limit: config.max_starting_vms.map(u64::from),
            },
        }
    }))
}

fn why(job: &Job, cycle: &Cycle<'_, '_>, queue: Option<&Queue<'_>>, place: Option<usize>) -> String {
    let with = |text: &str| match &job.reason {
        Some(reason) => format!("{text}: {reason}"),
        None => text.to_owned(),
    };
    match job.state {
        JobState::Scheduled => "A VM was booted for it, and will take it once it has called home.".into(),
        JobState::Running => {
            format!("It runs on VM {}.", job.vm.as_deref().unwrap_or("that is not known"))
        }
        JobState::Complete => "It ran to its end.".into(),
        JobState::Held => with("It is held until somebody releases it"),
        JobState::Removed => "It was removed.".into(),
        JobState::Error => with("It cannot run"),
        JobState::New => match (cycle.found(&job.id), queue.zip(place)) {
            (Some(Found::Boots(cloud)), _) => format!("A VM is booted for it next, on {cloud}."),
            (Some(Found::Waits(reason)), _) => format!("It waits: {reason}."),
            (None, Some((queue, place))) if place > 0 => {
                format!(
                    "It waits for its turn: {place} of {} jobs of its user and type go before it.",
                    queue.jobs.len()
                )
            }
            (None, Some(_)) => "It waits for its turn.".into(),
            (None, None) => "A VM of its user and type that idles or boots will take it.".into(),
        },
    }
}

fn clouds(view: &View, job: &Job, closed: &HashSet<Name>, cycle: &Cycle<'_, '_>) -> Vec<CloudTest> {
    let (needs, mut targets) = (Needs::of(job), Targets::new(view));
    let which = targets.of(&job.target_clouds);
    let test = |(place, cloud)| {
        // As it is now, before anything else that the cycle would boot.
        let room = Room::of(cloud, closed.contains(&cloud.name));
        let failed = if !targets.allow(which, place) {
            Some(("target", "none of the job's target clouds".to_owned()))
        } else if let Some(unfit) = room.unfit(&needs) {
            Some(said(unfit, &room, &needs))
        } else if !job.high_priority && cycle.is_reserved(place) {
            Some(("reserved", "high-priority jobs wait for it".to_owned()))
        } else {
            None
        };
        let cloud = cloud.name.clone();
        let (failed, detail) = failed.unzip();
        CloudTest { cloud, fits: failed.is_none(), failed, detail }
    };
    view.clouds_in_order().into_iter().map(|cloud| &**cloud).enumerate().map(test).collect()
}

/// A test's name, and what it compares.
fn said(unfit: Unfit, room: &Room<'_>, needs: &Needs) -> (&'static str, String) {
    let (cloud, free) = (room.cloud, room.cloud.free());
    let more = |what: &str, wants: u64, has: u64, unit: &str| {
        format!(
            "the job wants {wants}{unit} of {what}, {has}{unit} {}",
            if has == 1 { "is there" } else { "are there" }
        )
    };
    match unfit {
        Unfit::Retired => ("retired", "it takes no more VMs, and goes with its last one".into()),
        Unfit::CpuCores => {
            let (wants, has) = (needs.cpu_cores, cloud.spec.cpu_cores);
            ("cpu_cores", format!("the job wants {wants} cores, its largest VM has {has}"))
        }
        Unfit::Memory => ("memory", more("memory", needs.memory_mib, cloud.spec.memory_mib, " MiB")),
        Unfit::Storage => ("storage", more("storage", needs.storage_gib, cloud.spec.storage_gib, " GiB")),
        Unfit::Slots => ("slots", "it may have no VM at all".into()),
        Unfit::Disabled => ("enabled", "it is disabled".into()),
        Unfit::Closed => ("answers", "it failed to take VMs, and is left alone for a while".into()),
        Unfit::SlotsFree => ("slots_free", format!("all of its {} slots are taken", cloud.vm_slots())),
        Unfit::MemoryFree => ("memory_free", more("free memory", needs.memory_mib, free.memory_mib, " MiB")),
        Unfit::StorageFree => {
            ("storage_free", more("free storage", needs.storage_gib, free.storage_gib, " GiB"))
        }
    }
}

fn share(cycle: &Cycle<'_, '_>, key: Key<'_>) -> Option<Share> {
    let all: u64 = cycle.vms.values().copied().map(u64::from).sum();
    let has = cycle.vms.get(&key).copied().unwrap_or(0);
    let desired = cycle.desired.get(&key).copied();
    if has == 0 && desired.is_none() && !cycle.diff.contains_key(&key) {
        return None;
    }
    #[allow(clippy::cast_precision_loss, reason = "a billionth is nothing to people")]
    let part = |share: Billionths| share as f64 / ALL as f64;
    Some(Share {
        current: if all == 0 { 0.0 } else { f64::from(has) / all as f64 },
        desired: part(desired.unwrap_or(0)),
        // Neither VMs nor a share: its user's share is spent on another type.
        diff: part(cycle.diff.get(&key).copied().unwrap_or(ALL)),
    })
}

#[cfg(test)]
mod tests {
    use pileus_model::{Cloud, CloudSpec, Kind, Time, Vm};

    use super::*;
    use crate::testing::{self, cloud, happen, idle_vm, job, spec, vm};

    fn told(view: &View, closed: &[&str], id: &str) -> Explanation {
        let closed = closed.iter().map(|&name| name.into()).collect();
        let config = SchedulerConfig { max_starting_vms: Some(9), ..Default::default() };
        explain(view, &config, &closed, id).expect("a job")
    }

    #[test]
    fn every_cloud_is_told_with_the_first_test_that_failed() {
        let with = |name: &str, spec: CloudSpec| Cloud { spec, ..cloud(name, 0) };
        let clouds = [
            with("fits", spec(2)),
            with("other", spec(2)),
            with("few-cores", CloudSpec { cpu_cores: 1, ..spec(2) }),
            with("small", CloudSpec { memory_mib: 99, enabled: false, ..spec(2) }),
            with("no-disk", CloudSpec { storage_gib: 0, ..spec(2) }),
            with("closed-for-ever", spec(0)),
            with("off", CloudSpec { enabled: false, ..spec(2) }),
            with("silent", spec(2)),
            with("full", spec(1)),
            with("no-memory", CloudSpec { memory_mib: 150, ..spec(5) }),
            with("no-storage", CloudSpec { storage_gib: 1, ..spec(5) }),
        ];
        let names: Vec<String> =
            clouds.iter().map(|cloud| cloud.name.to_string()).filter(|name| name != "other").collect();
        let mut view = testing::view(clouds);
        let wants = Job { cpu_cores: 2, target_clouds: names, ..job("j") };
        let others = ["full", "no-memory", "no-storage"];
        let others = others.map(|at| Vm { user: "bob".into(), ..vm(&format!("v-{at}"), at) });
        testing::add(&mut view, [wants], others);
        let it = told(&view, &["silent"], "j");
        let tests: Vec<_> = it.clouds.iter().map(|test| (&*test.cloud, test.failed)).collect();
        assert_eq!(
            tests,
            [
                ("fits", None),
                ("other", Some("target")),
                ("few-cores", Some("cpu_cores")),
                ("small", Some("memory")),
                ("no-disk", Some("storage")),
                ("closed-for-ever", Some("slots")),
                ("off", Some("enabled")),
                ("silent", Some("answers")),
                ("full", Some("slots_free")),
                ("no-memory", Some("memory_free")),
                ("no-storage", Some("storage_free")),
            ]
        );
        assert_eq!(it.clouds[2].detail.as_deref(), Some("the job wants 2 cores, its largest VM has 1"));
        let memory = it.clouds[9].detail.as_deref();
        assert_eq!(memory, Some("the job wants 100 MiB of free memory, 50 MiB are there"));
        assert_eq!(it.why, "A VM is booted for it next, on fits.");
        assert!(it.clouds[0].fits && it.clouds[0].detail.is_none());
        assert_eq!(explain(&view, &SchedulerConfig::default(), &HashSet::new(), "x"), None);
    }

    #[test]
    fn the_sentence_is_the_planners_own() {
        let mut view = testing::view([cloud("a", 1)]);
        let urgent = Job { high_priority: true, user: "bob".into(), ..job("4") };
        let held = Job { state: JobState::Held, reason: Some("later".into()), ..job("5") };
        testing::add(&mut view, [job("1"), job("2"), job("3"), urgent, held], [idle_vm("v", "a")]);
        let cases = [
            ("1", "A VM of its user and type that idles or boots will take it."),
            ("2", "It waits: every cloud that could run it is full."),
            ("3", "It waits for its turn: 1 of 2 jobs of its user and type go before it."),
            ("4", "It waits: every cloud that could run it is full."),
            ("5", "It is held until somebody releases it: later"),
        ];
        for (id, wanted) in cases {
            assert_eq!(told(&view, &[], id).why, wanted, "job {id}");
        }
        let third = told(&view, &[], "3");
        assert_eq!(third.queue, Some(QueuePlace { position: 2, length: 2 }));
        assert_eq!(third.user_vms, Bounded { now: 1, limit: None });
        assert_eq!(third.starting_vms, Bounded { now: 0, limit: Some(9) });
        let share = third.share.expect("a share");
        assert_eq!((share.current, share.desired), (1.0, 0.333_333_333));
        // A limit of the user, and room that high-priority jobs wait for.
        happen(
            &mut view,
            Time(1),
            [Kind::CloudSet(cloud("a", 2)), Kind::UserLimit { user: "alice".into(), vms: Some(1) }],
        );
        let second = told(&view, &[], "2");
        assert_eq!(second.why, "It waits: its user has reached the limit of 1 VMs.");
        assert_eq!(second.user_vms, Bounded { now: 1, limit: Some(1) });
        assert_eq!(told(&view, &[], "4").why, "A VM is booted for it next, on a.");
        assert_eq!(told(&view, &["a"], "4").why, "It waits: no cloud that could run it accepts VMs now.");
    }

    /// Whatever happens, what is explained is what the scheduler does and says.
    #[test]
    fn it_tells_no_other_story_than_the_plan() {
        use crate::{Intent, plan, simulation::Simulation};
        let config = Simulation::new(0).config().clone();
        let (mut boots, mut reasons) = (0, 0);
        for seed in 0..20 {
            let mut simulation = Simulation::new(seed);
            for _ in 0..60 {
                simulation.step();
                let view = simulation.view();
                for intent in plan(view, Time(0), &config) {
                    let (job, wanted) = match &intent {
                        Intent::Boot { job, cloud } => {
                            boots += 1;
                            (job, format!("A VM is booted for it next, on {cloud}."))
                        }
                        Intent::Reason { job, reason: Some(reason) } => {
                            reasons += 1;
                            (job, format!("It waits: {reason}."))
                        }
                        Intent::Reason { .. } => continue,
                    };
                    let it = explain(view, &config, &HashSet::new(), job).expect("a job");
                    assert_eq!(it.why, wanted, "{intent:?}");
                    if let Intent::Boot { cloud, .. } = &intent {
                        let test = it.clouds.iter().find(|test| test.cloud == *cloud).expect("the cloud");
                        assert!(test.fits || test.failed == Some("reserved"), "{test:?}");
                    }
                }
            }
        }
        assert!(boots > 20 && reasons > 20, "{boots} {reasons}");
    }
}
