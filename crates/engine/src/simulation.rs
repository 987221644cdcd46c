//! A random life of the engine, without I/O: the same seed, the same life.
//!
//! After every step it checks what must always hold.

use std::collections::{BTreeMap, HashMap, HashSet};

use pileus_model::{
    Actor, CloudSpec, Command, Event, Exit, JobIndex, JobSpec, JobState, KeptAnswer, Kind, Name, Output,
    Refusal, Size, Time, View, VmState,
};

use crate::{
    Ids, SchedulerConfig, apply, assign,
    change::{Change, Settled, settle},
    decide,
    desk::{End, JobResult},
    drivers::Seen,
    owner::owner,
    plan,
    schedule::cleanup::cleanup,
    schedule::plan::Intent,
    testing,
    waiting::count_all,
};

/// Source: splitmix64, <https://prng.di.unimi.it/splitmix64.c>.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(limit).unwrap()).unwrap()
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

pub struct Simulation {
    random: Random,
    view: View,
    now: Time,
    ids: Ids,
    config: SchedulerConfig,
    events: Vec<Event>,
    /// What each kind of step has done, so that a test can see that it was not idle.
    pub seen: BTreeMap<&'static str, usize>,
}

impl Simulation {
    pub fn new(seed: u64) -> Self {
        let mut it = Self {
            random: Random::new(seed),
            view: View::default(),
            now: Time(1_000_000),
            ids: Ids::default(),
            config: SchedulerConfig { max_starting_vms: Some(6), job_retention_s: 900, ..Default::default() },
            events: Vec::new(),
            seen: BTreeMap::new(),
        };
        let cloud = |name: &str, vm_slots, memory_mib| {
            (name.to_owned(), CloudSpec { memory_mib, cpu_cores: 4, ..testing::spec(vm_slots) })
        };
        let clouds = vec![cloud("one", 5, 3000), cloud("two", 3, 100_000), cloud("Three", 4, 8000)];
        it.change(Change::Configure { clouds });
        it
    }

    pub fn view(&self) -> &View {
        &self.view
    }

    pub fn config(&self) -> &SchedulerConfig {
        &self.config
    }

    pub fn now(&self) -> Time {
        self.now
    }

    /// Does something; answers with what happened.
    pub fn step(&mut self) -> Vec<Event> {
        match self.random.below(20) {
            0..=3 => self.submit(),
            4..=6 => self.schedule(),
            7 | 8 => self.give_jobs(),
            9 => self.clean(),
            10..=15 => self.vms(),
            16 => self.administer_jobs(),
            17 => self.administer_vms(),
            18 => self.administer_clouds(),
            _ => self.now.0 += i64::try_from(self.random.below(40_000)).unwrap(),
        }
        std::mem::take(&mut self.events)
    }

    fn submit(&mut self) {
        let targets: [&[&str]; 5] = [&[], &[], &["ONE"], &["west", "two"], &["nowhere"]];
        let spec = JobSpec {
            project: self.random.pick(&["p", "q"]).into(),
            user: self.random.pick(&["alice", "bob", "carol"]).into(),
            command: vec!["true".into()],
            vm_type: self.random.pick(&["t1", "t2"]).into(),
            cpu_cores: self.random.pick(&[1, 1, 2, 9]),
            memory_mib: self.random.pick(&[100, 500, 1500, 200_000]),
            storage_gib: self.random.pick(&[0, 1, 10]),
            priority: self.random.pick(&[0, 0, 5]),
            high_priority: self.random.chance(10),
            keep_alive_s: self.random.pick(&[None, Some(0), Some(30)]),
            target_clouds: self.random.pick(&targets).iter().map(|&name| name.to_owned()).collect(),
            image: self.random.pick(&[None, Some("good".into()), Some("bad".into())]),
            user_type_limit: self.random.pick(&[None, None, None, Some(2)]),
        };
        self.command(Command::SubmitJob(Box::new(spec)));
    }

    fn schedule(&mut self) {
        for intent in plan(&self.view, self.now, &self.config) {
            self.change(match intent {
                Intent::Boot { job, cloud } => Change::Boot { job, cloud },
                Intent::Reason { job, reason } => Change::Reason { job, reason },
            });
        }
    }

    fn give_jobs(&mut self) {
        for (job, vm) in assign(&self.view, self.config.algorithm) {
            self.change(Change::Start { job, vm });
        }
    }

    fn clean(&mut self) {
        let goes = |change: &Change| {
            matches!(
                change,
                Change::Destroy { .. }
                    | Change::Broken { .. }
                    | Change::GiveUp { .. }
                    | Change::Shrink { .. }
            )
        };
        let first = cleanup(&self.view, self.now, &self.config);
        let mut went = first.iter().any(goes);
        first.into_iter().for_each(|change| self.change(change));
        // What nobody disturbs is done at once; another look finds nothing but jobs that waited for a
        // VM which has to go.
        for _ in 0..2 {
            let again = cleanup(&self.view, self.now, &self.config);
            let goes_again = again.iter().any(goes);
            for change in again {
                let done = match &change {
                    Change::Retire { .. } | Change::Forget { .. } => true,
                    Change::Unschedule { .. } => !went,
                    _ => false,
                };
                assert!(!done, "cleaning up is idempotent: {change:?}");
                self.change(change);
            }
            went = goes_again;
        }
    }

    /// What a cloud and a worker do with one VM.
    fn vms(&mut self) {
        let vms: Vec<_> = self.view.vms.values().cloned().collect();
        if vms.is_empty() {
            return;
        }
        let vm = self.random.pick(&vms);
        let id = vm.id.clone();
        let change = match self.random.below(8) {
            _ if vm.destroy.is_some() && self.random.chance(80) => Change::Gone { vm: id },
            0 | 1 if vm.handle.is_empty() && self.random.chance(20) => {
                Change::NotCreated { vm: id, error: "no".into(), full: self.random.chance(30) }
            }
            0 | 1 if vm.handle.is_empty() => Change::Created { vm: id, handle: "h".into() },
            2 | 3 => Change::Registered { vm: id },
            4 | 5 => {
                let job = vm.job.clone().unwrap_or_else(|| "another".into());
                let end = if eats(&id) {
                    End::HostFault(NO_SPACE.into())
                } else if self.random.chance(95) {
                    End::Exited(Exit::Code(0))
                } else {
                    End::NotStarted("no such program".into())
                };
                Change::Finished { vm: id, job, result: Box::new(JobResult::new(end, Output::default())) }
            }
            _ => {
                let bad = self.random.chance(30);
                let state = if bad { VmState::Error } else { VmState::Running };
                let seen = Seen { state, hostname: "host".into(), address: String::new(), lost: None };
                Change::Polled { vm: id, seen }
            }
        };
        self.change(change);
    }

    fn administer_jobs(&mut self) {
        let jobs: Vec<Name> = self.view.jobs.keys().cloned().collect();
        if jobs.is_empty() {
            return;
        }
        let job = self.random.pick(&jobs);
        let command = match self.random.below(4) {
            0 => Command::DeleteJob { job },
            1 => Command::HoldJob { job, reason: "wait".into() },
            _ => Command::ReleaseJob { job },
        };
        self.command(command);
    }

    fn administer_vms(&mut self) {
        let vms: Vec<Name> = self.view.vms.keys().cloned().collect();
        if vms.is_empty() || self.random.chance(50) {
            return;
        }
        let vms = vec![self.random.pick(&vms)];
        let command = match self.random.below(4) {
            0 => Command::ShutdownVms { vms, why: "asked".into() },
            1 => Command::RetireVms { vms },
            2 => Command::RemoveVms { vms },
            _ => Command::ResetVm { vm: vms[0].clone() },
        };
        self.command(command);
    }

    fn administer_clouds(&mut self) {
        let cloud: Name = self.random.pick(&["one", "TWO", "three", "four"]).into();
        let spec = testing::spec(u32::try_from(self.random.below(4)).unwrap());
        let command = match self.random.below(9) {
            0 => Command::CreateCloud { cloud, spec },
            1 => Command::UpdateCloud { cloud, spec },
            2 => Command::DeleteCloud { cloud },
            3 if self.random.chance(20) => Command::DrainCloud { cloud },
            3 => Command::EnableCloud { cloud, enabled: self.random.chance(70) },
            4 => Command::SetSlots { cloud, vm_slots: u32::try_from(self.random.below(7)).unwrap() },
            5 => {
                let vms = self.random.pick(&[None, Some(0), Some(2), Some(9)]);
                Command::SetUserLimit { user: self.random.pick(&["alice", "bob"]).into(), vms }
            }
            6 => Command::SetAlias { alias: "west".into(), clouds: vec!["one".into(), "four".into()] },
            7 => Command::DeleteAlias { alias: "west".into() },
            _ => Command::CreateToken {
                sha256: format!("{:064x}", self.random.below(9)).into(),
                name: "t".into(),
                user: "alice".into(),
                project: "p".into(),
                roles: Vec::new(),
                expires: self.random.pick(&[None, Some(Time(i64::MAX))]),
                replaces: self.random.pick(&[false, true]),
            },
        };
        self.command(command);
    }

    fn command(&mut self, command: Command) {
        match decide(&self.view, command, self.now, &mut self.ids) {
            Ok(kinds) => self.happen(kinds.into()),
            Err(refusal) => {
                let usual = matches!(refusal, Refusal::NotFound { .. } | Refusal::Conflict(_));
                assert!(usual, "an ordinary command is {refusal:?}");
            }
        }
    }

    fn change(&mut self, change: Change) {
        let settled = settle(&self.view, change, self.now, &mut self.ids, &self.config).unwrap();
        self.happen(settled);
    }

    fn happen(&mut self, settled: Settled) {
        let before = self.view.clone();
        for kind in settled.kinds {
            *self.seen.entry(name(&kind)).or_default() += 1;
            let by = Actor { user: "ann".into(), ..Actor::default() };
            let event =
                Event { seq: self.view.seq + 1, time: self.now, by, owner: owner(&self.view, &kind), kind };
            apply(&mut self.view, &event);
            self.events.push(event);
        }
        check(&before, &self.view);
        check_host_faults(&before, &self.view);
    }
}

/// Error of a VM that starts no job.
pub const NO_SPACE: &str = "no space left";

/// Returns `true` if the VM starts no job.
fn eats(vm: &str) -> bool {
    vm.bytes().map(u32::from).sum::<u32>().is_multiple_of(4)
}

/// A cloud whose VMs fail is given one VM at a time, and a fault of a host ends no job.
pub fn check_host_faults(before: &View, view: &View) {
    for vm in view.vms.values().filter(|vm| !before.vms.contains_key(&vm.id)) {
        let health = before.health.get(&vm.cloud).filter(|health| health.is_suspect());
        let probes = health
            .map_or(0, |health| before.vms_of(&vm.cloud).filter(|other| health.is_unproven(other)).count());
        assert_eq!(probes, 0, "{} boots in {}, which is being probed", vm.id, vm.cloud);
    }
    for job in view.jobs.values().filter(|job| job.state == JobState::Error) {
        let reason = job.reason.as_deref().unwrap_or_default();
        assert!(!reason.contains(NO_SPACE), "{} ends by a fault of a host: {reason}", job.id);
    }
}

/// What must hold whatever happens.
pub fn check(before: &View, view: &View) {
    // Building it costs by all jobs, so that not every event is followed by a look.
    if view.seq.is_multiple_of(32) {
        assert_eq!(view.index, JobIndex::of(view.jobs.values()), "the index has every job at its place");
    }
    for cloud in view.clouds.values() {
        let mut sum = Size::default();
        for vm in view.vms_of(&cloud.name) {
            sum.vm_slots += 1;
            sum.memory_mib += vm.memory_mib;
            sum.storage_gib += vm.storage_gib;
        }
        assert_eq!(cloud.used, sum, "cloud {} counts what it holds", cloud.name);
        let had = before.clouds.get(&cloud.name).map_or(Size::default(), |cloud| cloud.used);
        if sum.vm_slots > had.vm_slots {
            assert!(sum.vm_slots <= cloud.vm_slots(), "no slot of {} is over-used", cloud.name);
            assert!(sum.memory_mib <= cloud.spec.memory_mib, "no memory of {} is over-used", cloud.name);
            assert!(sum.storage_gib <= cloud.spec.storage_gib, "no storage of {} is over-used", cloud.name);
            assert!(cloud.enabled(), "nothing boots in {}, which is disabled", cloud.name);
        }
    }
    let mut busy = HashSet::new();
    let mut users: HashMap<(&str, &str), (u32, u32)> = HashMap::new();
    for vm in before.vms.values() {
        users.entry((&*vm.project, &*vm.user)).or_default().0 += 1;
    }
    for vm in view.vms.values() {
        users.entry((&*vm.project, &*vm.user)).or_default().1 += 1;
        assert!(view.clouds.contains_key(&vm.cloud), "VM {} has a cloud", vm.id);
        let Some(job) = &vm.job else { continue };
        let started = before.vms.get(&vm.id).is_some_and(|old| old.job.as_ref() != Some(job));
        assert!(
            !(started && view.clouds[&vm.cloud].draining),
            "nothing starts in {}, which drains",
            vm.cloud
        );
        assert!(busy.insert(job), "job {job} runs on one VM");
        let job = &view.jobs[job];
        assert_eq!((job.state, job.vm.as_ref()), (JobState::Running, Some(&vm.id)), "VM and job agree");
        assert_eq!(
            (&job.project, &job.user, &job.vm_type),
            (&vm.project, &vm.user, &vm.vm_type),
            "a VM runs the jobs of its owner alone"
        );
        assert!(job.memory_mib <= vm.memory_mib && job.cpu_cores <= vm.cpu_cores, "a job fits its VM");
    }
    let mut again = view.clone();
    count_all(&mut again);
    assert_eq!(again.waiting, view.waiting, "waiting jobs are counted");
    let running = view.jobs.values().filter(|job| job.state == JobState::Running).count();
    assert_eq!(running, busy.len(), "who runs, runs on a VM");
    for ((project, user), (had, has)) in users {
        if let Some(limit) = view.user_limit(project, user) {
            assert!(has <= had || has <= limit, "{user} is not over the limit");
        }
    }
}

/// Seeds that a test runs: `PILEUS_SEED=n` is one, `PILEUS_SEEDS=n` the first n; else a `few`.
pub fn seeds(few: u64) -> Vec<u64> {
    let said = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    match said("PILEUS_SEED") {
        Some(seed) => vec![seed],
        None => (0..said("PILEUS_SEEDS").unwrap_or(few)).collect(),
    }
}

fn name(kind: &Kind) -> &'static str {
    match kind {
        Kind::CloudSet(_) => "cloud_set",
        Kind::CloudRetired { .. } => "cloud_retired",
        Kind::CloudGone { .. } => "cloud_gone",
        Kind::CloudEnabled { .. } => "cloud_enabled",
        Kind::CloudDraining { .. } => "cloud_draining",
        Kind::CloudSlots { .. } => "cloud_slots",
        Kind::VmRequested(_) => "vm_requested",
        Kind::VmHandle { .. } => "vm_handle",
        Kind::VmState { .. } => "vm_state",
        Kind::VmRegistered { .. } => "vm_registered",
        Kind::VmOverride { .. } => "vm_override",
        Kind::VmDestroy { .. } => "vm_destroy",
        Kind::VmFailed { .. } => "vm_failed",
        Kind::BootFailed { .. } => "boot_failed",
        Kind::VmGone { .. } => "vm_gone",
        Kind::JobSubmitted(_) => "job_submitted",
        Kind::JobScheduled { .. } => "job_scheduled",
        Kind::JobStarted { .. } => "job_started",
        Kind::JobReturned { .. } => "job_returned",
        Kind::JobFinished { .. } => "job_finished",
        Kind::JobState { .. } => "job_state",
        Kind::JobReason { .. } => "job_reason",
        Kind::JobsForgotten { .. } => "jobs_forgotten",
        Kind::AliasSet { .. } => "alias_set",
        Kind::AliasGone { .. } => "alias_gone",
        Kind::UserLimit { .. } => "user_limit",
        Kind::ProxyRenewed { .. } => "proxy_renewed",
        Kind::TokenCreated(_) => "token_created",
        Kind::TokenRevoked { .. } => "token_revoked",
        Kind::KeyUsed { .. } => "key_used",
        Kind::KeyAnswered { .. } => "key_answered",
        Kind::KeysForgotten { .. } => "keys_forgotten",
        Kind::ClockSet { .. } => "clock_set",
        Kind::ServiceAction { .. } => "service_action",
    }
}

/// Every kind of event but those that are made here: what a random life does not bring about by
/// itself would not be tested by it.
#[test]
fn whatever_happens_the_books_are_right_and_events_survive_json() {
    let mut kinds = BTreeMap::new();
    for seed in seeds(3) {
        let mut simulation = Simulation::new(seed);
        for _ in 0..2500 {
            for event in simulation.step() {
                let text = serde_json::to_string(&event).unwrap();
                assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event, "{text}");
                let body = serde_json::to_value(&event.kind).unwrap();
                assert_eq!(body["kind"], name(&event.kind));
            }
        }
        kinds.extend(simulation.seen);
    }
    let (key, request) = (|| "k".into(), || "r".into());
    let answer = KeptAnswer { status: 201, headers: vec![("a".into(), "b".into())], body: "{}".into() };
    let missing = [
        Kind::TokenRevoked { sha256: "ab".into(), name: None },
        Kind::KeyUsed { key: key(), request: request(), command: "c".into(), id: String::new() },
        Kind::KeyAnswered { key: key(), request: request(), answer },
        Kind::KeysForgotten { keys: vec![key()] },
        Kind::ClockSet { by_ms: -1, since: Some(Time(0)) },
        Kind::ServiceAction { action: "quick_shutdown".into(), detail: "on".into() },
    ];
    for missing in missing {
        let text = serde_json::to_string(&missing).unwrap();
        assert_eq!(serde_json::from_str::<Kind>(&text).unwrap(), missing);
        kinds.insert(name(&missing), 1);
    }
    assert_eq!(kinds.len(), 33, "every kind of event happened: {kinds:?}");
}
