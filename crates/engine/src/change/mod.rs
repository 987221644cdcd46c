//! What the engine itself writes: the reconcilers, the desk and the start. Not a public command.
//!
//! Each was decided upon some view and is settled upon the newest one, which may be another by then:
//! what is no longer true becomes no event, and the next cycle decides anew.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use pileus_model::{
    BootFailure, BootFault, Cloud, CloudSpec, FAILED_STARTS_MAX, Job, JobState, Kind, Name, Origin, Output,
    Override, ProxyUse, Refusal, RunTimes, Size, Time, View, Vm, VmState,
};

use crate::{
    command::surplus,
    config::SchedulerConfig,
    desk::{End, JobResult},
    drivers::Seen,
    ids::Ids,
    schedule::{
        Key, is_free,
        room::{Needs, Room},
    },
};

/// A change that the engine itself wants.
#[allow(missing_docs, reason = "a variant says what its fields are")]
#[derive(Debug)]
pub enum Change {
    /// These are the configured clouds now.
    Configure { clouds: Vec<(String, CloudSpec)> },
    /// This is what the alias file says now.
    Aliases { aliases: BTreeMap<String, Vec<String>> },
    /// This is what the user-limit file says now.
    UserLimits { limits: BTreeMap<String, u32> },
    /// A user's proxy was fetched.
    ProxyRenewed { user: Name, which: ProxyUse, expires: Time, server: Name },
    /// A source has this job.
    Found { job: Box<Job> },
    /// Boot a VM for this job there.
    Boot { job: Name, cloud: Name },
    /// Why a job waits.
    Reason { job: Name, reason: Option<String> },
    /// Give the job to the VM.
    Start { job: Name, vm: Name },
    /// The job's VM is not to be had any more.
    Unschedule { job: Name },
    /// The cloud made the VM.
    Created { vm: Name, handle: String },
    /// The cloud did not make the VM. `full`: it said why, and will not within this VM's patience.
    NotCreated { vm: Name, error: String, full: bool },
    /// What the cloud says of the VM.
    Polled { vm: Name, seen: Seen },
    /// The VM's worker called home.
    Registered { vm: Name },
    /// The VM's job ended.
    Finished { vm: Name, job: Name, result: Box<JobResult> },
    /// Let the VM go, unless it is not as it was `seen`.
    Retire { seen: Arc<Vm> },
    /// Destroy the VM, unless it is not as it was `seen`.
    Destroy { seen: Arc<Vm>, why: String },
    /// The VM is no good: destroy it, unless it is not as it was `seen`. `fault`: it never took a job.
    Broken { seen: Arc<Vm>, why: String, fault: Option<BootFault> },
    /// Let the VM go for the sake of others, unless it is not as it was `seen`.
    GiveUp { seen: Arc<Vm> },
    /// The cloud did not destroy the VM yet.
    NotDestroyed { vm: Name, error: String },
    /// Nothing is left of the VM.
    Gone { vm: Name },
    /// Retire the VMs that the cloud has no slots for.
    Shrink { cloud: Name },
    /// The cloud has drained.
    CloudGone { cloud: Name },
    /// Nobody needs these jobs any more.
    Forget { jobs: Vec<Name> },
}

/// What a change becomes.
#[derive(Debug, Default)]
pub struct Settled {
    pub kinds: Vec<Kind>,
    /// What a job wrote, to be durable with the events.
    pub output: Option<(Name, Output)>,
}

impl From<Vec<Kind>> for Settled {
    fn from(kinds: Vec<Kind>) -> Self {
        Self { kinds, output: None }
    }
}

/// Settles a change upon the newest view.
pub fn settle(
    view: &View,
    change: Change,
    now: Time,
    ids: &mut Ids,
    config: &SchedulerConfig,
) -> Result<Settled, Refusal> {
    let kinds = match change {
        Change::Configure { clouds } => configure(view, clouds),
        Change::Aliases { aliases } => set_aliases(view, aliases),
        Change::UserLimits { limits } => set_limits(view, limits),
        Change::ProxyRenewed { user, which, expires, server } => {
            vec![Kind::ProxyRenewed { user, which, expires, server }]
        }
        Change::Found { job } if view.jobs.contains_key(&job.id) => Vec::new(),
        Change::Found { job } => vec![Kind::JobSubmitted(*job)],
        Change::Boot { job, cloud } => boot(view, &job, &cloud, now, ids, config).unwrap_or_default(),
        Change::Reason { job, reason } => match view.jobs.get(&job) {
            Some(it) if it.state == JobState::New && it.reason != reason => {
                vec![Kind::JobReason { job, reason }]
            }
            _ => Vec::new(),
        },
        Change::Start { job, vm } => start(view, job, vm),
        Change::Unschedule { job } => match view.jobs.get(&job) {
            Some(it) if it.state == JobState::Scheduled => {
                vec![Kind::JobState { job, state: JobState::New, reason: None }]
            }
            _ => Vec::new(),
        },
        Change::Created { vm, handle } => match view.vms.get(&vm) {
            Some(it) => {
                // An empty handle would read as "not created yet".
                let handle = if handle.is_empty() { vm.to_string() } else { handle };
                let (hostname, address) = (it.hostname.clone(), it.address.clone());
                let event = Kind::VmHandle { vm, handle: handle.clone(), hostname, address };
                if it.handle == handle { Vec::new() } else { vec![event] }
            }
            None => Vec::new(),
        },
        Change::NotCreated { vm, error, full } => not_created(view, vm, error, full, now, config),
        Change::Polled { vm, seen } => polled(view, vm, seen, now, config),
        Change::Registered { vm } => registered(view, vm)?,
        Change::Finished { vm, job, result } => return Ok(finished(view, &vm, job, *result, now)),
        Change::Retire { seen } => match view.vms.get(&seen.id) {
            Some(it) if *it == seen => {
                let state = Some(Override::Retiring);
                vec![Kind::VmOverride { vm: seen.id.clone(), state, force_retire: true }]
            }
            _ => Vec::new(),
        },
        Change::Destroy { seen, why } => match view.vms.get(&seen.id) {
            Some(it) if *it == seen => vec![Kind::VmDestroy { vm: seen.id.clone(), why }],
            _ => Vec::new(),
        },
        Change::Broken { seen, why, fault } => match view.vms.get(&seen.id) {
            Some(it) if *it == seen => {
                let mut kinds = vec![Kind::VmDestroy { vm: seen.id.clone(), why: why.clone() }];
                kinds.extend(fault.map(|fault| boot_failed(view, it, fault, why, now, config)));
                kinds
            }
            _ => Vec::new(),
        },
        Change::GiveUp { seen } => match view.vms.get(&seen.id) {
            // Without the mark of an administrator: `force_retire` stays as it is.
            Some(it) if *it == seen => {
                let state = Some(Override::Retiring);
                vec![Kind::VmOverride { vm: seen.id.clone(), state, force_retire: it.force_retire }]
            }
            _ => Vec::new(),
        },
        Change::NotDestroyed { vm, error } => match view.vms.get(&vm) {
            Some(it) if it.last_error.as_ref() != Some(&error) => {
                vec![Kind::VmFailed { vm, error, error_count: it.error_count }]
            }
            _ => Vec::new(),
        },
        Change::Gone { vm } => gone(view, vm, config),
        Change::Shrink { cloud } => view
            .clouds
            .get(&cloud)
            .map_or_else(Vec::new, |cloud| surplus(view, cloud, cloud.vm_slots_to_keep())),
        Change::CloudGone { cloud } => match view.clouds.get(&cloud) {
            Some(it) if it.retired && it.used.vm_slots == 0 => vec![Kind::CloudGone { cloud }],
            _ => Vec::new(),
        },
        Change::Forget { mut jobs } => {
            jobs.retain(|job| view.jobs.get(job).is_some_and(|job| job.state.is_final()));
            // An event for each project, so that each can read of its own.
            let mut of: BTreeMap<Name, Vec<Name>> = BTreeMap::new();
            for job in jobs {
                let project = view.jobs.get(&job).map(|job| job.project.clone()).unwrap_or_default();
                of.entry(project).or_default().push(job);
            }
            of.into_values().map(|jobs| Kind::JobsForgotten { jobs }).collect()
        }
    };
    Ok(kinds.into())
}

/// Brings the configured clouds in, keeps what administrators said of them, and retires those of the
/// file that it names no more. Clouds of the API come after those of the file.
pub fn configure(view: &View, clouds: Vec<(String, CloudSpec)>) -> Vec<Kind> {
    let mut kinds = Vec::new();
    let mut set = |old: Option<&Arc<Cloud>>, new: Cloud| {
        if old.is_none_or(|old| (Cloud { used: Size::default(), ..Cloud::clone(old) }) != new) {
            kinds.push(Kind::CloudSet(new));
        }
    };
    let mut order = 0;
    let mut named = Vec::new();
    for (name, spec) in clouds {
        let old = view.cloud(&name);
        // VMs know their cloud by its first spelling.
        let name = old.map_or_else(|| name.into(), |old| old.name.clone());
        named.push(name.clone());
        set(
            old,
            Cloud {
                name,
                spec,
                origin: Origin::File,
                order,
                enabled_by_admin: old.and_then(|old| old.enabled_by_admin),
                draining: old.is_some_and(|old| old.draining),
                vm_slots_by_admin: old.and_then(|old| old.vm_slots_by_admin),
                retired: false,
                used: Size::default(),
            },
        );
        order += 1;
    }
    for old in view.clouds_in_order().into_iter().filter(|cloud| !named.contains(&cloud.name)) {
        if old.origin == Origin::Api {
            set(Some(old), Cloud { order, used: Size::default(), ..Cloud::clone(old) });
            order += 1;
        }
    }
    for old in view.clouds.values().filter(|cloud| !named.contains(&cloud.name)) {
        if old.origin == Origin::File && !old.retired {
            kinds.push(Kind::CloudRetired { cloud: old.name.clone() });
            kinds.extend(surplus(view, old, 0));
            if old.used.vm_slots == 0 {
                kinds.push(Kind::CloudGone { cloud: old.name.clone() });
            }
        }
    }
    kinds
}

fn set_aliases(view: &View, aliases: BTreeMap<String, Vec<String>>) -> Vec<Kind> {
    // Targets ignore case: what somebody else called the same goes, as what is called exactly the same does.
    let of_file = |alias: &Name| aliases.keys().any(|it| it.eq_ignore_ascii_case(alias));
    let gone = view.aliases.keys().filter(|alias| {
        !aliases.contains_key(&***alias) && (view.file_aliases.contains(*alias) || of_file(alias))
    });
    let mut kinds: Vec<_> = gone.map(|alias| Kind::AliasGone { alias: alias.clone() }).collect();
    for (alias, clouds) in aliases {
        let alias = Name::from(alias);
        let same = view.aliases.get(&alias).is_some_and(|old| **old == *clouds);
        if !same || !view.file_aliases.contains(&alias) {
            kinds.push(Kind::AliasSet { alias, clouds });
        }
    }
    kinds
}

fn set_limits(view: &View, limits: BTreeMap<String, u32>) -> Vec<Kind> {
    let gone = view.file_limits.iter().filter(|user| !limits.contains_key(&***user));
    let mut kinds: Vec<_> = gone.map(|user| Kind::UserLimit { user: user.clone(), vms: None }).collect();
    for (user, vms) in limits {
        let user = Name::from(user);
        if view.user_limits.get(&user) != Some(&vms) || !view.file_limits.contains(&user) {
            kinds.push(Kind::UserLimit { user, vms: Some(vms) });
        }
    }
    kinds
}

/// Names a VM of the job's size, where it still fits.
fn boot(
    view: &View,
    job: &str,
    cloud: &str,
    now: Time,
    ids: &mut Ids,
    config: &SchedulerConfig,
) -> Option<Vec<Kind>> {
    let job = view.jobs.get(job).filter(|job| job.state == JobState::New)?;
    let cloud = view.clouds.get(cloud)?;
    Room::of(cloud, false).score(&Needs::of(job), 0)?;
    // A cloud whose VMs failed is probed with one.
    let health = view.health.get(&cloud.name).filter(|health| health.is_suspect());
    if health.is_some_and(|health| view.vms_of(&cloud.name).any(|vm| health.is_unproven(vm))) {
        return None;
    }
    if let Some(limit) = view.user_limit(&job.project, &job.user) {
        let owned = |vm: &&Arc<Vm>| (&vm.project, &vm.user) == (&job.project, &job.user);
        let has = view.vms.values().filter(owned).count();
        if has >= usize::try_from(limit).unwrap_or(usize::MAX) {
            return None;
        }
    }
    let key = Key::of_job(job);
    if let Some(limit) = job.user_type_limit {
        let has = view.vms.values().filter(|vm| Key::of_vm(vm) == key).count();
        if has >= usize::try_from(limit).unwrap_or(usize::MAX) {
            return None;
        }
    }
    let vm = Vm {
        id: ids.vm(&cloud.name, now),
        cloud: cloud.name.clone(),
        project: job.project.clone(),
        user: job.user.clone(),
        vm_type: job.vm_type.clone(),
        cpu_cores: job.cpu_cores,
        memory_mib: job.memory_mib,
        storage_gib: job.storage_gib,
        keep_alive_s: config.keep_alive_s(job.keep_alive_s, cloud.spec.keep_alive_s),
        state: VmState::Starting,
        override_state: None,
        force_retire: false,
        destroy: None,
        last_error: None,
        error_count: 0,
        created: now,
        changed: now,
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
        image: job.image.clone(),
        booted_for: Some(job.id.clone()),
    };
    let scheduled = Kind::JobScheduled { job: job.id.clone(), vm: vm.id.clone() };
    Some(vec![Kind::VmRequested(vm), scheduled])
}

fn start(view: &View, job: Name, vm: Name) -> Vec<Kind> {
    let waits = |job: &Job| matches!(job.state, JobState::New | JobState::Scheduled);
    match (view.jobs.get(&job), view.vms.get(&vm)) {
        (Some(it), Some(on)) if waits(it) && is_free(view, on) => vec![Kind::JobStarted { job, vm }],
        _ => Vec::new(),
    }
}

/// A full cloud is left at once, so that the job can try another; a failing one is given some time. That
/// a VM was not made which is to be destroyed is no failure.
fn not_created(
    view: &View,
    vm: Name,
    error: String,
    full: bool,
    now: Time,
    config: &SchedulerConfig,
) -> Vec<Kind> {
    let awaited = |it: &&Arc<Vm>| it.handle.is_empty() && it.destroy.is_none();
    let Some(it) = view.vms.get(&vm).filter(awaited) else { return Vec::new() };
    let failed = Kind::VmFailed { vm: vm.clone(), error: error.clone(), error_count: it.error_count + 1 };
    if full {
        let boot = boot_failed(view, it, BootFault::NoCapacity, error.clone(), now, config);
        return vec![failed, Kind::VmDestroy { vm, why: error }, boot];
    }
    vec![failed]
}

/// A boot came to nothing: what the job and the image are told of it. A cloud is barred for the job, and
/// the job itself left alone, where VMs of its often did not come up; not where a cloud was full or
/// away, which says nothing of the job.
fn boot_failed(
    view: &View,
    vm: &Vm,
    fault: BootFault,
    detail: String,
    now: Time,
    config: &SchedulerConfig,
) -> Kind {
    let job = vm.booted_for.as_ref().and_then(|job| view.jobs.get(job));
    let failures = job.map_or(&[][..], |job| &job.failures).iter();
    let (mut here, mut anywhere) = (0_u32, 0_u32);
    for failure in failures.filter(|failure| failure.fault.is_of_the_vm()) {
        anywhere += 1;
        here += u32::from(failure.cloud == vm.cloud);
    }
    let until = |count: u32, most: u32| {
        (fault.is_of_the_vm() && count + 1 >= most).then(|| now.after(config.job_ban_timeout()))
    };
    Kind::BootFailed {
        vm: vm.id.clone(),
        job: job.map(|job| job.id.clone()),
        image: vm.image.clone(),
        failure: BootFailure { fault, detail, cloud: vm.cloud.clone(), at: now },
        blocked_until: until(here, config.block_cloud_after_boot_failures.get()),
        banned_until: until(anywhere, config.ban_job_after_boot_failures.get()),
    }
}

fn polled(view: &View, vm: Name, seen: Seen, now: Time, config: &SchedulerConfig) -> Vec<Kind> {
    let Some(it) = view.vms.get(&vm).filter(|it| it.destroy.is_none()) else { return Vec::new() };
    let mut kinds = Vec::new();
    let known = |new: String, old: &str| if new.is_empty() { old.to_owned() } else { new };
    let (hostname, address) = (known(seen.hostname, &it.hostname), known(seen.address, &it.address));
    if hostname != it.hostname || address != it.address {
        kinds.push(Kind::VmHandle { vm: vm.clone(), handle: it.handle.clone(), hostname, address });
    }
    // A worker that called home runs, whatever a slower part of its cloud believes.
    let stale = seen.state == VmState::Starting && it.registered.is_some();
    if seen.state != it.state && !stale {
        kinds.push(Kind::VmState { vm: vm.clone(), state: seen.state });
    }
    if let Some(error) = seen.lost {
        let failed = Kind::VmFailed { vm: vm.clone(), error: error.clone(), error_count: it.error_count + 1 };
        kinds.extend([failed, Kind::VmDestroy { vm, why: error.clone() }]);
        if it.registered.is_none() {
            kinds.push(boot_failed(view, it, BootFault::NotBooted, error, now, config));
        }
    } else if matches!(seen.state, VmState::Error | VmState::Shutdown) {
        let error = format!("its cloud calls it {}", seen.state.as_str());
        kinds.push(Kind::VmFailed { vm, error, error_count: it.error_count + 1 });
    }
    kinds
}

fn registered(view: &View, vm: Name) -> Result<Vec<Kind>, Refusal> {
    let it = view.vms.get(&vm).ok_or_else(|| Refusal::NotFound { kind: "VM", id: vm.to_string() })?;
    if it.destroy.is_some() {
        return Ok(Vec::new());
    }
    let mut kinds = Vec::new();
    if it.state == VmState::Starting {
        kinds.push(Kind::VmState { vm: vm.clone(), state: VmState::Running });
    }
    if it.registered.is_none() {
        kinds.push(Kind::VmRegistered { vm });
    }
    Ok(kinds)
}

fn finished(view: &View, vm: &str, job: Name, result: JobResult, now: Time) -> Settled {
    let JobResult { end, output, times, interrupted } = result;
    let it = view.jobs.get(&job);
    if view.vms.get(vm).and_then(|vm| vm.job.as_ref()) != Some(&job) {
        let removed = it.is_some_and(|it| it.state == JobState::Removed && it.vm.as_deref() == Some(vm));
        return Settled { kinds: Vec::new(), output: removed.then_some((job, output)) };
    }
    if interrupted {
        return Settled::default();
    }
    let given = it.and_then(|it| it.started).unwrap_or(now).min(now);
    let kind = match end {
        End::HostFault(error) => return returned(view, vm, job, error, now).into(),
        End::Exited(exit) => {
            let times = times.map(|RunTimes { started, finished }| {
                let finished = finished.clamp(given, now);
                RunTimes { started: started.clamp(given, finished), finished }
            });
            Kind::JobFinished { job: job.clone(), exit, times }
        }
        End::NotStarted(reason) | End::OverLimit(reason) => {
            Kind::JobState { job: job.clone(), state: JobState::Error, reason: Some(reason) }
        }
    };
    Settled { kinds: vec![kind], output: Some((job, output)) }
}

/// Time without a new VM for a job whose VM was destroyed because it started no job: other jobs show meanwhile
/// which of the two is at fault.
const RETURNED_REST: Duration = Duration::from_secs(60);

/// A job that its host did not start waits again. A VM that fails several in a row is destroyed.
fn returned(view: &View, vm: &str, job: Name, error: String, now: Time) -> Vec<Kind> {
    let Some(it) = view.vms.get(vm) else { return Vec::new() };
    let (vm, failed) = (it.id.clone(), it.failed_starts.saturating_add(1));
    let struck = failed >= FAILED_STARTS_MAX && it.destroy.is_none();
    let why = format!("it could not start {failed} jobs in a row: {error}");
    let count = it.error_count.saturating_add(1);
    let noted = Kind::VmFailed { vm: vm.clone(), error: error.clone(), error_count: count };
    let banned_until = struck.then(|| now.after(RETURNED_REST));
    let mut kinds = vec![Kind::JobReturned { job, vm: vm.clone(), error, banned_until }, noted];
    kinds.extend(struck.then_some(Kind::VmDestroy { vm, why }));
    kinds
}

/// The job of a VM that broke waits again, but not for ever.
fn gone(view: &View, vm: Name, config: &SchedulerConfig) -> Vec<Kind> {
    let Some(it) = view.vms.get(&vm) else { return Vec::new() };
    let why = it.destroy.clone().unwrap_or_else(|| "its cloud let go of it".into());
    let mut kinds = vec![Kind::VmGone { vm, why: why.clone() }];
    let broke = matches!(it.state, VmState::Error | VmState::Shutdown);
    let job = it.job.as_ref().and_then(|job| view.jobs.get(job)).filter(|_| broke);
    let breakages = |job: &Job| job.breakages.saturating_add(1);
    if let Some(job) = job.filter(|job| breakages(job) >= config.max_job_attempts.get()) {
        let reason = Some(format!("{} VMs broke under it, the last one: {why}", breakages(job)));
        kinds.push(Kind::JobState { job: job.id.clone(), state: JobState::Error, reason });
    }
    kinds
}

#[cfg(test)]
mod tests;
