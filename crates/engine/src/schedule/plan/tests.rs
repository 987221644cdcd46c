//! What is done better here than in the reference. Its vectors stand in `vectors.rs`.

use std::collections::BTreeMap;

use pileus_model::{Cloud, CloudSpec, JobState, Kind, Vm};

use super::*;
use crate::{
    change::{Change, settle},
    ids::Ids,
    testing::{self, cloud, happen, idle_vm, job, vm},
};

/// A state in which cycles are run until nothing happens any more.
pub struct World {
    pub view: View,
    ids: Ids,
    pub config: SchedulerConfig,
    /// Who got a VM in each cycle, as `user:type@cloud`, sorted.
    pub cycles: Vec<Vec<String>>,
}

impl World {
    pub fn new(clouds: impl IntoIterator<Item = Cloud>, jobs: impl IntoIterator<Item = Job>) -> Self {
        let mut view = testing::view(clouds);
        testing::add(&mut view, jobs, []);
        Self { view, ids: Ids::default(), config: SchedulerConfig::default(), cycles: Vec::new() }
    }

    pub fn limit(mut self, user: &str, vms: u32) -> Self {
        happen(&mut self.view, Time(0), [Kind::UserLimit { user: user.into(), vms: Some(vms) }]);
        self
    }

    /// One cycle; VMs that boot take the job at once and keep it.
    pub fn cycle(&mut self) -> bool {
        let intents = plan(&self.view, Time(0), &self.config);
        let mut got = Vec::new();
        for intent in &intents {
            let change = match intent.clone() {
                Intent::Boot { job, cloud } => {
                    let it = &self.view.jobs[&job];
                    got.push(format!("{}:{}@{cloud}", it.user, it.vm_type));
                    Change::Boot { job, cloud }
                }
                Intent::Reason { job, reason } => Change::Reason { job, reason },
            };
            let settled = settle(&self.view, change, Time(0), &mut self.ids, &self.config).unwrap();
            assert!(!settled.kinds.is_empty(), "{intent:?} can be done");
            for kind in settled.kinds {
                if let Kind::JobScheduled { job, vm } = &kind {
                    happen(&mut self.view, Time(0), [Kind::JobStarted { job: job.clone(), vm: vm.clone() }]);
                } else {
                    happen(&mut self.view, Time(0), [kind]);
                }
            }
        }
        got.sort();
        self.cycles.push(got);
        !intents.is_empty()
    }

    pub fn run(mut self) -> Self {
        while self.cycle() {
            assert!(self.cycles.len() < 200, "it comes to an end");
        }
        self
    }

    /// VMs by user, or by whatever `of` says.
    pub fn vms<'a>(&'a self, of: impl Fn(&'a Vm) -> &'a str) -> BTreeMap<&'a str, usize> {
        let mut vms = BTreeMap::new();
        self.view.vms.values().for_each(|vm| *vms.entry(of(vm)).or_default() += 1);
        vms
    }

    pub fn reason(&self, job: &str) -> Option<&str> {
        self.view.jobs[job].reason.as_deref()
    }
}

pub fn jobs(count: usize, user: &str, vm_type: &str) -> Vec<Job> {
    let of = |at: usize| Job {
        user: user.into(),
        vm_type: vm_type.into(),
        ..job(&format!("{user}-{vm_type}-{at:05}"))
    };
    (0..count).map(of).collect()
}

pub fn priority(cloud: Cloud, priority: i64) -> Cloud {
    Cloud { spec: CloudSpec { priority, ..cloud.spec }, ..cloud }
}

#[test]
fn a_limit_holds_for_high_priority_too_and_in_each_project() {
    let high = |job| Job { high_priority: true, ..job };
    let elsewhere = |job: Job| Job { project: "q".into(), id: format!("q-{}", job.id).into(), ..job };
    let alice = jobs(5, "alice", "t1").into_iter();
    let waiting = alice.clone().map(high).chain(alice.map(elsewhere)).chain(jobs(5, "bob", "t1"));
    let world = World::new([cloud("c", 20)], waiting).limit("alice", 3).run();
    assert_eq!(world.vms(|vm| &vm.user), [("alice", 6), ("bob", 5)].into());
    assert_eq!(world.vms(|vm| &vm.project), [("p", 8), ("q", 3)].into());
}

#[test]
fn high_priority_holds_back_others_only_where_it_could_run() {
    let high = |targets: &[&str], id: &str| Job {
        user: "bob".into(),
        high_priority: true,
        target_clouds: targets.iter().map(|&name| name.into()).collect(),
        ..job(id)
    };
    // "full" has no room, so bob's job waits for it; alice may use "free" and nothing else.
    let mut view = testing::view([cloud("full", 1), cloud("free", 2)]);
    testing::add(&mut view, jobs(5, "alice", "t1"), [Vm { job: Some("x".into()), ..vm("v", "full") }]);
    testing::add(&mut view, [high(&["full"], "0")], []);
    let boots = plan(&view, Time(0), &SchedulerConfig::default());
    let boots: Vec<_> = boots.into_iter().filter(|intent| matches!(intent, Intent::Boot { .. })).collect();
    assert_eq!(boots, [Intent::Boot { job: "alice-t1-00000".into(), cloud: "free".into() }]);
    // One that could run anywhere, but has no room for its memory now, is not overtaken.
    let large = Job { memory_mib: 900_000, ..high(&[], "0") };
    let mut view = testing::view([cloud("c", 5)]);
    let used = Vm { memory_mib: 500_000, job: Some("x".into()), ..vm("v", "c") };
    testing::add(&mut view, jobs(5, "alice", "t1"), [used]);
    testing::add(&mut view, [large], []);
    let told = plan(&view, Time(0), &SchedulerConfig::default());
    let reason = |job: &str, why: &str| Intent::Reason { job: job.into(), reason: Some(why.into()) };
    assert_eq!(told, [reason("0", &format!("{HOLDS}c")), reason("alice-t1-00000", HIGH)]);
}

#[test]
fn nothing_boots_for_a_job_that_a_vm_will_take() {
    let small = || job("1");
    let large = || Job { memory_mib: 500, ..job("1") };
    let retiring = pileus_model::Override::Retiring;
    let cases = [
        ("none there", vec![small()], vec![], 1),
        ("idle", vec![small()], vec![idle_vm("v", "c")], 0),
        ("booting", vec![small()], vec![vm("v", "c")], 0),
        ("one for two", vec![small(), job("2")], vec![idle_vm("v", "c")], 1),
        ("two for two", vec![small(), job("2")], vec![idle_vm("v", "c"), vm("w", "c")], 0),
        ("busy", vec![small()], vec![Vm { job: Some("x".into()), ..idle_vm("v", "c") }], 1),
        ("too small", vec![large()], vec![idle_vm("v", "c")], 1),
        (
            "a scheduled job was first",
            vec![Job { state: JobState::Scheduled, ..job("0") }, small()],
            vec![vm("v", "c")],
            1,
        ),
        ("going", vec![small()], vec![Vm { override_state: Some(retiring), ..idle_vm("v", "c") }], 1),
        ("destroyed", vec![small()], vec![Vm { destroy: Some("w".into()), ..idle_vm("v", "c") }], 1),
        ("broken", vec![small()], vec![Vm { state: VmState::Error, ..idle_vm("v", "c") }], 1),
        ("bob's", vec![small()], vec![Vm { user: "bob".into(), ..idle_vm("v", "c") }], 1),
        ("of another type", vec![small()], vec![Vm { vm_type: "t9".into(), ..idle_vm("v", "c") }], 1),
        (
            "where it may not run",
            vec![Job { target_clouds: vec!["d".into()], ..job("1") }],
            vec![idle_vm("v", "c")],
            1,
        ),
    ];
    for (what, waiting, vms, wanted) in cases {
        let mut view = testing::view([cloud("c", 10), cloud("d", 10)]);
        testing::add(&mut view, waiting, vms);
        let intents = plan(&view, Time(0), &SchedulerConfig::default());
        let boots = intents.iter().filter(|intent| matches!(intent, Intent::Boot { .. })).count();
        assert_eq!(boots, wanted, "{what}: {intents:?}");
    }
}

#[test]
fn a_cloud_takes_what_fits_into_it() {
    type Change = fn(&mut Cloud);
    let fits: [(&str, Change, Option<&str>); 10] = [
        ("as it is", |_| (), None),
        ("just enough", |c| (c.spec.memory_mib, c.spec.storage_gib, c.spec.cpu_cores) = (100, 1, 1), None),
        ("disabled in the file", |c| c.spec.enabled = false, Some(DISABLED)),
        ("disabled by an administrator", |c| c.enabled_by_admin = Some(false), Some(DISABLED)),
        ("drained", |c| c.draining = true, Some(DRAINED)),
        ("no slots by an administrator", |c| c.vm_slots_by_admin = Some(0), Some(TOO_LARGE)),
        ("too little memory", |c| c.spec.memory_mib = 99, Some(TOO_LARGE)),
        ("too little storage", |c| c.spec.storage_gib = 0, Some(TOO_LARGE)),
        ("too few cores", |c| c.spec.cpu_cores = 0, Some(TOO_LARGE)),
        ("retired", |c| c.retired = true, Some(TOO_LARGE)),
    ];
    for (what, change, wanted) in fits {
        let mut it = cloud("c", 1);
        change(&mut it);
        let world = World::new([it], [job("1")]).run();
        assert_eq!(world.reason("1"), wanted, "{what}");
        assert_eq!(world.view.vms.is_empty(), wanted.is_some(), "{what}");
    }
    assert_eq!(World::new([], [job("1")]).run().reason("1"), Some(NO_CLOUD));
}

#[test]
fn a_reason_goes_when_it_is_no_longer_true() {
    let mut world = World::new([cloud("c", 1)], [job("1"), job("2"), job("3")]).run();
    assert_eq!((world.reason("2"), world.reason("3")), (Some(FULL), None));
    let urgent = Job { priority: 1, ..job("4") };
    testing::add(&mut world.view, [urgent], []);
    world = world.run();
    assert_eq!((world.reason("2"), world.reason("4")), (None, Some(FULL)));
    happen(&mut world.view, Time(0), [Kind::CloudSlots { cloud: "c".into(), vm_slots: 9 }]);
    world = world.run();
    assert_eq!(world.vms(|vm| &vm.user), [("alice", 4)].into());
}

#[test]
fn a_job_does_not_overtake_an_earlier_one_where_that_could_run() {
    let mut view = testing::view([cloud("c", 5), cloud("d", 5)]);
    let used = Vm { memory_mib: 600_000, job: Some("x".into()), ..vm("v", "c") };
    let large = Job { memory_mib: 900_000, target_clouds: vec!["c".into()], ..job("1") };
    let behind = Job { target_clouds: vec!["c".into()], ..job("2") };
    testing::add(&mut view, [large, behind, job("3")], [used]);
    let told = plan(&view, Time(0), &SchedulerConfig::default());
    assert_eq!(told, [Intent::Boot { job: "3".into(), cloud: "d".into() }]);
}

#[test]
fn a_cloud_in_back_off_is_passed_over() {
    let mut view = testing::view([cloud("c", 5), cloud("d", 5)]);
    testing::add(&mut view, [job("1")], []);
    let closed =
        |names: &[&str]| names.iter().map(|&name| name.into()).collect::<std::collections::HashSet<Name>>();
    let told = |names: &[&str]| plan_without(&view, Time(0), &SchedulerConfig::default(), &closed(names));
    assert_eq!(told(&["c"]), [Intent::Boot { job: "1".into(), cloud: "d".into() }]);
    let wanted = Intent::Reason { job: "1".into(), reason: Some(CLOSED.into()) };
    assert_eq!(told(&["c", "d"]), [wanted]);
}

/// Sizes that fit nothing make every job look at every VM if nobody takes care: then this takes
/// minutes, and a moment as it is.
#[test]
fn many_sorts_of_jobs_and_vms_are_planned_soon() {
    let mut view = testing::view((0..100).map(|at| cloud(&format!("c{at:03}"), 100)));
    let vms = (0..2_100).map(|at| Vm {
        memory_mib: 50 + at % 40,
        user: format!("u{}", at % 7).into(),
        ..idle_vm(&format!("v{at}"), &format!("c{:03}", at % 100))
    });
    let waiting = (0..20_000).map(|at| Job {
        memory_mib: 100 + at,
        user: format!("u{}", at % 7).into(),
        priority: i64::try_from(at % 3).unwrap(),
        ..job(&format!("j{at:06}"))
    });
    testing::add(&mut view, waiting, vms);
    let told = plan(&view, Time(0), &SchedulerConfig::default());
    assert_eq!(told.iter().filter(|intent| matches!(intent, Intent::Boot { .. })).count(), 7);
}

#[test]
fn fifo_boots_for_the_oldest_and_lets_nobody_overtake() {
    let fifo = SchedulerConfig { algorithm: crate::config::Algorithm::Fifo, ..SchedulerConfig::default() };
    let aged = |age: usize, user: &str| Job { user: user.into(), ..job(&format!("{age}")) };
    let urgent = Job { high_priority: true, priority: 9, ..aged(4, "carol") };
    let large = Job { memory_mib: 900_000, target_clouds: vec!["c".into()], ..aged(2, "bob") };
    let waiting = [aged(1, "alice"), large, aged(3, "alice"), urgent, aged(5, "bob"), aged(6, "alice")];
    let mut view = testing::view([cloud("c", 5), cloud("d", 2)]);
    let used = Vm { memory_mib: 600_000, job: Some("x".into()), ..vm("v", "c") };
    testing::add(&mut view, waiting, [used]);
    let boot = |job: &str, cloud: &str| Intent::Boot { job: job.into(), cloud: cloud.into() };
    let reason = |job: &str, why: &str| Intent::Reason { job: job.into(), reason: Some(why.into()) };
    // The large one keeps `c` to itself until there is room; in `d` all go by age, whatever their rank.
    let told = plan(&view, Time(0), &fifo);
    assert_eq!(told, [boot("1", "d"), boot("3", "d"), reason("2", &format!("{HOLDS}c")), reason("4", FULL)]);
    happen(&mut view, Time(0), [Kind::UserLimit { user: "alice".into(), vms: Some(1) }]);
    let told = plan(&view, Time(0), &fifo);
    assert_eq!(told[..2], [boot("4", "d"), boot("5", "d")], "alice has a VM: {told:?}");
}
