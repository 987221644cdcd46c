//! Why a job waits, as the scheduler itself would say.
//!
//! A cycle of [`plan`](super::plan) is run upon the view, and what it found out of the job is told; the
//! tests of a cloud are those of [`Room::unfit`]. So this can tell no other story than what happens.

use std::collections::HashSet;

use pileus_model::{
    Bounded, CloudTest, Explanation, FailedBoot, Job, JobState, Name, QueueOf, QueuePlace, Share, Time, View,
    VmState,
    reason::{BEHIND, BOOTING, HOLDS, NEXT, TYPE_LIMIT, USER_LIMIT},
};

use super::{
    Key,
    barred::Barred,
    lane::{InOrder, Lane},
    plan::{AHEAD, CLOSED, Cycle, FULL, Found, HELD, HIGH, OLDER, SHARE, cycle},
    room::{Needs, Room, Unfit},
    shares::{ALL, Billionths},
    survey::{BANNED, BLOCKED, DISABLED, DRAINED, NO_CLOUD, NO_TARGET, Queue, TOO_LARGE},
    targets::Targets,
};
use crate::config::{Algorithm, SchedulerConfig};

/// Explains a job; `None` where there is none of this id. `closed` clouds are in back-off.
pub fn explain(
    view: &View,
    now: Time,
    config: &SchedulerConfig,
    closed: &HashSet<Name>,
    id: &str,
) -> Option<Explanation> {
    let job = view.jobs.get(id)?;
    Some(cycle(view, now, config, closed, |cycle| {
        let (key, survey) = (Key::of_job(job), cycle.survey);
        let queue = place(job, &cycle, config.algorithm);
        let clouds = clouds(view, now, config, job, &cycle);
        let limiter = limiter(view, job, &cycle);
        let failed = |failure: &pileus_model::BootFailure| FailedBoot {
            cloud: failure.cloud.clone(),
            fault: failure.fault,
            detail: failure.detail.clone(),
            ago_s: now.since(failure.at).as_secs(),
        };
        Explanation {
            job: job.id.clone(),
            state: job.state,
            why: why(job, &cycle, queue, limiter),
            remedy: limiter.and_then(|reason| remedy(view, config, job, reason, &clouds)),
            seq: view.seq,
            clouds,
            queue,
            share: share(&cycle, key),
            user_vms: Bounded {
                now: u64::from(survey.user_vms.get(&key.owner()).copied().unwrap_or(0)),
                limit: view.user_limit(&job.project, &job.user).map(u64::from),
            },
            type_vms: Bounded {
                now: u64::from(survey.held.get(&key).map_or(0, |held| held.vms)),
                limit: survey.type_limits.get(&key).map(|limit| u64::from(*limit)),
            },
            starting_vms: Bounded {
                now: view.vms.values().filter(|vm| vm.state == VmState::Starting).count() as u64,
                limit: config.max_starting_vms.map(u64::from),
            },
            failures: job.failures.iter().map(failed).collect(),
            banned_for_s: job
                .banned_until
                .filter(|until| *until > now)
                .map(|until| until.since(now).as_secs()),
        }
    }))
}

/// Where the job stands among those that want a VM booted.
fn place(job: &Job, cycle: &Cycle<'_, '_>, algorithm: Algorithm) -> Option<QueuePlace> {
    let queues = &cycle.survey.queues;
    let queue = queues.iter().find(|queue| queue.key == Key::of_job(job))?;
    let position = queue.jobs().position(|waiting| waiting.job.id == job.id)?;
    let (of, before, length) = match algorithm {
        Algorithm::Fairshare => (QueueOf::UserAndType, position, queue.len()),
        Algorithm::Fifo => {
            let all = InOrder::of(queues.iter().flat_map(|queue| &queue.lanes).copied());
            let before = all.take_while(|waiting| waiting.job.id != job.id).count();
            (QueueOf::Everybody, before, queues.iter().map(Queue::len).sum())
        }
    };
    Some(QueuePlace { of, position: before as u64 + 1, length: length as u64 })
}

/// Cause that keeps the job from a VM: found for it, or for the first job of its queue.
fn limiter<'c>(view: &'c View, job: &'c Job, cycle: &'c Cycle<'_, '_>) -> Option<&'c str> {
    if job.state != JobState::New {
        return None;
    }
    if let Some(Found::Waits(reason)) = cycle.found(&job.id) {
        return Some(reason);
    }
    let survey = cycle.survey;
    // Jobs of the lane before its first one get VMs that are there.
    let alike = |lane: &Lane<'_>| lane.ids.contains(&*job.id) && job.id >= lane.first.job.id;
    if let Some((_, reason)) = survey.hopeless.iter().find(|(lane, _)| alike(lane)) {
        return Some(reason);
    }
    let queue = survey.queues.iter().find(|queue| queue.key == Key::of_job(job))?;
    queue.lanes.iter().any(alike).then_some(())?;
    match cycle.found(&queue.lanes[0].first.job.id) {
        Some(Found::Waits(reason)) if !reason.starts_with(HOLDS) => Some(reason),
        _ => view.reason_of(job),
    }
}

fn why(job: &Job, cycle: &Cycle<'_, '_>, place: Option<QueuePlace>, limiter: Option<&str>) -> String {
    let why = why_of_state(job, cycle, place, limiter);
    match job.setback.as_ref().filter(|_| !job.state.is_final()) {
        Some(setback) => format!("{why} Before that, {setback}."),
        None => why,
    }
}

fn why_of_state(
    job: &Job,
    cycle: &Cycle<'_, '_>,
    place: Option<QueuePlace>,
    limiter: Option<&str>,
) -> String {
    let with = |text: &str| match &job.reason {
        Some(reason) => format!("{text}: {reason}"),
        None => text.to_owned(),
    };
    match job.state {
        JobState::Scheduled if cycle.survey.orphans.iter().any(|orphan| orphan.id == job.id) => {
            "The VM that was booted for it is gone: it will wait again.".into()
        }
        JobState::Scheduled => "A VM was booted for it, and will take it once it has called home.".into(),
        JobState::Running => {
            format!("It runs on VM {}.", job.vm.as_deref().unwrap_or("that is not known"))
        }
        JobState::Complete => "It ran to its end.".into(),
        JobState::Held => with("It is held until somebody releases it"),
        JobState::Removed => "It was removed.".into(),
        JobState::Error => with("It cannot run"),
        JobState::New => match (cycle.found(&job.id), place) {
            (Some(Found::Boots(cloud)), _) => format!("A VM is booted for it next, on {cloud}."),
            (Some(Found::Waits(reason)), _) => format!("It waits: {reason}."),
            (None, Some(QueuePlace { of, position, length })) if position > 1 => {
                let whose = match of {
                    QueueOf::UserAndType => "jobs of its user and type",
                    QueueOf::Everybody => "jobs",
                };
                let before = position - 1;
                match limiter {
                    Some(reason) if reason != BEHIND && reason != NEXT => {
                        format!(
                            "It waits for its turn: {before} of {length} {whose} go before it, and {reason}."
                        )
                    }
                    _ => format!("It waits for its turn: {before} of {length} {whose} go before it."),
                }
            }
            (None, None) if limiter.is_some_and(|reason| reason != BEHIND && reason != NEXT) => {
                format!("It waits: {}.", limiter.unwrap_or_default())
            }
            (None, Some(_)) => "It waits for its turn.".into(),
            (None, None) => "A VM of its user and type that idles or boots will take it.".into(),
        },
    }
}

/// The smallest change that would start the job, by what limits it.
fn remedy(
    view: &View,
    config: &SchedulerConfig,
    job: &Job,
    reason: &str,
    clouds: &[CloudTest],
) -> Option<String> {
    let failed = |test: &str| clouds.iter().find(|cloud| cloud.failed == Some(test));
    let named = |test: &str, change: &str| failed(test).map(|it| format!("{change} {}.", it.cloud));
    let room = || {
        let needs = Needs::of(job);
        let of = |it: &CloudTest| view.clouds.get(&it.cloud).map(|cloud| cloud.free());
        let memory = failed("memory_free").and_then(|it| {
            let more = needs.memory_mib.saturating_sub(of(it)?.memory_mib);
            Some(format!("Free or add {more} MiB of memory on cloud {}.", it.cloud))
        });
        let storage = failed("storage_free").and_then(|it| {
            let more = needs.storage_gib.saturating_sub(of(it)?.storage_gib);
            Some(format!("Free or add {more} GiB of storage on cloud {}.", it.cloud))
        });
        named("slots_free", "Allow one more VM on cloud").or(memory).or(storage)
    };
    if reason.starts_with(USER_LIMIT) {
        let limit = view.user_limit(&job.project, &job.user).map_or(1, |limit| limit.saturating_add(1));
        return Some(format!("Raise the limit of user {} to {limit} VMs.", job.user));
    }
    if reason.starts_with(TYPE_LIMIT) {
        return Some("Raise or leave out `user_type_limit` in the user's jobs of this type.".into());
    }
    match reason {
        BOOTING => config.max_starting_vms.map(|most| {
            format!("Raise `max_starting_vms` to {}, or wait until a VM has booted.", most.saturating_add(1))
        }),
        FULL | HELD | AHEAD | OLDER | BEHIND => room(),
        reason if reason.starts_with(HOLDS) => room(),
        HIGH | SHARE => Some("Submit it with `high_priority`, or wait for the jobs before it.".into()),
        CLOSED => named("answers", "Repair what fails (see the errors of the cloud): cloud"),
        DISABLED | DRAINED => named("enabled", "Enable cloud").or(named("draining", "Enable cloud")),
        NO_CLOUD => Some("Configure a cloud.".into()),
        NO_TARGET => Some("Submit it with target clouds that exist, or with none.".into()),
        BLOCKED | BANNED => Some("Repair its image or its target clouds (see its failed boots).".into()),
        TOO_LARGE => {
            let sizes = ["cpu_cores", "vm_memory", "memory", "storage", "slots"];
            let it = sizes.iter().find_map(|test| failed(test))?;
            let detail = it.detail.as_deref().unwrap_or_default();
            Some(format!("Submit it smaller, or enlarge cloud {}: {detail}.", it.cloud))
        }
        _ => None,
    }
}

fn clouds(
    view: &View,
    now: Time,
    config: &SchedulerConfig,
    job: &Job,
    cycle: &Cycle<'_, '_>,
) -> Vec<CloudTest> {
    let (needs, mut targets) = (Needs::of(job), Targets::new(view));
    let which = targets.of(&job.target_clouds);
    let boots = Barred::at(now, view, &targets, config).but_for(job, which, &mut targets);
    let blocked = |room: &Room<'_>| {
        let until = job.blocked_clouds.iter().find(|it| it.cloud == room.cloud.name && it.until > now);
        match until {
            Some(it) => {
                format!(
                    "VMs of the job did not come up here, for {} s more it is passed over",
                    it.until.since(now).as_secs()
                )
            }
            None => "VMs of the job's image did not come up here, too often".to_owned(),
        }
    };
    let held_at = |place| cycle.reservation().filter(|it| it.place == place && it.waiting.job.id != job.id);
    // As it is now, before anything else that the cycle would boot.
    let test = |(place, room): (usize, &Room<'_>)| {
        let failed = if !targets.allow(which, place) {
            Some(("target", "none of the job's target clouds".to_owned()))
        } else if !targets.allow(boots, place) {
            Some(("blocked", blocked(room)))
        } else if let Some(unfit) = room.unfit(&needs) {
            Some(said(unfit, room, &needs))
        } else if !job.high_priority && cycle.is_reserved(place) {
            Some(("reserved", "high-priority jobs wait for it".to_owned()))
        } else {
            let held = |id: &str| format!("room is held for job {id}, which goes before it");
            held_at(place).map(|it| ("held", held(&it.waiting.job.id)))
        };
        let (failed, detail) = failed.unzip();
        CloudTest { cloud: room.cloud.name.clone(), fits: failed.is_none(), failed, detail }
    };
    cycle.survey.rooms.iter().enumerate().map(test).collect()
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
        Unfit::VmMemory => {
            let (wants, has) = (needs.memory_mib, cloud.spec.max_vm_memory_mib.unwrap_or_default());
            ("vm_memory", format!("the job wants {wants} MiB of memory, its largest VM has {has} MiB"))
        }
        Unfit::Memory => ("memory", more("memory", needs.memory_mib, cloud.spec.memory_mib, " MiB")),
        Unfit::Storage => ("storage", more("storage", needs.storage_gib, cloud.spec.storage_gib, " GiB")),
        Unfit::Slots => ("slots", "it may have no VM at all".into()),
        Unfit::Disabled if cloud.draining => {
            ("draining", "it is being drained; `enable` of the cloud ends that".into())
        }
        Unfit::Disabled => ("enabled", "it is disabled".into()),
        Unfit::Closed => {
            ("answers", "it failed to take VMs, or they failed; it is left alone for a while".into())
        }
        Unfit::SlotsFree => ("slots_free", format!("all of its {} slots are taken", cloud.vm_slots())),
        Unfit::MemoryFree => ("memory_free", more("free memory", needs.memory_mib, free.memory_mib, " MiB")),
        Unfit::StorageFree => {
            ("storage_free", more("free storage", needs.storage_gib, free.storage_gib, " GiB"))
        }
    }
}

fn share(cycle: &Cycle<'_, '_>, key: Key<'_>) -> Option<Share> {
    let shares = &cycle.shares;
    let (current, desired) = (shares.current.get(&key), shares.desired.get(&key));
    if current.is_none() && desired.is_none() && !cycle.survey.queues.iter().any(|queue| queue.key == key) {
        return None;
    }
    if shares.current.is_empty() && shares.desired.is_empty() {
        return None;
    }
    #[allow(clippy::cast_precision_loss, reason = "a billionth is nothing to people")]
    let part = |share: Billionths| share as f64 / ALL as f64;
    Some(Share {
        current: part(current.copied().unwrap_or(0)),
        desired: part(desired.copied().unwrap_or(0)),
        // Neither VMs nor a share: its user's share is spent on another type.
        diff: part(shares.diff.get(&key).copied().unwrap_or(ALL)),
    })
}

#[cfg(test)]
mod tests {
    use pileus_model::{BlockedCloud, BootFailure, BootFault, Cloud, CloudSpec, Kind, Vm};

    use super::*;
    use crate::testing::{self, cloud, happen, idle_vm, job, spec, vm};

    fn told(view: &View, closed: &[&str], id: &str) -> Explanation {
        let closed = closed.iter().map(|&name| name.into()).collect();
        let config = SchedulerConfig { max_starting_vms: Some(9), ..Default::default() };
        explain(view, Time(5000), &config, &closed, id).expect("a job")
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
            Cloud { draining: true, ..with("drained", spec(2)) },
            with("silent", spec(2)),
            with("full", spec(1)),
            with("no-memory", CloudSpec { memory_mib: 150, ..spec(5) }),
            with("no-storage", CloudSpec { storage_gib: 1, ..spec(5) }),
            with("small-vms", CloudSpec { max_vm_memory_mib: Some(99), ..spec(5) }),
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
                ("drained", Some("draining")),
                ("silent", Some("answers")),
                ("full", Some("slots_free")),
                ("no-memory", Some("memory_free")),
                ("no-storage", Some("storage_free")),
                ("small-vms", Some("vm_memory")),
            ]
        );
        assert_eq!(it.clouds[2].detail.as_deref(), Some("the job wants 2 cores, its largest VM has 1"));
        let memory = it.clouds[10].detail.as_deref();
        assert_eq!(memory, Some("the job wants 100 MiB of free memory, 50 MiB are there"));
        assert_eq!(it.why, "A VM is booted for it next, on fits.");
        assert!(it.clouds[0].fits && it.clouds[0].detail.is_none());
        assert_eq!(explain(&view, Time(0), &SchedulerConfig::default(), &HashSet::new(), "x"), None);
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
            (
                "3",
                "It waits for its turn: 1 of 2 jobs of its user and type go before it, and every cloud that could run it is full.",
            ),
            ("4", "It waits: it goes next, room is held for it as it frees on cloud a."),
            ("5", "It is held until somebody releases it: later"),
        ];
        for (id, wanted) in cases {
            assert_eq!(told(&view, &[], id).why, wanted, "job {id}");
        }
        let third = told(&view, &[], "3");
        assert_eq!(third.queue, Some(QueuePlace { of: QueueOf::UserAndType, position: 2, length: 2 }));
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

    #[test]
    fn every_waiting_job_has_a_reason_and_a_change_that_would_start_it() {
        let limited = || Job { user_type_limit: Some(2), ..job("0") };
        let of = |job: Job| (0..5).map(move |at| Job { id: at.to_string().into(), ..job.clone() });
        let with = |spec: CloudSpec| Cloud { spec, ..cloud("a", 0) };
        let starting = |id: &str| Vm { user: "bob".into(), ..vm(id, "a") };
        let room = "every cloud that could run it is full";
        // state, the five jobs, cloud, limit of the user, VMs; reason of the last one, its remedy
        type Case<'a> = (&'a str, Job, Cloud, Option<u32>, Vec<Vm>, &'a str, &'a str);
        let cases: [Case<'_>; 10] = [
            (
                "an administrator's limit",
                job("0"),
                cloud("a", 9),
                Some(0),
                vec![],
                "its user has reached the limit of 0 VMs",
                "Raise the limit of user alice to 1 VMs.",
            ),
            (
                "the user's own limit",
                limited(),
                cloud("a", 9),
                None,
                ["v", "w"].map(|id| Vm { job: Some("x".into()), ..idle_vm(id, "a") }).to_vec(),
                "its user's own limit for its type of VM is reached: 2 VMs",
                "Raise or leave out `user_type_limit` in the user's jobs of this type.",
            ),
            (
                "no slot",
                job("0"),
                cloud("a", 1),
                None,
                vec![Vm { job: Some("x".into()), ..idle_vm("v", "a") }],
                room,
                "Allow one more VM on cloud a.",
            ),
            (
                "no memory",
                job("0"),
                with(CloudSpec { memory_mib: 150, ..spec(9) }),
                None,
                vec![Vm { job: Some("x".into()), ..idle_vm("v", "a") }],
                room,
                "Free or add 50 MiB of memory on cloud a.",
            ),
            (
                "disabled",
                job("0"),
                with(CloudSpec { enabled: false, ..spec(9) }),
                None,
                vec![],
                "every cloud that could run it is disabled",
                "Enable cloud a.",
            ),
            (
                "too large",
                Job { memory_mib: 900, ..job("0") },
                with(CloudSpec { memory_mib: 800, ..spec(9) }),
                None,
                vec![],
                "no cloud where it may run is large enough",
                "Submit it smaller, or enlarge cloud a: the job wants 900 MiB of memory, 800 MiB are there.",
            ),
            (
                "no target",
                Job { target_clouds: vec!["x".into()], ..job("0") },
                cloud("a", 9),
                None,
                vec![],
                "none of its target clouds exists",
                "Submit it with target clouds that exist, or with none.",
            ),
            (
                "as many boot as may",
                job("0"),
                cloud("a", 9),
                None,
                vec![starting("v"), starting("w")],
                "as many VMs as allowed are booting",
                "Raise `max_starting_vms` to 3, or wait until a VM has booted.",
            ),
            (
                "the room is held for the first one",
                job("0"),
                cloud("a", 1),
                None,
                vec![Vm { user: "bob".into(), job: Some("x".into()), ..idle_vm("v", "a") }],
                BEHIND,
                "Allow one more VM on cloud a.",
            ),
            ("its turn comes", job("0"), cloud("a", 9), None, vec![], BEHIND, ""),
        ];
        for (what, like, cloud, limit, vms, reason, remedy) in cases {
            let mut view = testing::view([cloud]);
            testing::add(&mut view, of(like), vms);
            let limit = limit.map(|vms| Kind::UserLimit { user: "alice".into(), vms: Some(vms) });
            happen(&mut view, Time(0), limit);
            let config = SchedulerConfig { max_starting_vms: Some(2), ..Default::default() };
            let boots = plan_once(&mut view, &config);
            assert_eq!(boots, usize::from(what == "its turn comes"), "{what}: VMs that boot");
            for job in view.jobs.values().filter(|job| job.state == JobState::New) {
                assert!(view.reason_of(job).is_some(), "{what}: job {} has a reason", job.id);
            }
            assert_eq!(view.reason_of(&view.jobs["4"]), Some(reason), "{what}");
            let it = explain(&view, Time(0), &config, &HashSet::new(), "4").expect("a job");
            assert_eq!(it.remedy.unwrap_or_default(), remedy, "{what}");
            assert!(reason == BEHIND || it.why.contains(reason), "{what}: {}", it.why);
        }
    }

    /// Writes the reasons of one cycle; answers with the number of VMs that it would boot.
    fn plan_once(view: &mut View, config: &SchedulerConfig) -> usize {
        let mut boots = 0;
        for intent in crate::schedule::plan::plan(view, Time(0), config) {
            match intent {
                crate::Intent::Boot { .. } => boots += 1,
                crate::Intent::Reason { job, reason } => {
                    happen(view, Time(0), [Kind::JobReason { job, reason }]);
                }
            }
        }
        boots
    }

    #[test]
    fn boots_that_failed_are_told() {
        let failure = |cloud: &str, at| BootFailure {
            fault: BootFault::NotBooted,
            detail: "it did not boot within 600 s".into(),
            cloud: cloud.into(),
            at: Time(at),
        };
        let blocked = |cloud: &str, until| BlockedCloud { cloud: cloud.into(), until: Time(until) };
        let mut view = testing::view([cloud("a", 2), cloud("b", 2), cloud("c", 2)]);
        let unlucky = Job {
            failures: vec![failure("a", 1000), failure("b", 2000)],
            blocked_clouds: vec![blocked("a", 4000), blocked("b", 9000)],
            ..job("1")
        };
        let banned = Job { user: "bob".into(), banned_until: Some(Time(65_000)), ..job("2") };
        testing::add(&mut view, [unlucky, banned], []);
        let it = told(&view, &[], "1");
        let tests: Vec<_> = it.clouds.iter().map(|test| (test.fits, test.failed)).collect();
        assert_eq!(tests, [(true, None), (false, Some("blocked")), (true, None)]);
        let detail = "VMs of the job did not come up here, for 4 s more it is passed over";
        assert_eq!(it.clouds[1].detail.as_deref(), Some(detail));
        assert_eq!(
            it.failures.iter().map(|it| (&*it.cloud, it.ago_s)).collect::<Vec<_>>(),
            [("a", 4), ("b", 3)]
        );
        let it = told(&view, &[], "2");
        assert_eq!((it.banned_for_s, it.queue), (Some(60), None));
        assert_eq!(it.why, "It waits: its VMs did not come up, too often: it is tried again later.");
    }

    #[test]
    fn the_first_come_stand_in_one_queue() {
        let config = SchedulerConfig { algorithm: Algorithm::Fifo, ..Default::default() };
        let mut view = testing::view([cloud("a", 1)]);
        let other = |id| Job { user: "bob".into(), priority: 9, ..job(id) };
        testing::add(&mut view, [job("1"), other("2"), Job { user_type_limit: Some(4), ..job("3") }], []);
        let it = explain(&view, Time(0), &config, &HashSet::new(), "3").expect("a job");
        assert_eq!(it.queue, Some(QueuePlace { of: QueueOf::Everybody, position: 3, length: 3 }));
        assert_eq!(it.why, "It waits for its turn: 2 of 3 jobs go before it.");
        assert_eq!((it.share, it.type_vms), (None, Bounded { now: 0, limit: Some(4) }));
    }

    /// Whatever happens, what is explained is what the scheduler does and says.
    #[test]
    fn it_tells_no_other_story_than_the_plan() {
        use crate::{Intent, plan, simulation::Simulation};
        let (mut boots, mut reasons) = (0, 0);
        for seed in 0..20 {
            let mut simulation = Simulation::new(seed);
            let algorithm = if seed % 3 == 0 { Algorithm::Fifo } else { Algorithm::Fairshare };
            let config = SchedulerConfig { algorithm, ban_tracking: true, ..simulation.config().clone() };
            for _ in 0..60 {
                simulation.step();
                let (view, now) = (simulation.view(), simulation.now());
                for intent in plan(view, now, &config) {
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
                    let it = explain(view, now, &config, &HashSet::new(), job).expect("a job");
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
