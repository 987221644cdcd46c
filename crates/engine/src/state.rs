//! The state is a fold: [`apply`] is the only place where it changes.
//!
//! Pure. An event that names something unknown changes nothing but the sequence number: whether it
//! may happen was settled before it was written.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, LazyLock, Mutex},
};

use pileus_model::{
    BlockedCloud, BootFailure, CloudHealth, Event, FAILED_STARTS_MAX, ImageRecord, Job, JobPlace, JobState,
    Kind, Name, Proxy, RunTimes, Size, Time, UsedKey, View, Vm, VmState, reason::VM_LOST,
};

use crate::{
    clock_set::move_times,
    hub::lock,
    waiting::{count, part},
};

/// Who reads the alias file and the user-limit file. What it sets goes when it goes from the file.
pub const FILES: &str = "[files]";

/// How many run times a VM remembers.
const RUNS_KEPT: usize = 10;

/// How many failed boots a job remembers.
const FAILURES_KEPT: usize = 32;

/// How many boots an image remembers in each cloud.
const BOOTS_KEPT: usize = 10;

/// How many images a cloud remembers; beyond that, those that failed longest ago are forgotten.
const IMAGES_KEPT: usize = 1000;

/// Puts `event` into `view`. Events come in order and without a gap.
pub fn apply(view: &mut View, event: &Event) {
    view.seq = event.seq;
    let now = event.time;
    match &event.kind {
        Kind::CloudSet(cloud) => {
            let used = view.clouds.get(&cloud.name).map_or_else(Size::default, |old| old.used);
            let mut cloud = cloud.clone();
            cloud.used = used;
            view.health.remove(&cloud.name);
            view.clouds.insert(cloud.name.clone(), Arc::new(cloud));
        }
        Kind::CloudRetired { cloud } => with(&mut view.clouds, cloud, |cloud| cloud.retired = true),
        Kind::CloudGone { cloud } => {
            view.clouds.remove(cloud);
            view.images.remove(cloud);
            view.health.remove(cloud);
        }
        Kind::CloudEnabled { cloud, enabled } => {
            // An administrator who enables a cloud has it tried at once.
            view.health.remove(cloud);
            with(&mut view.clouds, cloud, |cloud| {
                cloud.enabled_by_admin = Some(*enabled);
                cloud.draining &= !enabled;
            });
        }
        Kind::CloudDraining { cloud } => with(&mut view.clouds, cloud, |cloud| cloud.draining = true),
        Kind::CloudSlots { cloud, vm_slots } => {
            with(&mut view.clouds, cloud, |cloud| cloud.vm_slots_by_admin = Some(*vm_slots));
        }
        Kind::VmRequested(vm) => {
            view.vms.insert(vm.id.clone(), Arc::new(vm_sharing(vm.clone())));
            with(&mut view.clouds, &vm.cloud, |cloud| cloud.used = plus(cloud.used, vm.size()));
        }
        Kind::VmHandle { vm, handle, hostname, address } => with(&mut view.vms, vm, |vm| {
            (vm.handle, vm.hostname, vm.address) = (handle.clone(), hostname.clone(), address.clone());
            if vm.state == VmState::Starting {
                vm.error_count = 0;
            }
        }),
        Kind::VmState { vm, state } => with(&mut view.vms, vm, |vm| {
            (vm.state, vm.changed) = (*state, now);
            if *state == VmState::Running {
                vm.running.get_or_insert(now);
            }
            if matches!(state, VmState::Running | VmState::Starting) {
                vm.error_count = 0;
            }
        }),
        Kind::VmRegistered { vm } => vm_registered(view, vm, now),
        Kind::VmOverride { vm, state, force_retire } => with(&mut view.vms, vm, |vm| {
            (vm.override_state, vm.force_retire) = (*state, *force_retire);
        }),
        Kind::VmDestroy { vm, why } => with(&mut view.vms, vm, |vm| {
            vm.destroy.get_or_insert_with(|| why.clone());
        }),
        Kind::VmFailed { vm, error, error_count } => with(&mut view.vms, vm, |vm| {
            (vm.last_error, vm.error_count) = (Some(error.clone()), *error_count);
        }),
        Kind::BootFailed { vm: _, job, image, failure, blocked_until, banned_until } => {
            if let Some(job) = job {
                with_job(view, job, |job| boot_failed(job, failure, *blocked_until, *banned_until));
            }
            cloud_failed(view, failure, image.as_ref());
            if let Some(image) = image.as_ref().filter(|_| failure.fault.is_of_the_vm()) {
                image_booted(view, &failure.cloud, image, Some(failure));
            }
        }
        Kind::VmGone { vm, why } => vm_gone(view, vm, why),
        Kind::JobSubmitted(job) => {
            forget_job(view, &job.id);
            let job = Arc::new(job_sharing(job.clone()));
            view.index.add(&job.id, JobPlace::of(&job));
            count(view, &job.project, None, part(&job));
            view.jobs.insert(job.id.clone(), job);
        }
        Kind::JobScheduled { job, vm: _ } => with_job(view, job, |job| {
            (job.state, job.reason) = (JobState::Scheduled, None);
        }),
        Kind::JobStarted { job, vm } => job_started(view, job, vm, now),
        Kind::JobFinished { job, exit, times } => {
            with_job(view, job, |job| {
                (job.state, job.reason) = (JobState::Complete, None);
                (job.finished, job.exit) = (Some(now), Some(*exit));
                if let Some(RunTimes { started, finished }) = *times {
                    (job.started, job.finished) = (Some(started), Some(finished));
                }
            });
            if let Some(vm) = leave_vm(view, job, times.map_or(now, |times| times.finished), now) {
                with(&mut view.vms, &vm, |vm| {
                    (vm.failed_starts, vm.failed_several, vm.failed_job) = (0, false, None);
                });
                job_ended(view, &vm);
            }
        }
        Kind::JobReturned { job, vm, error, banned_until } => {
            job_returned(view, job, vm, error, *banned_until, now);
        }
        Kind::JobState { job, state, reason } => {
            let _ = leave_vm(view, job, now, now);
            with_job(view, job, |job| {
                (job.state, job.reason) = (*state, reason.clone());
                job.finished = state.is_final().then_some(now);
            });
        }
        Kind::JobReason { job, reason } => with_job(view, job, |job| job.reason.clone_from(reason)),
        Kind::JobsForgotten { jobs } => jobs.iter().for_each(|job| forget_job(view, job)),
        Kind::AliasSet { alias, clouds } => {
            view.aliases.insert(alias.clone(), clouds.as_slice().into());
            belongs(&mut view.file_aliases, alias, &event.by.user);
        }
        Kind::AliasGone { alias } => {
            view.aliases.remove(alias);
            view.file_aliases.remove(alias);
        }
        Kind::UserLimit { user, vms: Some(vms) } => {
            view.user_limits.insert(user.clone(), *vms);
            belongs(&mut view.file_limits, user, &event.by.user);
        }
        Kind::UserLimit { user, vms: None } => {
            view.user_limits.remove(user);
            view.file_limits.remove(user);
        }
        Kind::ProxyRenewed { user, which, expires, server } => {
            let proxies = view.proxies.entry(user.clone()).or_default();
            let proxy = Proxy { expires: *expires, renewed: now, server: server.clone() };
            *Arc::make_mut(proxies).get_mut(*which) = Some(proxy);
        }
        Kind::TokenCreated(token) => {
            drop(view.tokens.insert(token.sha256.clone(), Arc::new(token.clone())));
        }
        Kind::TokenRevoked { sha256, name: _ } => drop(view.tokens.remove(sha256)),
        Kind::KeyUsed { key, request, command, id } => {
            with_key(view, key, request, event, |it| it.done.push((command.clone(), id.clone())));
        }
        Kind::KeyAnswered { key, request, answer } => {
            with_key(view, key, request, event, |it| it.answer = Some(answer.clone()));
        }
        Kind::KeysForgotten { keys } => {
            for key in keys {
                if let Some(old) = view.keys.remove(key) {
                    view.keys_by_age.remove(&old.seq);
                }
            }
        }
        Kind::ClockSet { by_ms, since } => move_times(view, *by_ms, *since, now),
        // It tells of the process, which is not in the state.
        Kind::ServiceAction { .. } => (),
    }
}

/// Names that many jobs and VMs have in common. They are kept once: that saves memory, and whoever looks
/// at 100 000 jobs knows their users and types by the address.
static SHARED: LazyLock<Mutex<HashSet<Name>>> = LazyLock::new(Mutex::default);

/// So many shared names are kept before it is looked which of them nobody has any more.
const SHARED_FEW: usize = 4096;

/// The same name, at the one address that it has.
fn shared(names: &mut HashSet<Name>, name: &mut Name) {
    match names.get(name) {
        Some(known) => *name = known.clone(),
        None => {
            if names.len() >= SHARED_FEW && names.len() == names.capacity() {
                names.retain(|name| Arc::strong_count(name) > 1);
            }
            names.insert(name.clone());
        }
    }
}

pub fn job_sharing(mut job: Job) -> Job {
    let mut names = lock(&SHARED);
    let Job { project, user, vm_type, source, .. } = &mut job;
    [project, user, vm_type, source].into_iter().for_each(|name| shared(&mut names, name));
    job
}

pub fn vm_sharing(mut vm: Vm) -> Vm {
    let mut names = lock(&SHARED);
    let Vm { project, user, vm_type, cloud, .. } = &mut vm;
    [project, user, vm_type, cloud].into_iter().for_each(|name| shared(&mut names, name));
    vm
}

/// Changes one thing; nothing where it is not there.
fn with<T: Clone>(map: &mut imbl::OrdMap<Name, Arc<T>>, key: &str, change: impl FnOnce(&mut T)) {
    if let Some(it) = map.get_mut(key) {
        change(Arc::make_mut(it));
    }
}

/// Changes one job, and moves it in the index and in the counts.
fn with_job(view: &mut View, id: &str, change: impl FnOnce(&mut Job)) {
    let View { jobs, index, .. } = view;
    let Some(it) = jobs.get_mut(id) else { return };
    let (place, before) = (JobPlace::of(it), part(it));
    change(Arc::make_mut(it));
    index.shift(&it.id, &place, JobPlace::of(it));
    let (after, project) = (part(it), it.project.clone());
    count(view, &project, before, after);
}

fn forget_job(view: &mut View, id: &str) {
    if let Some(job) = view.jobs.remove(id) {
        view.index.remove(&job.id, &JobPlace::of(&job));
        count(view, &job.project, part(&job), None);
    }
}

/// Changes a key that was used; from now on, where it is new.
fn with_key(view: &mut View, key: &Name, request: &Name, event: &Event, change: impl FnOnce(&mut UsedKey)) {
    if !view.keys.contains_key(key) {
        let (seq, since, request) = (event.seq, event.time, request.clone());
        let new = UsedKey { seq, since, request, done: Vec::new(), answer: None };
        view.keys.insert(key.clone(), Arc::new(new));
        view.keys_by_age.insert(seq, key.clone());
    }
    with(&mut view.keys, key, change);
}

fn plus(a: Size, b: Size) -> Size {
    Size {
        vm_slots: a.vm_slots.saturating_add(b.vm_slots),
        memory_mib: a.memory_mib.saturating_add(b.memory_mib),
        storage_gib: a.storage_gib.saturating_add(b.storage_gib),
    }
}

fn minus(a: Size, b: Size) -> Size {
    Size {
        vm_slots: a.vm_slots.saturating_sub(b.vm_slots),
        memory_mib: a.memory_mib.saturating_sub(b.memory_mib),
        storage_gib: a.storage_gib.saturating_sub(b.storage_gib),
    }
}

fn belongs(from_file: &mut imbl::OrdSet<Name>, name: &Name, by: &str) {
    if by == FILES {
        from_file.insert(name.clone());
    } else {
        from_file.remove(name);
    }
}

/// The cloud gets back what the VM held, and its job waits again.
fn vm_gone(view: &mut View, vm: &str, why: &str) {
    let Some(vm) = view.vms.remove(vm) else { return };
    with(&mut view.clouds, &vm.cloud, |cloud| cloud.used = minus(cloud.used, vm.size()));
    let Some(job) = &vm.job else { return };
    let broke = matches!(vm.state, VmState::Error | VmState::Shutdown);
    with_job(view, job, |job| {
        job.state = JobState::New;
        job.breakages = job.breakages.saturating_add(u32::from(broke));
        job.reason = Some(format!("{VM_LOST}{why}"));
        job.setback.clone_from(&job.reason);
        (job.vm, job.cloud) = (None, None);
    });
}

fn job_started(view: &mut View, job: &Name, vm: &str, now: Time) {
    let Some(on) = view.vms.get(vm).map(|vm| (vm.id.clone(), vm.cloud.clone())) else { return };
    with_job(view, job, |it: &mut Job| {
        (it.state, it.reason) = (JobState::Running, None);
        (it.started, it.finished, it.exit) = (Some(now), None, None);
        (it.vm, it.cloud) = (Some(on.0), Some(on.1));
        it.attempts = it.attempts.saturating_add(1);
        (it.failures, it.blocked_clouds, it.banned_until) = (Vec::new(), Vec::new(), None);
    });
    with(&mut view.vms, vm, |vm: &mut Vm| (vm.job, vm.idle_since) = (Some(job.clone()), None));
}

fn vm_registered(view: &mut View, vm: &str, now: Time) {
    let Some(it) = view.vms.get(vm).filter(|vm| vm.registered.is_none()) else { return };
    let (cloud, booted) = (it.cloud.clone(), it.image.clone().map(|image| (it.cloud.clone(), image)));
    health(view, &cloud, |health| (health.unregistered, health.image) = (0, None));
    with(&mut view.vms, vm, |vm: &mut Vm| {
        vm.registered = Some(now);
        vm.idle_since = vm.job.is_none().then_some(now);
    });
    if let Some((cloud, image)) = booted {
        image_booted(view, &cloud, &image, None);
    }
}

/// Changes what is known of a cloud's failures. A cloud without any has no entry.
fn health(view: &mut View, cloud: &Name, change: impl FnOnce(&mut CloudHealth)) {
    let old = view.health.get(cloud);
    let mut new = old.cloned().unwrap_or_default();
    change(&mut new);
    if new == CloudHealth::default() || !view.clouds.contains_key(cloud) {
        if old.is_some() {
            view.health.remove(cloud);
        }
    } else if old != Some(&new) {
        view.health.insert(cloud.clone(), new);
    }
}

fn cloud_failed(view: &mut View, failure: &BootFailure, image: Option<&Name>) {
    if failure.fault.is_of_the_vm() {
        health(view, &failure.cloud, |health| {
            let again = image.is_some() && health.image.as_ref() == image;
            health.unregistered = health.unregistered.saturating_add(u32::from(!again));
            health.image = image.cloned();
        });
    }
}

fn job_ended(view: &mut View, vm: &str) {
    if let Some(cloud) = view.vms.get(vm).map(|vm| vm.cloud.clone()) {
        health(view, &cloud, |health| (health.jobless, health.job) = (0, None));
    }
}

fn job_returned(view: &mut View, job: &Name, vm: &Name, error: &str, banned: Option<Time>, now: Time) {
    with_job(view, job, |job| {
        job.state = JobState::New;
        job.reason = Some(format!("VM {vm} could not start it: {error}"));
        job.setback.clone_from(&job.reason);
        job.returns = job.returns.saturating_add(1);
        job.banned_until = banned;
        (job.vm, job.cloud) = (None, None);
    });
    with(&mut view.vms, vm, |vm: &mut Vm| {
        (vm.job, vm.idle_since) = (None, Some(now));
        vm.failed_starts = vm.failed_starts.saturating_add(1);
        vm.failed_several |= vm.failed_job.as_ref().is_some_and(|other| other != job);
        vm.failed_job = Some(job.clone());
    });
    let struck = view.vms.get(vm).filter(|vm| vm.failed_starts == FAILED_STARTS_MAX);
    if let Some((cloud, several)) = struck.map(|vm| (vm.cloud.clone(), vm.failed_several)) {
        health(view, &cloud, |health| {
            let again = !several && health.job.as_ref() == Some(job);
            health.jobless = health.jobless.saturating_add(u32::from(!again));
            health.job = Some(job.clone());
        });
    }
}

fn boot_failed(job: &mut Job, failure: &BootFailure, blocked: Option<Time>, banned: Option<Time>) {
    push(&mut job.failures, failure.clone(), FAILURES_KEPT);
    if let Some(until) = blocked {
        job.blocked_clouds.retain(|other| other.cloud != failure.cloud);
        job.blocked_clouds.push(BlockedCloud { cloud: failure.cloud.clone(), until });
    }
    job.banned_until = banned.or(job.banned_until);
}

fn image_booted(view: &mut View, cloud: &Name, image: &Name, failure: Option<&BootFailure>) {
    if !view.clouds.contains_key(cloud) {
        return;
    }
    let images = Arc::make_mut(view.images.entry(cloud.clone()).or_default());
    if images.len() >= IMAGES_KEPT && !images.contains_key(image) {
        let failed = |record: &ImageRecord| record.failure.as_ref().map(|failure| failure.at);
        let oldest = images.iter().min_by_key(|(_, record)| failed(record)).map(|(image, _)| image.clone());
        oldest.map(|image| images.remove(&image));
    }
    let record: &mut ImageRecord = BTreeMap::entry(images, image.clone()).or_default();
    push(&mut record.boots, failure.is_none(), BOOTS_KEPT);
    if let Some(failure) = failure {
        record.failure = Some(failure.clone());
    }
}

/// The oldest goes where there are too many.
fn push<T>(list: &mut Vec<T>, it: T, most: usize) {
    if list.len() >= most {
        list.remove(0);
    }
    list.push(it);
}

/// Lets the VM of `job`, if it has one, idle from now on. The job's process ended at `ended`. Returns the VM.
fn leave_vm(view: &mut View, job: &str, ended: Time, now: Time) -> Option<Name> {
    let (vm, started) = view.jobs.get(job).and_then(|it| Some((it.vm.clone()?, it.started)))?;
    with(&mut view.vms, &vm, |vm: &mut Vm| {
        if vm.job.as_deref() != Some(job) {
            return;
        }
        (vm.job, vm.idle_since) = (None, Some(now));
        push(&mut vm.job_runs_s, started.map_or(0, |at| ended.since(at).as_secs()), RUNS_KEPT);
    });
    Some(vm)
}

#[cfg(test)]
mod tests {
    use pileus_model::Exit;

    use super::*;
    use crate::testing::{self, cloud, happen, idle_vm, job};

    #[test]
    fn a_job_that_loses_its_vm_waits_again_and_remembers_its_attempts() {
        let mut view = testing::view([cloud("c", 3)]);
        testing::add(&mut view, [job("j")], [idle_vm("v", "c"), idle_vm("w", "c")]);
        assert_eq!(view.clouds["c"].used, Size { vm_slots: 2, memory_mib: 200, storage_gib: 2 });
        happen(&mut view, Time(5000), [Kind::JobStarted { job: "j".into(), vm: "v".into() }]);
        let (it, on) = (&view.jobs["j"], &view.vms["v"]);
        assert_eq!((it.state, it.attempts, it.started), (JobState::Running, 1, Some(Time(5000))));
        assert_eq!((it.vm.as_deref(), it.cloud.as_deref()), (Some("v"), Some("c")));
        assert_eq!((on.job.as_deref(), on.idle_since), (Some("j"), None));
        happen(&mut view, Time(6000), [Kind::VmGone { vm: "v".into(), why: "fire".into() }]);
        let it = &view.jobs["j"];
        assert_eq!((it.state, it.attempts, it.vm.clone()), (JobState::New, 1, None));
        assert_eq!(it.reason.as_deref(), Some("its VM was lost: fire"));
        assert_eq!(view.clouds["c"].used, Size { vm_slots: 1, memory_mib: 100, storage_gib: 1 });
        let exit = Exit::Code(3);
        happen(&mut view, Time(7000), [Kind::JobStarted { job: "j".into(), vm: "w".into() }]);
        happen(&mut view, Time(9500), [Kind::JobFinished { job: "j".into(), exit, times: None }]);
        let (it, on) = (&view.jobs["j"], &view.vms["w"]);
        assert_eq!((it.state, it.attempts, it.exit), (JobState::Complete, 2, Some(exit)));
        assert_eq!((it.finished, it.vm.as_deref()), (Some(Time(9500)), Some("w")));
        assert_eq!((on.job.clone(), on.idle_since, &*on.job_runs_s), (None, Some(Time(9500)), &[2][..]));
    }

    #[test]
    fn a_vm_remembers_ten_runs() {
        let mut view = testing::view([cloud("c", 3)]);
        testing::add(&mut view, (0..12).map(|at| job(&at.to_string())), [idle_vm("v", "c")]);
        for at in 0..12 {
            let job: Name = at.to_string().into();
            happen(&mut view, Time(0), [Kind::JobStarted { job: job.clone(), vm: "v".into() }]);
            happen(&mut view, Time(at * 1000), [Kind::JobFinished { job, exit: Exit::Code(0), times: None }]);
        }
        assert_eq!(view.vms["v"].job_runs_s, (2..12).collect::<Vec<_>>());
    }

    #[test]
    fn a_vm_counts_bad_polls_in_a_row() {
        let mut view = testing::view([cloud("c", 3)]);
        testing::add(&mut view, [], [idle_vm("v", "c")]);
        let failed = |error_count| Kind::VmFailed { vm: "v".into(), error: "e".into(), error_count };
        let state = |state| Kind::VmState { vm: "v".into(), state };
        happen(&mut view, Time(1), [state(VmState::Error), failed(1), failed(2)]);
        assert_eq!((view.vms["v"].error_count, view.vms["v"].changed), (2, Time(1)));
        happen(&mut view, Time(2), [state(VmState::Running)]);
        assert_eq!((view.vms["v"].error_count, view.vms["v"].running), (0, Some(Time(0))));
    }

    #[test]
    fn settings_of_a_cloud_do_not_touch_what_it_holds() {
        let mut view = testing::view([cloud("c", 3)]);
        testing::add(&mut view, [], [idle_vm("v", "c")]);
        happen(&mut view, Time(0), [Kind::CloudSet(cloud("c", 9))]);
        assert_eq!((view.clouds["c"].used.vm_slots, view.clouds["c"].vm_slots()), (1, 9));
    }

    #[test]
    fn what_a_file_brought_is_known_until_somebody_else_sets_it() {
        let mut view = View::default();
        let by = |user: &str| pileus_model::Actor { user: user.into(), ..Default::default() };
        let set = || Kind::AliasSet { alias: "a".into(), clouds: vec!["c".into()] };
        for (user, kind, wanted) in [
            (FILES, set(), true),
            ("ann", set(), false),
            (FILES, set(), true),
            (FILES, Kind::AliasGone { alias: "a".into() }, false),
        ] {
            let seq = view.seq + 1;
            apply(&mut view, &Event { seq, time: Time(0), by: by(user), owner: Default::default(), kind });
            assert_eq!(view.file_aliases.contains("a"), wanted);
        }
    }

    #[test]
    fn events_about_what_is_not_there_change_nothing() {
        let before = testing::view([cloud("c", 3)]);
        let vm = || Name::from("nobody");
        let kinds = [
            Kind::VmGone { vm: vm(), why: String::new() },
            Kind::VmState { vm: vm(), state: VmState::Error },
            Kind::JobStarted { job: vm(), vm: vm() },
            Kind::JobFinished { job: vm(), exit: Exit::Code(0), times: None },
            Kind::CloudGone { cloud: vm() },
        ];
        let mut view = before.clone();
        happen(&mut view, Time(9), kinds);
        view.seq = before.seq;
        assert_eq!(view, before);
    }
}
