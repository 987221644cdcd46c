//! What tests build states from: one cloud, VM and job after the other, in ordinary sizes.

use pileus_model::{
    Actor, Cloud, CloudSpec, Event, Job, JobState, Kind, Origin, Size, Time, Token, View, Vm, VmState,
};

use crate::{owner::owner, state::apply};

/// A cloud with ample memory.
pub fn spec(vm_slots: u32) -> CloudSpec {
    CloudSpec {
        driver: "local".into(),
        enabled: true,
        vm_slots,
        cpu_cores: 8,
        memory_mib: 1_000_000,
        storage_gib: 1_000_000,
        priority: 0,
        keep_alive_s: 60,
        boot_timeout_s: Some(600),
        max_vm_memory_mib: None,
    }
}

pub fn cloud(name: &str, vm_slots: u32) -> Cloud {
    Cloud {
        name: name.into(),
        spec: spec(vm_slots),
        origin: Origin::File,
        order: 0,
        enabled_by_admin: None,
        draining: false,
        vm_slots_by_admin: None,
        retired: false,
        used: Size::default(),
    }
}

/// A waiting job of alice's.
pub fn job(id: &str) -> Job {
    Job {
        id: id.into(),
        project: "p".into(),
        user: "alice".into(),
        source: "queue".into(),
        command: vec!["true".into()],
        vm_type: "t1".into(),
        cpu_cores: 1,
        memory_mib: 100,
        storage_gib: 1,
        priority: 0,
        high_priority: false,
        keep_alive_s: None,
        target_clouds: Vec::new(),
        state: JobState::New,
        reason: None,
        submitted: Time(0),
        started: None,
        finished: None,
        vm: None,
        cloud: None,
        attempts: 0,
        breakages: 0,
        setback: None,
        returns: 0,
        exit: None,
        image: None,
        user_type_limit: None,
        failures: Vec::new(),
        blocked_clouds: Vec::new(),
        banned_until: None,
    }
}

/// A VM of alice's that boots.
pub fn vm(id: &str, cloud: &str) -> Vm {
    Vm {
        id: id.into(),
        cloud: cloud.into(),
        project: "p".into(),
        user: "alice".into(),
        vm_type: "t1".into(),
        cpu_cores: 1,
        memory_mib: 100,
        storage_gib: 1,
        keep_alive_s: 60,
        state: VmState::Starting,
        override_state: None,
        force_retire: false,
        destroy: None,
        last_error: None,
        error_count: 0,
        created: Time(0),
        changed: Time(0),
        running: None,
        registered: None,
        idle_since: None,
        job: None,
        failed_starts: 0,
        failed_several: false,
        failed_job: None,
        job_runs_s: Vec::new(),
        hostname: String::new(),
        address: String::new(),
        handle: String::new(),
        image: None,
        booted_for: None,
    }
}

/// A VM of alice's that waits for a job.
pub fn idle_vm(id: &str, cloud: &str) -> Vm {
    let at = Some(Time(0));
    Vm { state: VmState::Running, running: at, registered: at, idle_since: at, ..vm(id, cloud) }
}

/// A state with these clouds, in this order.
pub fn view(clouds: impl IntoIterator<Item = Cloud>) -> View {
    let mut view = View::default();
    for (order, cloud) in (0..).zip(clouds) {
        happen(&mut view, Time(0), [Kind::CloudSet(Cloud { order, ..cloud })]);
    }
    view
}

/// Puts jobs and VMs into the state.
pub fn add(view: &mut View, jobs: impl IntoIterator<Item = Job>, vms: impl IntoIterator<Item = Vm>) {
    happen(view, Time(0), vms.into_iter().map(Kind::VmRequested));
    happen(view, Time(0), jobs.into_iter().map(Kind::JobSubmitted));
}

/// Lets events happen, one after the other.
pub fn happen(view: &mut View, time: Time, kinds: impl IntoIterator<Item = Kind>) {
    for kind in kinds {
        apply(
            view,
            &Event { seq: view.seq + 1, time, by: Actor::default(), owner: owner(view, &kind), kind },
        );
    }
}

pub fn token(name: &str) -> Token {
    Token {
        sha256: "ab".repeat(32).into(),
        name: name.into(),
        user: "alice".into(),
        project: "p".into(),
        roles: vec!["member".into()],
        created: Time(0),
        expires: None,
    }
}
