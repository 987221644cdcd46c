//! The reference's vectors (`cloud-scheduler-rest.md`, section 7), and what is done better here.

use std::collections::BTreeMap;

use pileus_model::{Cloud, CloudSpec, JobState, Kind, Vm};

use super::*;
use crate::{
    change::{Change, settle},
    ids::Ids,
    testing::{self, cloud, happen, idle_vm, job, vm},
};

/// A state in which cycles are run until nothing happens any more.
struct World {
    view: View,
    ids: Ids,
    config: SchedulerConfig,
    /// Who got a VM in each cycle, as `user:type@cloud`, sorted.
    cycles: Vec<Vec<String>>,
}

impl World {
    fn new(clouds: impl IntoIterator<Item = Cloud>, jobs: impl IntoIterator<Item = Job>) -> Self {
        let mut view = testing::view(clouds);
        testing::add(&mut view, jobs, []);
        Self { view, ids: Ids::default(), config: SchedulerConfig::default(), cycles: Vec::new() }
    }

    fn limit(mut self, user: &str, vms: u32) -> Self {
        happen(&mut self.view, Time(0), [Kind::UserLimit { user: user.into(), vms: Some(vms) }]);
        self
    }

    /// One cycle; VMs that boot take the job at once and keep it.
    fn cycle(&mut self) -> bool {
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

    fn run(mut self) -> Self {
        while self.cycle() {
            assert!(self.cycles.len() < 200, "it comes to an end");
        }
        self
    }

    /// VMs by user, or by whatever `of` says.
    fn vms<'a>(&'a self, of: impl Fn(&'a Vm) -> &'a str) -> BTreeMap<&'a str, usize> {
        let mut vms = BTreeMap::new();
        self.view.vms.values().for_each(|vm| *vms.entry(of(vm)).or_default() += 1);
        vms
    }

    fn reason(&self, job: &str) -> Option<&str> {
        self.view.jobs[job].reason.as_deref()
    }
}

fn jobs(count: usize, user: &str, vm_type: &str) -> Vec<Job> {
    let of = |at: usize| Job {
        user: user.into(),
        vm_type: vm_type.into(),
        ..job(&format!("{user}-{vm_type}-{at:05}"))
    };
    (0..count).map(of).collect()
}

fn priority(cloud: Cloud, priority: i64) -> Cloud {
    Cloud { spec: CloudSpec { priority, ..cloud.spec }, ..cloud }
}

#[test]
fn vector_1_users_share_evenly_and_clouds_fill_evenly_by_priority() {
    let clouds = [cloud("c1", 6), cloud("c2", 4), priority(cloud("c3", 10), 1)];
    let waiting = [jobs(20, "alice", "t1"), jobs(20, "bob", "t2"), jobs(20, "bob", "t3")].concat();
    let mut world = World::new(clouds, waiting);
    for (cycles, wanted) in [(4, [5, 3, 0]), (5, [6, 4, 0]), (6, [6, 4, 2]), (10, [6, 4, 10])] {
        while world.cycles.len() < cycles {
            world.cycle();
        }
        let vms = world.vms(|vm| &vm.cloud);
        assert_eq!(["c1", "c2", "c3"].map(|name| vms.get(name).copied().unwrap_or(0)), wanted);
    }
    for cycle in &world.cycles {
        assert_eq!(cycle.iter().filter(|got| got.starts_with("alice:t1")).count(), 1, "{cycle:?}");
        assert_eq!(cycle.iter().filter(|got| got.starts_with("bob:t2")).count(), 1, "{cycle:?}");
    }
    assert_eq!(world.vms(|vm| &vm.user), [("alice", 10), ("bob", 10)].into());
}

#[test]
fn vector_3_split_gives_every_type_its_part() {
    let waiting = [jobs(20, "alice", "t1"), jobs(20, "bob", "t2"), jobs(20, "bob", "t3")].concat();
    let mut world = World::new([cloud("c", 10)], waiting);
    world.config.job_distribution = crate::config::Distribution::Split;
    let world = world.run();
    assert_eq!(world.vms(|vm| &vm.vm_type), [("t1", 4), ("t2", 3), ("t3", 3)].into());
}

#[test]
fn vector_4_high_priority_goes_first_one_per_cycle() {
    let high = |job| Job { high_priority: true, ..job };
    let bob: Vec<_> = jobs(5, "bob", "t2").into_iter().map(high).collect();
    let mut world = World::new([cloud("c", 20)], [jobs(3, "alice", "t1"), bob].concat());
    world.config.high_priority_job_weight = 4.try_into().unwrap();
    let world = world.run();
    let bob = || vec!["bob:t2@c".to_owned()];
    assert_eq!(world.cycles[..4], [bob(), bob(), bob(), bob()]);
    // The last one no longer waits when alice has her turn.
    assert_eq!(world.cycles[4], ["alice:t1@c", "bob:t2@c"]);
    assert_eq!(world.vms(|vm| &vm.user), [("alice", 3), ("bob", 5)].into());
}

#[test]
fn vector_5_a_limited_user_leaves_the_rest_to_others() {
    let world = World::new([cloud("c", 10)], [jobs(20, "alice", "t1"), jobs(20, "bob", "t2")].concat());
    let world = world.limit("alice", 2).run();
    assert_eq!(world.vms(|vm| &vm.user), [("alice", 2), ("bob", 8)].into());
    assert_eq!(world.reason("alice-t1-00002"), Some("its user has reached the limit of 2 VMs"));
}

#[test]
fn a_limit_holds_for_high_priority_and_over_all_projects_too() {
    let high = |job| Job { high_priority: true, ..job };
    let elsewhere = |job: Job| Job { project: "q".into(), id: format!("q-{}", job.id).into(), ..job };
    let alice = jobs(5, "alice", "t1").into_iter();
    let waiting = alice.clone().map(high).chain(alice.map(elsewhere)).chain(jobs(5, "bob", "t1"));
    let world = World::new([cloud("c", 20)], waiting).limit("alice", 3).run();
    assert_eq!(world.vms(|vm| &vm.user), [("alice", 3), ("bob", 5)].into());
}

#[test]
fn vector_7_room_that_others_cannot_use_is_used() {
    let target = |job| Job { target_clouds: vec!["c2".into()], ..job };
    let alice: Vec<_> = jobs(20, "alice", "t1").into_iter().map(target).collect();
    let world = World::new([cloud("c1", 10), cloud("c2", 2)], [alice, jobs(20, "bob", "t2")].concat()).run();
    let vms = world.vms(|vm| &vm.user);
    // Above the share of a half, because nobody else can use the room; and no slot is left empty.
    assert!(vms["bob"] >= 10 && vms["alice"] >= 1 && vms["alice"] + vms["bob"] == 12, "{vms:?}");
    assert_eq!(world.reason("alice-t1-00005"), None, "only the first one is told");
    assert_eq!(world.reason("alice-t1-00002"), Some(FULL));
}

#[test]
fn vector_8_no_more_vms_boot_at_a_time_than_may() {
    for (most, wanted) in [(Some(0), 0), (Some(1), 1), (Some(3), 2), (None, 2)] {
        let waiting = [jobs(5, "alice", "t1"), jobs(5, "bob", "t2")].concat();
        let mut world = World::new([cloud("c", 10)], waiting);
        world.config.max_starting_vms = most;
        world.cycle();
        assert_eq!(world.view.vms.len(), wanted, "{most:?}");
        if wanted < 2 {
            assert_eq!(world.reason("bob-t2-00000"), Some(BOOTING));
        }
    }
}

#[test]
fn vector_9_an_impossible_high_priority_job_starves_nobody() {
    let lost = Job {
        user: "bob".into(),
        high_priority: true,
        target_clouds: vec!["nowhere".into()],
        ..job("0-lost")
    };
    let mut waiting = jobs(3, "alice", "t1");
    waiting.push(lost);
    let world = World::new([cloud("c", 10)], waiting).run();
    assert_eq!(world.vms(|vm| &vm.user), [("alice", 3)].into());
    assert_eq!(world.reason("0-lost"), Some(NO_TARGET));
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
    assert_eq!(told, [reason("0", FULL), reason("alice-t1-00000", HIGH)]);
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
    let fits: [(&str, Change, Option<&str>); 9] = [
        ("as it is", |_| (), None),
        ("just enough", |c| (c.spec.memory_mib, c.spec.storage_gib, c.spec.cpu_cores) = (100, 1, 1), None),
        ("disabled in the file", |c| c.spec.enabled = false, Some(DISABLED)),
        ("disabled by an administrator", |c| c.enabled_by_admin = Some(false), Some(DISABLED)),
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
