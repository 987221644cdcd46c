//! Ordinary clouds, VMs and jobs, to be changed where a test needs them otherwise.

use std::sync::Arc;

use pileus_model::{Cloud, CloudSpec, Job, JobState, Origin, Size, Time, View, Vm, VmState};

/// When everything in the samples was made: 2026-01-31T11:00:00Z, an hour before the bench's clock.
const MADE: Time = Time(1_769_857_200_000);

/// A cloud of ten slots, 20 000 MiB and 500 GiB on the `local` driver, enabled, from the file, empty.
pub fn cloud(name: &str) -> Cloud {
    Cloud {
        name: name.into(),
        spec: CloudSpec {
            driver: "local".into(),
            enabled: true,
            vm_slots: 10,
            cpu_cores: 4,
            memory_mib: 20_000,
            storage_gib: 500,
            priority: 0,
            keep_alive_s: 0,
            boot_timeout_s: None,
            max_vm_memory_mib: None,
        },
        origin: Origin::File,
        order: 0,
        enabled_by_admin: None,
        draining: false,
        vm_slots_by_admin: None,
        retired: false,
        used: Size::default(),
    }
}

/// A VM of `ada` of `p1`, running and registered, without a job: one core, 1024 MiB, 10 GiB.
pub fn vm(id: &str, cloud: &str) -> Vm {
    Vm {
        id: id.into(),
        cloud: cloud.into(),
        project: "p1".into(),
        user: "ada".into(),
        vm_type: "vmt".into(),
        cpu_cores: 1,
        memory_mib: 1024,
        storage_gib: 10,
        keep_alive_s: 60,
        state: VmState::Running,
        override_state: None,
        force_retire: false,
        destroy: None,
        last_error: None,
        error_count: 0,
        created: MADE,
        changed: Time(MADE.0 + 20_000),
        running: Some(Time(MADE.0 + 20_000)),
        registered: Some(Time(MADE.0 + 30_000)),
        idle_since: Some(Time(MADE.0 + 30_000)),
        job: None,
        failed_starts: 0,
        failed_several: false,
        failed_job: None,
        job_runs_s: Vec::new(),
        hostname: format!("host-{id}"),
        address: "10.0.0.1".into(),
        handle: String::new(),
        image: None,
        booted_for: None,
    }
}

/// A waiting job of `ada` of `p1`: `true`, one core, 512 MiB.
pub fn job(id: &str) -> Job {
    Job {
        id: id.into(),
        project: "p1".into(),
        user: "ada".into(),
        source: "queue".into(),
        command: vec!["true".into()],
        vm_type: "vmt".into(),
        cpu_cores: 1,
        memory_mib: 512,
        storage_gib: 0,
        priority: 0,
        high_priority: false,
        keep_alive_s: None,
        target_clouds: Vec::new(),
        state: JobState::New,
        reason: None,
        submitted: MADE,
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

/// Puts a cloud into a picture, after those that are there.
pub fn put_cloud(view: &mut View, name: &str, change: impl FnOnce(&mut Cloud)) {
    let mut made = cloud(name);
    made.order = u32::try_from(view.clouds.len()).unwrap_or(u32::MAX);
    change(&mut made);
    view.clouds.insert(name.into(), Arc::new(made));
}

/// Puts a VM into a picture, and what it holds onto its cloud.
pub fn put_vm(view: &mut View, id: &str, cloud: &str, change: impl FnOnce(&mut Vm)) {
    let mut made = vm(id, cloud);
    change(&mut made);
    if let Some(cloud) = view.clouds.get_mut(cloud) {
        let used = &mut Arc::make_mut(cloud).used;
        used.vm_slots += 1;
        used.memory_mib += made.memory_mib;
        used.storage_gib += made.storage_gib;
    }
    view.vms.insert(id.into(), Arc::new(made));
}

/// Puts a job into a picture.
pub fn put_job(view: &mut View, id: &str, change: impl FnOnce(&mut Job)) {
    let mut made = job(id);
    change(&mut made);
    view.jobs.insert(id.into(), Arc::new(made));
}
