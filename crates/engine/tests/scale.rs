//! One cycle at the size that the design promises: 100 clouds, 10 000 VMs, 100 000 jobs, < 100 ms.
//!
//! Run on its own, with `cargo test --release -p pileus-engine --test scale -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers fail as tests do")]

use std::{fs, time::Duration};

use pileus_engine::{SchedulerConfig, apply, assign, plan};
use pileus_model::{
    Actor, Cloud, CloudSpec, Event, Job, JobState, Kind, Origin, Size, Time, View, Vm, VmState,
};

fn world(clouds: usize, vms: usize, jobs: usize, sorts: usize) -> View {
    let mut view = View::default();
    let mut happen = |kind| {
        let seq = view.seq + 1;
        apply(
            &mut view,
            &Event { seq, time: Time(0), by: Actor::default(), owner: Default::default(), kind },
        );
    };
    for at in 0..clouds {
        let spec = CloudSpec {
            driver: "local".into(),
            enabled: true,
            vm_slots: 200,
            cpu_cores: 64,
            memory_mib: 10_000_000,
            storage_gib: 10_000_000,
            priority: 0,
            keep_alive_s: 60,
            boot_timeout_s: None,
        };
        happen(Kind::CloudSet(Cloud {
            name: format!("cloud-{at:03}").into(),
            spec,
            origin: Origin::File,
            order: u32::try_from(at).unwrap(),
            enabled_by_admin: None,
            vm_slots_by_admin: None,
            retired: false,
            used: Size::default(),
        }));
    }
    for at in 0..vms {
        let idle = (at % 10 == 0).then_some(Time(0));
        happen(Kind::VmRequested(Vm {
            id: format!("cloud-{:03}-{at:036}", at % clouds).into(),
            cloud: format!("cloud-{:03}", at % clouds).into(),
            project: "physics".into(),
            user: format!("user-{}", at % 300).into(),
            vm_type: format!("type-{}", at % 3).into(),
            cpu_cores: 1,
            memory_mib: 1000 + u64::try_from(at % sorts).unwrap(),
            storage_gib: 1,
            keep_alive_s: 60,
            state: VmState::Running,
            override_state: None,
            force_retire: false,
            destroy: None,
            last_error: None,
            error_count: 0,
            created: Time(0),
            changed: Time(0),
            running: Some(Time(0)),
            registered: Some(Time(0)),
            idle_since: idle,
            job: idle.is_none().then(|| format!("running-{at}").into()),
            job_runs_s: Vec::new(),
            hostname: String::new(),
            address: String::new(),
            handle: "h".into(),
        }));
    }
    for at in 0..jobs {
        happen(Kind::JobSubmitted(Job {
            id: format!("{at:036}").into(),
            project: "physics".into(),
            user: format!("user-{}", at % 500).into(),
            source: "queue".into(),
            command: vec!["true".into()],
            vm_type: format!("type-{}", at % 3).into(),
            cpu_cores: 1,
            memory_mib: 1000 + u64::try_from(at % sorts).unwrap(),
            storage_gib: 1,
            priority: i64::try_from(at % 5).unwrap(),
            high_priority: at % 100 == 0,
            keep_alive_s: None,
            target_clouds: if at % 4 == 0 { vec![format!("cloud-{:03}", at % clouds)] } else { Vec::new() },
            state: JobState::New,
            reason: None,
            submitted: Time(0),
            started: None,
            finished: None,
            vm: None,
            cloud: None,
            attempts: 0,
            exit: None,
        }));
    }
    view
}

/// What this thread has had of the processor. Wall time would measure the neighbours, too.
fn spent() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

#[test]
#[ignore = "measures time: only meaningful with --release, on an idle machine"]
fn a_cycle_takes_less_than_a_tenth_of_a_second() {
    let config = SchedulerConfig::default();
    for sorts in [4, 1000, 100_000] {
        let view = world(100, 10_000, 100_000, sorts);
        let time = |what: &str, work: &dyn Fn() -> usize| {
            let runs = (0..30).map(|_| {
                let began = spent();
                let count = work();
                (spent() - began, count)
            });
            let (took, count) = runs.min().unwrap();
            println!("{sorts} sorts: {what} {took:?}, {count} results");
            took
        };
        let planned = time("plan", &|| plan(&view, Time(0), &config).len());
        let assigned = time("assign", &|| assign(&view).len());
        assert!(planned.max(assigned) < Duration::from_millis(100), "{planned:?} {assigned:?}");
    }
}
