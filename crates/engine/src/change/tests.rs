//! What the engine's own changes become.

use pileus_model::{Event, Exit};

use super::*;
use crate::{
    state::{FILES, apply},
    testing::{self, cloud, idle_vm, job, spec, vm},
};

fn settled(view: &View, change: Change) -> Vec<Kind> {
    settle(view, change, Time(9), &mut Ids::default(), &SchedulerConfig::default()).unwrap().kinds
}

fn done(view: &mut View, by: &str, change: Change) -> usize {
    let kinds = settled(view, change);
    let count = kinds.len();
    for kind in kinds {
        let by = pileus_model::Actor { user: by.into(), ..Default::default() };
        let seq = view.seq + 1;
        apply(view, &Event { seq, time: Time(9), by, owner: Default::default(), kind });
    }
    count
}

#[test]
fn the_configured_clouds_are_brought_in() {
    let mut view = View::default();
    let configure = |view: &mut View, clouds: &[(&str, u32)]| {
        let clouds = clouds.iter().map(|(name, slots)| ((*name).to_owned(), spec(*slots))).collect();
        done(view, "", Change::Configure { clouds })
    };
    let order = |view: &View| -> Vec<String> {
        view.clouds_in_order().iter().map(|cloud| cloud.name.to_string()).collect()
    };
    configure(&mut view, &[("b", 1), ("A", 2)]);
    let api = Cloud { origin: Origin::Api, order: 2, ..cloud("api", 1) };
    testing::happen(&mut view, Time(0), [Kind::CloudSet(api)]);
    assert_eq!(order(&view), ["b", "A", "api"]);
    assert_eq!(configure(&mut view, &[("b", 1), ("A", 2)]), 0, "nothing new, nothing written");
    testing::happen(
        &mut view,
        Time(0),
        [
            Kind::CloudEnabled { cloud: "A".into(), enabled: false },
            Kind::CloudSlots { cloud: "A".into(), vm_slots: 7 },
        ],
    );
    testing::add(&mut view, [], [idle_vm("v", "A")]);
    configure(&mut view, &[("c", 1), ("a", 3), ("b", 1)]);
    assert_eq!(order(&view), ["c", "A", "b", "api"], "in another order, and under its first spelling");
    let a = &view.clouds["A"];
    assert_eq!((a.enabled(), a.vm_slots(), a.spec.vm_slots), (false, 7, 3), "what administrators said");
    assert_eq!(a.used.vm_slots, 1);
    configure(&mut view, &[("c", 1)]);
    assert_eq!(order(&view), ["c", "api", "A"], "an empty one goes at once, another drains");
    assert!(view.clouds["A"].retired && view.vms["v"].override_state.is_some());
    configure(&mut view, &[("c", 1), ("A", 2), ("api", 5)]);
    assert_eq!(order(&view), ["c", "A", "api"]);
    assert!(!view.clouds["A"].retired, "one that comes back is no longer retired");
    assert_eq!(view.clouds["api"].origin, Origin::File, "the file takes over what it names");
}

#[test]
fn the_files_have_the_last_word_on_what_they_name() {
    let mut view = View::default();
    let aliases = |view: &mut View, names: &[&str]| {
        let aliases = names.iter().map(|&name| (name.to_owned(), vec!["c".to_owned()])).collect();
        done(view, FILES, Change::Aliases { aliases })
    };
    testing::happen(&mut view, Time(0), [Kind::AliasSet { alias: "api".into(), clouds: vec![] }]);
    aliases(&mut view, &["a", "b"]);
    assert_eq!(aliases(&mut view, &["a", "b"]), 0);
    aliases(&mut view, &["b", "d"]);
    assert_eq!(view.aliases.keys().map(|name| &**name).collect::<Vec<_>>(), ["api", "b", "d"]);
    let limits = |view: &mut View, users: &[(&str, u32)]| {
        let limits = users.iter().map(|(user, vms)| ((*user).to_owned(), *vms)).collect();
        done(view, FILES, Change::UserLimits { limits })
    };
    testing::happen(&mut view, Time(0), [Kind::UserLimit { user: "api".into(), vms: Some(9) }]);
    limits(&mut view, &[("a", 1), ("b", 2)]);
    limits(&mut view, &[("b", 3)]);
    assert_eq!(limits(&mut view, &[("b", 3)]), 0);
    let now: Vec<_> = view.user_limits.iter().map(|(user, vms)| (&**user, *vms)).collect();
    assert_eq!(now, [("api", 9), ("b", 3)]);
}

#[test]
fn a_vm_is_booted_in_the_size_of_its_job_where_that_is_still_right() {
    let boot = || Change::Boot { job: "j".into(), cloud: "c".into() };
    let mut view = testing::view([cloud("c", 1)]);
    let big = Job { memory_mib: 77, storage_gib: 7, cpu_cores: 2, keep_alive_s: Some(1_000_000), ..job("j") };
    let big = Job { image: Some("centos".into()), ..big };
    testing::add(&mut view, [big, job("2")], []);
    let kinds = settled(&view, boot());
    let [Kind::VmRequested(vm), Kind::JobScheduled { job, vm: on }] = &kinds[..] else { panic!("{kinds:?}") };
    assert_eq!((vm.memory_mib, vm.storage_gib, vm.cpu_cores), (77, 7, 2));
    assert_eq!((&**job, on, vm.keep_alive_s), ("j", &vm.id, 3600), "the keep-alive is capped");
    assert_eq!(vm.image.as_deref(), Some("centos"), "as the job names it");
    assert!(vm.id.starts_with("c-"));
    done(&mut view, "", boot());
    assert_eq!(settled(&view, boot()), [], "it is scheduled already");
    let other = Change::Boot { job: "2".into(), cloud: "c".into() };
    assert_eq!(settled(&view, other), [], "there is no slot left");
    let mut view = testing::view([cloud("c", 9)]);
    testing::add(&mut view, [crate::testing::job("j")], [idle_vm("v", "c")]);
    testing::happen(&mut view, Time(0), [Kind::UserLimit { user: "alice".into(), vms: Some(1) }]);
    assert_eq!(settled(&view, boot()), [], "its user is at the limit");
}

#[test]
fn what_is_no_longer_true_changes_nothing() {
    let mut view = testing::view([cloud("c", 9)]);
    let held = Job { state: JobState::Held, ..job("held") };
    testing::add(&mut view, [held, job("new")], [idle_vm("v", "c"), vm("w", "c")]);
    let old = Arc::new(Vm { error_count: 3, ..idle_vm("v", "c") });
    let ended = End::Exited(Exit::Code(0));
    let seen = |state| Seen { state, hostname: String::new(), address: String::new(), lost: None };
    let cases = [
        Change::Start { job: "held".into(), vm: "v".into() },
        Change::Start { job: "new".into(), vm: "w".into() },
        Change::Unschedule { job: "new".into() },
        Change::Reason { job: "held".into(), reason: Some("r".into()) },
        Change::Reason { job: "new".into(), reason: None },
        Change::Retire { seen: old.clone() },
        Change::Destroy { seen: old, why: "w".into() },
        Change::Gone { vm: "x".into() },
        Change::Created { vm: "x".into(), handle: "h".into() },
        Change::Polled { vm: "x".into(), seen: seen(VmState::Error) },
        Change::Polled { vm: "v".into(), seen: seen(VmState::Starting) },
        Change::Finished {
            vm: "v".into(),
            job: "new".into(),
            result: Box::new(JobResult::new(ended, Output::default())),
        },
        Change::Forget { jobs: vec!["new".into(), "x".into()] },
        Change::CloudGone { cloud: "c".into() },
        Change::Shrink { cloud: "c".into() },
        Change::Registered { vm: "v".into() },
        Change::Found { job: Box::new(job("new")) },
    ];
    for change in cases {
        let shown = format!("{change:?}");
        assert_eq!(settled(&view, change), [], "{shown}");
    }
    let unknown = Change::Registered { vm: "x".into() };
    let answer = settle(&view, unknown, Time(0), &mut Ids::default(), &SchedulerConfig::default());
    assert!(matches!(answer, Err(Refusal::NotFound { kind: "VM", .. })));
}

#[test]
fn a_worker_that_calls_home_makes_its_vm_run() {
    let mut view = testing::view([cloud("c", 9)]);
    testing::add(&mut view, [], [vm("v", "c")]);
    done(&mut view, "", Change::Registered { vm: "v".into() });
    let it = &view.vms["v"];
    assert_eq!((it.state, it.registered, it.idle_since), (VmState::Running, Some(Time(9)), Some(Time(9))));
    assert_eq!(it.startup_s(), Some(0));
}

#[test]
fn a_vm_that_is_certainly_lost_is_given_up_at_once() {
    let lost = |lost: Option<&str>| Change::Polled {
        vm: "v".into(),
        seen: Seen {
            state: VmState::Error,
            hostname: String::new(),
            address: String::new(),
            lost: lost.map(Into::into),
        },
    };
    for (registered, faults) in [(None, 1), (Some(Time(0)), 0)] {
        let mut view = testing::view([cloud("c", 9)]);
        let machine = Vm { registered, booted_for: Some("j".into()), handle: "h".into(), ..vm("v", "c") };
        testing::add(&mut view, [job("j")], [machine]);
        done(&mut view, "", lost(None));
        assert_eq!((view.vms["v"].error_count, view.vms["v"].destroy.as_deref()), (1, None));
        done(&mut view, "", lost(Some("its worker has ended")));
        let it = &view.vms["v"];
        assert_eq!((it.error_count, it.destroy.as_deref()), (2, Some("its worker has ended")));
        assert_eq!(view.jobs["j"].failures.len(), faults, "a boot failed only where it never came up");
    }
}

#[test]
fn a_full_cloud_is_left_and_a_failing_one_given_time() {
    let mut view = testing::view([cloud("c", 9)]);
    testing::add(&mut view, [], [vm("v", "c")]);
    let failed = |full| Change::NotCreated { vm: "v".into(), error: "quota".into(), full };
    done(&mut view, "", failed(false));
    assert_eq!((view.vms["v"].error_count, view.vms["v"].destroy.clone()), (1, None));
    done(&mut view, "", failed(true));
    assert_eq!(view.vms["v"].destroy.as_deref(), Some("quota"));
    assert_eq!(settled(&view, failed(false)), [], "a VM that is to go did not fail, as it was not made");
}

#[test]
fn a_result_counts_for_the_vms_job_and_output_for_a_removed_one() {
    use JobState::{Complete, Removed, Running};
    let mut view = testing::view([cloud("c", 9)]);
    testing::add(&mut view, ["j", "gone", "moved"].map(job), [idle_vm("v", "c"), idle_vm("w", "c")]);
    let start = |job: &str, vm: &str| Kind::JobStarted { job: job.into(), vm: vm.into() };
    let removed = |job: &str| Kind::JobState { job: job.into(), state: Removed, reason: None };
    testing::happen(
        &mut view,
        Time(1),
        [start("gone", "v"), removed("gone"), start("moved", "w"), removed("moved")],
    );
    testing::happen(&mut view, Time(2), [start("j", "v")]);
    let result = |interrupted| JobResult {
        interrupted,
        ..JobResult::new(End::Exited(Exit::Code(3)), Output { stdout: b"x"[..].into(), ..Output::default() })
    };
    // job, VM, interrupted, its state afterwards, whether the output is kept
    let cases = [
        ("j", "v", true, Running, false),
        ("j", "w", false, Running, false),
        ("gone", "v", false, Removed, true),
        ("gone", "v", true, Removed, true),
        ("gone", "w", false, Removed, false),
        ("moved", "w", false, Removed, true),
        ("unknown", "v", false, Removed, false),
        ("j", "v", false, Complete, true),
    ];
    for (job, vm, interrupted, state, kept) in cases {
        let change =
            Change::Finished { vm: vm.into(), job: job.into(), result: Box::new(result(interrupted)) };
        let settled =
            settle(&view, change, Time(9), &mut Ids::default(), &SchedulerConfig::default()).unwrap();
        assert_eq!(settled.output.map(|(job, _)| job).as_deref(), kept.then_some(job), "{job} on {vm}");
        assert_eq!(settled.kinds.is_empty(), state != Complete, "{job} on {vm}");
    }
}

#[test]
fn a_job_ran_when_its_worker_says_within_what_the_server_saw() {
    let mut view = testing::view([cloud("c", 9)]);
    testing::add(&mut view, [job("j")], [idle_vm("v", "c")]);
    testing::happen(&mut view, Time(100), [Kind::JobStarted { job: "j".into(), vm: "v".into() }]);
    // Heard at 90 000. Times that the worker says, and those that count.
    let cases = [
        (Some((5000, 13_000)), (5000, 13_000)),
        (Some((0, 50)), (100, 100)),
        (Some((50, 95_000)), (100, 90_000)),
        (Some((96_000, 97_000)), (90_000, 90_000)),
        (Some((8000, 7000)), (7000, 7000)),
        (None, (100, 90_000)),
    ];
    let now = Time(90_000);
    for (said, (started, finished)) in cases {
        let times =
            said.map(|(started, finished)| RunTimes { started: Time(started), finished: Time(finished) });
        let result = JobResult { times, ..JobResult::new(End::Exited(Exit::Code(0)), Output::default()) };
        let change = Change::Finished { vm: "v".into(), job: "j".into(), result: Box::new(result) };
        let settled = settle(&view, change, now, &mut Ids::default(), &SchedulerConfig::default()).unwrap();
        let mut after = view.clone();
        testing::happen(&mut after, now, settled.kinds);
        let (it, vm) = (&after.jobs["j"], &after.vms["v"]);
        assert_eq!((it.started, it.finished), (Some(Time(started)), Some(Time(finished))), "{said:?}");
        let ran = u64::try_from((finished - started) / 1000).unwrap();
        assert_eq!((vm.idle_since, &*vm.job_runs_s), (Some(now), &[ran][..]), "{said:?}");
    }
}

/// A job on a VM of a cloud with room for more.
fn running_job(failed_starts: u32, breakages: u32) -> View {
    let mut view = testing::view([cloud("c", 9)]);
    let waiting = Job { breakages, ..job("j") };
    testing::add(&mut view, [waiting], [Vm { failed_starts, ..idle_vm("v", "c") }]);
    testing::happen(&mut view, Time(1), [Kind::JobStarted { job: "j".into(), vm: "v".into() }]);
    view
}

#[test]
fn a_fault_of_the_host_counts_against_the_vm_and_its_cloud() {
    let host = || End::HostFault("no space left".into());
    let job = || End::NotStarted("no such program".into());
    // Failed starts before; the end; then the job's state, failed starts, VM destroyed, cloud's failures.
    let cases = [
        (0, host(), JobState::New, 1, false, 0),
        (1, host(), JobState::New, 2, false, 0),
        (2, host(), JobState::New, 3, true, 1),
        (2, job(), JobState::Error, 2, false, 0),
        (2, End::Exited(Exit::Code(1)), JobState::Complete, 0, false, 0),
    ];
    for (before, end, state, failed, destroyed, jobless) in cases {
        let what = format!("{end:?} after {before}");
        let mut view = running_job(before, 0);
        let result = Box::new(JobResult::new(end, Output::default()));
        done(&mut view, "", Change::Finished { vm: "v".into(), job: "j".into(), result });
        let (vm, it) = (&view.vms["v"], &view.jobs["j"]);
        let health = view.health.get("c").map_or(0, |health| health.jobless);
        let got = (it.state, vm.failed_starts, vm.destroy.is_some(), health, vm.job.as_deref());
        assert_eq!(got, (state, failed, destroyed, jobless, None), "{what}");
        assert_eq!((it.attempts, it.breakages), (1, 0), "{what}");
    }
}

#[test]
fn only_vms_that_broke_count_against_a_job() {
    // Breakages before, the VM's state at its end; then the job's state and its breakages.
    let cases = [
        (0, VmState::Running, JobState::New, 0),
        (4, VmState::Running, JobState::New, 4),
        (0, VmState::Error, JobState::New, 1),
        (3, VmState::Shutdown, JobState::New, 4),
        (4, VmState::Error, JobState::Error, 5),
    ];
    for (before, state, ends, breakages) in cases {
        let mut view = running_job(0, before);
        let why = "it broke".to_owned();
        let vm = Name::from("v");
        let kinds = [Kind::VmState { vm: vm.clone(), state }, Kind::VmDestroy { vm: vm.clone(), why }];
        testing::happen(&mut view, Time(2), kinds);
        done(&mut view, "", Change::Gone { vm });
        let it = &view.jobs["j"];
        assert_eq!((it.state, it.breakages, it.attempts), (ends, breakages, 1), "{before} {state:?}");
    }
}

#[test]
fn a_cloud_whose_vms_fail_is_tried_with_one() {
    let failed = |image: Option<&str>| Kind::BootFailed {
        vm: "x".into(),
        job: None,
        image: image.map(Into::into),
        failure: BootFailure {
            fault: BootFault::NotRegistered,
            detail: String::new(),
            cloud: "c".into(),
            at: Time(0),
        },
        blocked_until: None,
        banned_until: None,
    };
    let registered = || Kind::VmRegistered { vm: "v".into() };
    let enabled = || Kind::CloudEnabled { cloud: "c".into(), enabled: true };
    let cases = [
        ("two failed", vec![failed(None), failed(None)], 2),
        ("three failed", vec![failed(None), failed(None), failed(None)], 1),
        ("one image fails", vec![failed(Some("i")), failed(Some("i")), failed(Some("i"))], 2),
        ("three images fail", vec![failed(Some("a")), failed(Some("b")), failed(Some("c"))], 1),
        ("one registered", vec![failed(None), failed(None), failed(None), registered()], 2),
        ("an administrator enables it", vec![failed(None), failed(None), failed(None), enabled()], 2),
    ];
    for (what, kinds, vms) in cases {
        let mut view = testing::view([cloud("c", 9)]);
        testing::add(&mut view, [job("j"), job("k")], []);
        if what == "one registered" {
            testing::add(&mut view, [], [vm("v", "c")]);
        }
        let before = view.vms.len();
        testing::happen(&mut view, Time(0), kinds);
        for id in ["j", "k"] {
            done(&mut view, "", Change::Boot { job: id.into(), cloud: "c".into() });
        }
        assert_eq!(view.vms.len() - before, vms, "{what}");
    }
}

#[test]
fn one_bad_job_closes_no_cloud_and_rests() {
    for (jobs, jobless) in [(["j", "j", "j"], 1), (["j", "k", "j"], 3), (["j", "j", "k"], 2)] {
        let mut view = testing::view([cloud("c", 9)]);
        testing::add(&mut view, [job("j"), job("k")], []);
        for (number, id) in jobs.into_iter().enumerate() {
            let vm = Name::from(format!("v{number}"));
            testing::add(&mut view, [], [Vm { failed_starts: 2, ..idle_vm(&vm, "c") }]);
            testing::happen(&mut view, Time(1), [Kind::JobStarted { job: id.into(), vm: vm.clone() }]);
            let result = Box::new(JobResult::new(End::HostFault("no space".into()), Output::default()));
            done(&mut view, "", Change::Finished { vm, job: id.into(), result });
            let it = &view.jobs[id];
            assert_eq!(it.banned_until, Some(Time(9).after(RETURNED_REST)), "{id}");
            assert!(it.setback.as_ref().is_some_and(|why| why.contains("no space")), "{:?}", it.setback);
        }
        assert_eq!(view.health["c"].jobless, jobless, "{jobs:?}");
    }
}

#[test]
fn a_limit_is_of_a_user_in_a_project() {
    // Limits; VMs of alice in `p` and in `q`; then whether another boots for her in `p`.
    type Limits = &'static [(&'static str, u32)];
    let cases: [(Limits, usize, usize, bool); 8] = [
        (&[], 3, 3, true),
        (&[("alice", 2)], 1, 3, true),
        (&[("alice", 2)], 2, 0, false),
        (&[("p/alice", 2)], 1, 0, true),
        (&[("p/alice", 2)], 2, 0, false),
        (&[("q/alice", 2)], 3, 3, true),
        (&[("alice", 2), ("p/alice", 4)], 3, 0, true),
        (&[("alice", 9), ("p/alice", 0)], 0, 0, false),
    ];
    for (limits, here, there, boots) in cases {
        let mut view = testing::view([cloud("c", 99)]);
        let of = |project: &str, number: usize| Vm {
            project: project.into(),
            ..idle_vm(&format!("{project}{number}"), "c")
        };
        let vms: Vec<_> = (0..here).map(|vm| of("p", vm)).chain((0..there).map(|vm| of("q", vm))).collect();
        testing::add(&mut view, [job("j")], vms);
        let limit = |(user, vms): &(&str, u32)| Kind::UserLimit { user: (*user).into(), vms: Some(*vms) };
        testing::happen(&mut view, Time(0), limits.iter().map(limit));
        let booted = done(&mut view, "", Change::Boot { job: "j".into(), cloud: "c".into() }) > 0;
        assert_eq!(booted, boots, "{limits:?} with {here} and {there}");
    }
}
