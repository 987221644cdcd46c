//! The worked example of the reference (section 3.9), and what keeps it calm.

use pileus_model::{Cloud, Job, JobState, Kind, Override};

use super::*;
use crate::{
    change::settle,
    ids::Ids,
    schedule::{assign::assign, cleanup::cleanup, plan},
    testing::{self, cloud, happen, idle_vm, job, vm},
};

fn key(text: &'static str) -> Key<'static> {
    let (user, vm_type) = text.split_once(':').unwrap();
    Key { project: "p", user, vm_type }
}

fn jobs(count: usize, user: &str, vm_type: &str) -> Vec<Job> {
    let of = |at: usize| Job {
        user: user.into(),
        vm_type: vm_type.into(),
        ..job(&format!("{user}-{vm_type}-{at:05}"))
    };
    (0..count).map(of).collect()
}

/// VMs that run jobs of this user, as many as told.
fn busy(view: &mut View, count: usize, user: &str, vm_type: &str, cloud: &str) {
    for at in 0..count {
        let (id, on) =
            (format!("0-{user}-{vm_type}-{cloud}-{at:05}"), format!("{cloud}-{user}-{vm_type}-{at:05}"));
        let it = Job { user: user.into(), vm_type: vm_type.into(), ..job(&id) };
        let vm = Vm { user: user.into(), vm_type: vm_type.into(), ..idle_vm(&on, cloud) };
        testing::add(view, [it], [vm]);
        let started = Kind::JobStarted { job: id.into(), vm: on.into() };
        happen(view, Time(i64::try_from(at).unwrap() * 1000), [started]);
    }
}

/// What happens at `now`: `give up` and `destroy`, with who it is.
fn told(view: &View, config: &SchedulerConfig) -> Vec<String> {
    let changes = rebalance(view, Time(1_000_000), config, &Default::default()).into_iter();
    let told = changes.map(|change| match change {
        Change::GiveUp { seen } => format!("give up {}", seen.id),
        Change::Destroy { seen, .. } => format!("destroy {}", seen.id),
        other => format!("{other:?}"),
    });
    told.collect()
}

fn settle_all(view: &mut View, changes: Vec<Change>, now: Time, ids: &mut Ids) {
    for change in changes {
        let kinds = settle(view, change, now, ids, &SchedulerConfig::default()).unwrap().kinds;
        happen(view, now, kinds);
    }
}

#[test]
fn the_worked_example_retires_half_once_and_without_force() {
    let mut view = testing::view([cloud("c", 10)]);
    busy(&mut view, 10, "alice", "t1", "c");
    testing::add(&mut view, [jobs(20, "alice", "t1"), jobs(20, "bob", "t2")].concat(), []);
    let config = SchedulerConfig::default();
    let changes = rebalance(&view, Time(0), &config, &Default::default());
    assert_eq!(changes.len(), 5);
    settle_all(&mut view, changes, Time(0), &mut Ids::default());
    let retiring: Vec<_> =
        view.vms.values().filter(|vm| vm.override_state == Some(Override::Retiring)).collect();
    assert_eq!(retiring.len(), 5);
    assert!(retiring.iter().all(|vm| !vm.force_retire && vm.job.is_some()), "{retiring:?}");
    assert_eq!(told(&view, &config), [""; 0], "nothing in the second cycle");
}

#[test]
fn rounding_gives_nothing_away() {
    let mut view = testing::view([cloud("c", 4)]);
    busy(&mut view, 4, "alice", "t", "c");
    let waiting = [jobs(5, "alice", "t"), jobs(1, "bob", "t"), jobs(10, "carol", "t")].concat();
    testing::add(&mut view, waiting, []);
    // Two and two thirds of four are above her share, which is three; but bob and carol lack one each.
    assert_eq!(told(&view, &SchedulerConfig::default()).len(), 2);
}

#[test]
fn what_cannot_be_used_is_spread_over_the_others() {
    let of = |held: &[(&'static str, u32)]| -> BTreeMap<_, _> {
        held.iter().map(|(of, vms)| (key(of), Held { vms: *vms, ..Held::default() })).collect()
    };
    let diff =
        BTreeMap::from([(key("alice:t"), ALL * 2 / 3), (key("bob:t"), -ALL / 3), (key("carol:t"), -ALL / 3)]);
    let queued = BTreeMap::from([(key("bob:t"), 1), (key("carol:t"), 10)]);
    let wanted = BTreeMap::from([(key("alice:t"), 6), (key("bob:t"), -1), (key("carol:t"), -4)]);
    assert_eq!(changes(&diff, &of(&[("alice:t", 10)]), &queued), wanted);
    let lonely = BTreeMap::from([(key("alice:t"), ALL / 2), (key("bob:t"), -ALL / 2)]);
    let queued = BTreeMap::from([(key("bob:t"), 1)]);
    let wanted = BTreeMap::from([(key("alice:t"), 1), (key("bob:t"), -1)]);
    assert_eq!(changes(&lonely, &of(&[("alice:t", 10)]), &queued), wanted);
}

#[test]
fn nothing_is_given_up_in_vain() {
    type Spoil = fn(&mut View, &mut SchedulerConfig);
    fn limit(view: &mut View, user: &str, vms: u32) {
        happen(view, Time(0), [Kind::UserLimit { user: user.into(), vms: Some(vms) }]);
    }
    fn bobs(view: &mut View, change: impl Fn(&mut Job)) {
        for mut it in jobs(20, "bob", "t2") {
            change(&mut it);
            testing::add(view, [it], []);
        }
    }
    // what it shows, what is different, how many go
    let cases: [(&str, Spoil, usize); 13] = [
        ("as in the worked example", |_, _| (), 5),
        ("switched off", |_, config| config.rebalance = false, 0),
        (
            "a slot is free",
            |view, _| happen(view, Time(0), [Kind::CloudSlots { cloud: "c".into(), vm_slots: 11 }]),
            0,
        ),
        (
            "another cloud is free",
            |view, _| {
                happen(view, Time(0), [Kind::CloudSet(Cloud { order: 1, ..cloud("d", 1) })]);
            },
            0,
        ),
        (
            "a disabled cloud is free",
            |view, _| {
                happen(
                    view,
                    Time(0),
                    [Kind::CloudSet(Cloud { order: 1, enabled_by_admin: Some(false), ..cloud("d", 1) })],
                );
            },
            5,
        ),
        ("bob is at his limit", |view, _| limit(view, "bob", 0), 0),
        ("bob may have two", |view, _| limit(view, "bob", 2), 2),
        ("bob may have two of this type", |view, _| bobs(view, |job| job.user_type_limit = Some(2)), 2),
        (
            "bob's jobs are too large for one VM's room",
            |view, _| bobs(view, |job| job.memory_mib = 999_500),
            0,
        ),
        ("bob may not run there", |view, _| bobs(view, |job| job.target_clouds = vec!["x".into()]), 0),
        (
            "bob is barred there",
            |view, _| {
                bobs(view, |job| {
                    let until = Time(2_000_000);
                    job.blocked_clouds = vec![pileus_model::BlockedCloud { cloud: "c".into(), until }];
                })
            },
            0,
        ),
        ("bob is not waiting", |view, _| bobs(view, |job| job.state = JobState::Held), 0),
        (
            "the cloud has more VMs than slots",
            |view, _| {
                happen(view, Time(0), [Kind::CloudSlots { cloud: "c".into(), vm_slots: 9 }]);
            },
            0,
        ),
    ];
    for (what, spoil, wanted) in cases {
        let mut view = testing::view([cloud("c", 10)]);
        let mut config = SchedulerConfig::default();
        busy(&mut view, 10, "alice", "t1", "c");
        testing::add(&mut view, [jobs(20, "alice", "t1"), jobs(20, "bob", "t2")].concat(), []);
        spoil(&mut view, &mut config);
        let told = told(&view, &config);
        assert_eq!(told.len(), wanted, "{what}: {told:?}");
    }
}

#[test]
fn what_costs_least_goes_first() {
    let mut view = testing::view([cloud("c", 8)]);
    busy(&mut view, 5, "alice", "t1", "c");
    let broken = Vm { state: VmState::Error, ..idle_vm("c-broken", "c") };
    testing::add(&mut view, [], [broken, vm("c-starting", "c"), idle_vm("c-idle", "c")]);
    testing::add(&mut view, [jobs(20, "alice", "t1"), jobs(20, "bob", "t2")].concat(), []);
    let config = SchedulerConfig::default();
    let goes = ["destroy c-broken", "destroy c-starting", "give up c-idle", "give up c-alice-t1-00000"];
    assert_eq!(told(&view, &config), goes);
    // At once, but only where little is lost: jobs that began in the last 997 s.
    let hard = SchedulerConfig { rebalance_lost_work_max_s: Some(997), ..config };
    let goes = ["destroy c-broken", "destroy c-starting", "destroy c-idle", "destroy c-alice-t1-00004"];
    assert_eq!(told(&view, &hard), goes);
}

#[test]
fn only_clouds_where_it_helps_are_touched() {
    let mut view = testing::view([cloud("c", 5), cloud("d", 5)]);
    busy(&mut view, 5, "alice", "t1", "c");
    busy(&mut view, 5, "alice", "t1", "d");
    let bobs = jobs(20, "bob", "t2").into_iter().map(|it| Job { target_clouds: vec!["d".into()], ..it });
    testing::add(&mut view, bobs, []);
    testing::add(&mut view, jobs(20, "alice", "t1"), []);
    let told = told(&view, &SchedulerConfig::default());
    assert!(told.len() == 5 && told.iter().all(|it| it.starts_with("give up d-")), "{told:?}");
}

#[test]
fn types_of_one_user_change_hands_for_a_higher_priority_alone() {
    for (priority, wanted) in [(0, 0), (1, 10)] {
        let mut view = testing::view([cloud("c", 10)]);
        busy(&mut view, 10, "alice", "t1", "c");
        // The older one, so that alice's whole share is this type's.
        let other = jobs(20, "alice", "a").into_iter().map(|it| Job { priority, ..it });
        testing::add(&mut view, other, []);
        testing::add(&mut view, jobs(20, "alice", "t1"), []);
        assert_eq!(told(&view, &SchedulerConfig::default()).len(), wanted, "priority {priority}");
    }
}

#[test]
fn what_would_be_wanted_back_is_given_slowly() {
    let mut view = testing::view([cloud("c", 4)]);
    busy(&mut view, 4, "alice", "t", "c");
    testing::add(&mut view, [jobs(9, "alice", "t"), jobs(9, "bob", "t")].concat(), []);
    let all: Vec<_> = view.vms.values().cloned().collect();
    let survey = Survey::new(&view, Time(0), &SchedulerConfig::default(), &Default::default());
    let (from, to) = (key("alice:t"), key("bob:t"));
    let swaps: Vec<_> = all.iter().map(|vm| Swap { class: Class::Busy, from, to, vm }).collect();
    // All four would leave alice with nothing, and two of them would be wanted back.
    assert_eq!(damped(swaps, &survey, &SchedulerConfig::default()).len(), 2);
}

#[test]
fn fifo_gives_up_what_nobody_ahead_needs() {
    let config = SchedulerConfig { algorithm: Algorithm::Fifo, ..SchedulerConfig::default() };
    let mut view = testing::view([cloud("c", 4)]);
    busy(&mut view, 2, "alice", "t1", "c");
    busy(&mut view, 2, "bob", "t2", "c");
    // Carol and bob are ahead; the look-ahead of four jobs does not reach alice's.
    let ahead = jobs(3, "carol", "t").into_iter().map(|it| Job { id: format!("1-{}", it.id).into(), ..it });
    let bobs = jobs(1, "bob", "t2").into_iter().map(|it| Job { id: format!("2-{}", it.id).into(), ..it });
    let last = jobs(9, "alice", "t1").into_iter().map(|it| Job { id: format!("3-{}", it.id).into(), ..it });
    testing::add(&mut view, ahead.chain(bobs).chain(last), []);
    assert_eq!(told(&view, &config), ["give up c-alice-t1-00000", "give up c-alice-t1-00001"]);
}

/// One slot, three users, and VMs that take longer to boot than the scheduler to think: each gets a turn.
#[test]
fn a_vm_that_boots_for_a_job_does_not_go_to_and_fro() {
    let settings = [
        SchedulerConfig::default(),
        SchedulerConfig { rebalance_lost_work_max_s: Some(120), ..SchedulerConfig::default() },
        SchedulerConfig { algorithm: Algorithm::Fifo, ..SchedulerConfig::default() },
        SchedulerConfig {
            algorithm: Algorithm::Fifo,
            rebalance_lost_work_max_s: Some(120),
            ..SchedulerConfig::default()
        },
    ];
    for config in settings {
        let mut view = testing::view([cloud("c", 1)]);
        let mut ids = Ids::default();
        testing::add(
            &mut view,
            [jobs(2, "alice", "t"), jobs(2, "bob", "t"), jobs(2, "carol", "t")].concat(),
            [],
        );
        for cycle in 0..60 {
            let now = Time(cycle * 60_000);
            let late = |since: Time, most_s| now.since(since) >= Duration::from_secs(most_s);
            for vm in view.vms.values().cloned().collect::<Vec<_>>() {
                let change = if vm.destroy.is_some() {
                    Change::Gone { vm: vm.id.clone() }
                } else if vm.registered.is_none() && late(vm.created, 200) {
                    Change::Registered { vm: vm.id.clone() }
                } else {
                    continue;
                };
                settle_all(&mut view, vec![change], now, &mut ids);
            }
            let running = |job: &&Arc<Job>| job.state == JobState::Running;
            let mut ended = view.jobs.values().filter(running);
            let ended = ended.find(|job| job.started.is_some_and(|at| late(at, 200)));
            let ended = ended.map(|job| job.id.clone());
            if let Some(job) = ended {
                happen(
                    &mut view,
                    now,
                    [Kind::JobFinished { job, exit: pileus_model::Exit::Code(0), times: None }],
                );
            }
            for intent in plan::plan(&view, now, &config) {
                if let plan::Intent::Boot { job, cloud } = intent {
                    settle_all(&mut view, vec![Change::Boot { job, cloud }], now, &mut ids);
                }
            }
            let pairs = assign(&view, config.algorithm).into_iter();
            let starts = pairs.map(|(job, vm)| Change::Start { job, vm }).collect();
            settle_all(&mut view, starts, now, &mut ids);
            let changes = cleanup(&view, now, &config);
            settle_all(&mut view, changes, now, &mut ids);
        }
        let left: Vec<_> = view.jobs.values().filter(|job| job.state != JobState::Complete).collect();
        assert!(left.is_empty(), "{:?} {:?}: {left:#?}", config.algorithm, config.rebalance_lost_work_max_s);
    }
}

#[test]
fn a_user_above_the_share_gives_up_what_only_boots() {
    let scheduled = |user: &str| {
        let of = |it: Job| Job { state: JobState::Scheduled, ..it };
        jobs(4, user, "t1").into_iter().map(of).collect::<Vec<_>>()
    };
    // how many boot for alice, who else waits, how many of hers go
    let cases =
        [(4, &["bob"][..], 2), (4, &["bob", "carol"], 2), (1, &["bob"], 0), (1, &["bob", "carol"], 0)];
    for (boots, others, wanted) in cases {
        let mut view = testing::view([cloud("c", boots)]);
        let vms = (0..boots).map(|at| vm(&format!("c-{at}"), "c"));
        let waiting = others.iter().flat_map(|user| jobs(9, user, "t"));
        testing::add(&mut view, scheduled("alice").into_iter().take(boots as usize).chain(waiting), vms);
        let told = told(&view, &SchedulerConfig::default());
        assert_eq!(told.len(), wanted, "{boots} {others:?}: {told:?}");
    }
}

/// A long life: jobs end one after the other, and shares come out even without a VM going to and fro.
#[test]
fn shares_come_out_even_and_stay_so() {
    let config = SchedulerConfig::default();
    let mut view = testing::view([cloud("c", 10)]);
    let mut ids = Ids::default();
    busy(&mut view, 10, "alice", "t1", "c");
    let waiting = [jobs(300, "alice", "t1"), jobs(150, "bob", "t2"), jobs(150, "bob", "t3")].concat();
    testing::add(&mut view, waiting, []);
    let mut booted = 0;
    for cycle in 0..100 {
        let now = Time(2_000_000 + cycle * 10_000);
        for intent in plan::plan(&view, now, &config) {
            if let plan::Intent::Boot { job, cloud } = intent {
                booted += 1;
                settle_all(&mut view, vec![Change::Boot { job, cloud }], now, &mut ids);
            }
        }
        let vms: Vec<_> = view.vms.values().cloned().collect();
        for vm in &vms {
            if vm.destroy.is_some() {
                settle_all(&mut view, vec![Change::Gone { vm: vm.id.clone() }], now, &mut ids);
            } else if vm.registered.is_none() {
                settle_all(&mut view, vec![Change::Registered { vm: vm.id.clone() }], now, &mut ids);
            }
        }
        let pairs = assign(&view, config.algorithm).into_iter();
        let starts = pairs.map(|(job, vm)| Change::Start { job, vm }).collect();
        settle_all(&mut view, starts, now, &mut ids);
        // The job that has run longest ends.
        let running = view.jobs.values().filter(|job| job.state == JobState::Running);
        let oldest = running.min_by_key(|job| (job.started, job.id.clone())).map(|job| job.id.clone());
        if let Some(job) = oldest {
            happen(
                &mut view,
                now,
                [Kind::JobFinished { job, exit: pileus_model::Exit::Code(0), times: None }],
            );
        }
        let changes = cleanup(&view, now, &config);
        settle_all(&mut view, changes, now, &mut ids);
        if cycle >= 60 {
            let alice = view.vms.values().filter(|vm| &*vm.user == "alice").count();
            assert!((4..=6).contains(&alice), "cycle {cycle}: {alice} of {}", view.vms.len());
        }
    }
    assert!(booted <= 20, "{booted} VMs were booted for ten slots and {} jobs", view.jobs.len());
}
