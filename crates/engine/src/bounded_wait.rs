//! Bounded waits on a clock that is moved: streams of small jobs, and jobs that find no room beside them.
//!
//! Decisions are the engine's own (plan, assignment, clean-up), each repeated until nothing changes; VMs boot and
//! jobs end on time. A job that room is held for starts within twice the longest job and boot.
//! `PILEUS_SEEDS=n` runs the first n seeds, `PILEUS_SEED=n` one.

use std::collections::{BTreeMap, HashSet};

use pileus_model::{CloudSpec, Command, Exit, JobSpec, JobState, Name, Output, Time, View, VmState};

use crate::{
    Algorithm, Ids, SchedulerConfig, assign,
    change::{Change, settle},
    decide,
    desk::{End, JobResult},
    drivers::Seen,
    schedule::{
        cleanup::cleanup_without,
        plan::{Intent, cycle, plan_without},
    },
    simulation::{Random, check, seeds},
    testing,
};

/// Seeds that `cargo test` runs.
const FEW: u64 = 5;

/// Seconds from one look to the next.
const STEP_S: i64 = 5;

/// Most rounds of decisions at one moment.
const ROUNDS: usize = 100;

/// Clouds, workers and users.
struct World {
    view: View,
    now: Time,
    ids: Ids,
    config: SchedulerConfig,
    closed: HashSet<Name>,
    boot_s: i64,
    /// Seconds that each job runs.
    lasts_s: BTreeMap<Name, i64>,
    /// Jobs that are submitted again and again, so that one of each always waits.
    streams: Vec<(JobSpec, Vec<i64>)>,
    /// The job that room is held for, and since when.
    held: Option<(Name, Time)>,
    longest_wait_s: i64,
    /// Everything that happened.
    kinds: Vec<pileus_model::Kind>,
}

impl World {
    fn new(clouds: &[(&str, u32, u64)], algorithm: Algorithm, boot_s: i64) -> Self {
        let mut it = Self {
            view: View::default(),
            now: Time(1_000_000),
            ids: Ids::default(),
            config: SchedulerConfig { algorithm, ..SchedulerConfig::default() },
            closed: HashSet::new(),
            boot_s,
            lasts_s: BTreeMap::new(),
            streams: Vec::new(),
            held: None,
            longest_wait_s: 0,
            kinds: Vec::new(),
        };
        let spec =
            |slots: u32, memory_mib| CloudSpec { memory_mib, keep_alive_s: 3600, ..testing::spec(slots) };
        let clouds =
            clouds.iter().map(|(name, slots, mib)| ((*name).to_owned(), spec(*slots, *mib))).collect();
        it.change(Change::Configure { clouds });
        it
    }

    fn happen(&mut self, kinds: Vec<pileus_model::Kind>) -> bool {
        let before = self.view.clone();
        let any = !kinds.is_empty();
        self.kinds.extend(kinds.iter().cloned());
        testing::happen(&mut self.view, self.now, kinds);
        check(&before, &self.view);
        any
    }

    fn change(&mut self, change: Change) -> bool {
        let settled = settle(&self.view, change, self.now, &mut self.ids, &self.config).unwrap();
        self.happen(settled.kinds)
    }

    fn command(&mut self, command: Command) {
        let kinds = decide(&self.view, command, self.now, &mut self.ids).unwrap();
        self.happen(kinds);
    }

    fn submit(&mut self, spec: JobSpec, lasts_s: i64) -> Name {
        let kinds = decide(&self.view, Command::SubmitJob(Box::new(spec)), self.now, &mut self.ids).unwrap();
        let Some(pileus_model::Kind::JobSubmitted(job)) = kinds.first() else { panic!("{kinds:?}") };
        let id = job.id.clone();
        self.lasts_s.insert(id.clone(), lasts_s);
        self.happen(kinds);
        id
    }

    /// Users submit, clouds and workers do what the state tells them, then decisions until nothing changes.
    fn step(&mut self, random: &mut Random) {
        self.now.0 += STEP_S * 1000;
        for (spec, lasts_s) in self.streams.clone() {
            let alike = |job: &&std::sync::Arc<pileus_model::Job>| {
                (&job.user, &job.vm_type, job.memory_mib) == (&spec.user, &spec.vm_type, spec.memory_mib)
                    && job.state == JobState::New
            };
            for _ in self.view.jobs.values().filter(alike).count()..4 {
                let lasts_s = random.pick(&lasts_s);
                self.submit(spec.clone(), lasts_s);
            }
        }
        for vm in self.view.vms.values().cloned().collect::<Vec<_>>() {
            let id = vm.id.clone();
            if vm.destroy.is_some() {
                self.change(Change::Gone { vm: id });
            } else if vm.handle.is_empty() {
                self.change(Change::Created { vm: id, handle: "h".into() });
            } else if vm.registered.is_none() && self.now.0 - vm.created.0 >= self.boot_s * 1000 {
                let (hostname, address) = (String::new(), String::new());
                let seen = Seen { state: VmState::Running, hostname, address, lost: None };
                self.change(Change::Polled { vm: id.clone(), seen });
                self.change(Change::Registered { vm: id });
            } else if let Some(job) = vm.job.clone() {
                let started = self.view.jobs[&job].started.unwrap();
                if self.now.0 - started.0 >= self.lasts_s[&job] * 1000 {
                    let end = End::Exited(Exit::Code(0));
                    let result = Box::new(JobResult::new(end, Output::default()));
                    self.change(Change::Finished { vm: id, job, result });
                }
            }
        }
        let mut rounds = 0;
        let mut seq = self.view.seq;
        while self.decide() {
            rounds += 1;
            assert!(rounds < ROUNDS, "decisions come to an end: {:#?}", self.since(seq));
            seq = self.view.seq;
        }
        self.watch();
    }

    fn decide(&mut self) -> bool {
        let mut any = false;
        for (job, vm) in assign(&self.view, self.config.algorithm) {
            any |= self.change(Change::Start { job, vm });
        }
        for intent in plan_without(&self.view, self.now, &self.config, &self.closed) {
            any |= self.change(match intent {
                Intent::Boot { job, cloud } => Change::Boot { job, cloud },
                Intent::Reason { job, reason } => Change::Reason { job, reason },
            });
        }
        for change in cleanup_without(&self.view, self.now, &self.config, &self.closed) {
            any |= self.change(change);
        }
        any
    }

    /// Longest time of a running job and a boot, in seconds.
    fn bound_s(&self) -> i64 {
        let longest = self.lasts_s.values().copied().max().unwrap_or_default();
        2 * (longest + self.boot_s + 2 * STEP_S)
    }

    /// No job is first for longer than the bound.
    fn watch(&mut self) {
        let held = cycle(&self.view, self.now, &self.config, &self.closed, |cycle| {
            cycle.reservation().map(|it| it.waiting.job.id.clone())
        });
        self.held = match (self.held.take(), held) {
            (Some((was, since)), Some(is)) if was == is => Some((was, since)),
            (_, is) => is.map(|job| (job, self.now)),
        };
        if let Some((job, since)) = &self.held {
            let waits_s = (self.now.0 - since.0) / 1000;
            self.longest_wait_s = self.longest_wait_s.max(waits_s);
            let bound_s = self.bound_s();
            assert!(
                waits_s <= bound_s,
                "{job} is first for {waits_s} s, longer than {bound_s} s: {:#?}",
                self.vms()
            );
        }
    }

    /// Output of the last round.
    fn since(&self, seq: u64) -> &[pileus_model::Kind] {
        let new = usize::try_from(self.view.seq - seq).unwrap();
        &self.kinds[self.kinds.len().saturating_sub(new)..]
    }

    /// VMs and what they do, for a failed assertion.
    fn vms(&self) -> Vec<String> {
        let vm = |vm: &std::sync::Arc<pileus_model::Vm>| {
            let (age_s, state) = ((self.now.0 - vm.created.0) / 1000, vm.shown_state());
            format!(
                "{} {} {} MiB on {}, {age_s} s old: {state} {:?}",
                vm.id, vm.user, vm.memory_mib, vm.cloud, vm.job
            )
        };
        self.view.vms.values().map(vm).collect()
    }

    fn started(&self, job: &Name) -> bool {
        self.view.jobs[job].started.is_some()
    }
}

fn of(user: &str, memory_mib: u64) -> JobSpec {
    JobSpec {
        project: "p".into(),
        user: user.into(),
        command: vec!["true".into()],
        vm_type: "t".into(),
        cpu_cores: 1,
        memory_mib,
        storage_gib: 0,
        priority: 0,
        high_priority: false,
        keep_alive_s: None,
        target_clouds: Vec::new(),
        image: None,
        user_type_limit: None,
    }
}

/// Change of the cloud that room is held in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    Disabled,
    BackedOff,
}

#[test]
fn a_job_that_is_first_starts_beside_a_stream_of_smaller_ones() {
    const ONE: &[(&str, u32, u64)] = &[("a", 4, 1024)];
    const TWO: &[(&str, u32, u64)] = &[("a", 4, 1024), ("b", 4, 1024)];
    let high = |spec| JobSpec { high_priority: true, ..spec };
    let fair = Algorithm::Fairshare;
    // clouds, algorithm, stream, job, trouble
    let cases = [
        ("300 beside 256", ONE, fair, of("alice", 256), of("bob", 300), Trouble::None),
        ("513 beside 512", ONE, fair, of("alice", 512), of("bob", 513), Trouble::None),
        ("all of the cloud", ONE, fair, of("alice", 256), of("bob", 1024), Trouble::None),
        ("high priority", ONE, fair, of("alice", 256), high(of("bob", 1024)), Trouble::None),
        ("the same user", ONE, fair, of("alice", 256), of("alice", 300), Trouble::None),
        ("the same user, two clouds", TWO, fair, of("alice", 256), of("alice", 1024), Trouble::None),
        ("first come", ONE, Algorithm::Fifo, of("alice", 256), of("bob", 300), Trouble::None),
        ("first come, large", TWO, Algorithm::Fifo, of("alice", 256), of("bob", 1024), Trouble::None),
        ("two clouds", TWO, fair, of("alice", 256), of("bob", 1024), Trouble::None),
        ("its cloud is disabled", TWO, fair, of("alice", 256), of("bob", 1024), Trouble::Disabled),
        ("its cloud is away", TWO, fair, of("alice", 256), of("bob", 1024), Trouble::BackedOff),
    ];
    for (what, clouds, algorithm, stream, job, trouble) in cases {
        let mut random = Random::new(1);
        let mut world = World::new(clouds, algorithm, 30);
        world.streams.push((stream, vec![20, 60, 100]));
        (0..60).for_each(|_| world.step(&mut random));
        let busy = |view: &View| view.vms.values().filter(|vm| vm.job.is_some()).count();
        let full = busy(&world.view);
        assert!(full >= 2, "{what}: the stream fills the clouds");
        let job = world.submit(job, 50);
        let submitted = world.now;
        world.step(&mut random);
        let held = cycle(&world.view, world.now, &world.config, &world.closed, |cycle| {
            cycle.reservation().map(|it| cycle.survey.rooms[it.place].cloud.name.clone())
        });
        // The user's older jobs go before it.
        let own = world.streams[0].0.user == world.view.jobs[&job].user;
        assert!(own || held.is_some(), "{what}: room is held");
        match (trouble, held) {
            (Trouble::Disabled, Some(cloud)) => world.command(Command::EnableCloud { cloud, enabled: false }),
            (Trouble::BackedOff, Some(cloud)) => drop(world.closed.insert(cloud)),
            _ => (),
        }
        let mut least = full;
        while !world.started(&job) {
            world.step(&mut random);
            least = least.min(busy(&world.view));
            let waits_s = (world.now.0 - submitted.0) / 1000;
            let bound_s = world.bound_s() * if own { 2 } else { 1 };
            assert!(waits_s <= bound_s, "{what}: it waits for {waits_s} s: {:#?}", world.vms());
        }
        if clouds.len() > 1 && trouble == Trouble::None && algorithm == fair {
            assert!(least >= full / 2, "{what}: the other cloud works on, {least} of {full} VMs");
        }
        // The stream goes on afterwards.
        (0..60).for_each(|_| world.step(&mut random));
        assert!(busy(&world.view) >= full / 2, "{what}: the stream goes on");
    }
}

#[test]
fn an_idle_vm_that_no_waiting_job_can_use_goes_when_another_user_waits() {
    // Sizes of the owner's next job and of the other user's; VMs that are given up.
    let cases: [(&str, Option<u64>, Option<u64>, usize); 6] = [
        ("nothing waits", None, None, 0),
        ("the owner's next job fits", Some(256), None, 0),
        ("another user waits", None, Some(256), 1),
        ("the owner's next job is too large, another waits", Some(2000), Some(256), 1),
        ("the owner's next job is larger than the VMs", Some(300), None, 2),
        ("another user's job is large", None, Some(1024), 4),
    ];
    for (what, own, other, gone) in cases {
        let mut random = Random::new(1);
        let mut world = World::new(&[("a", 4, 1024)], Algorithm::Fairshare, 30);
        (0..4).for_each(|_| drop(world.submit(of("alice", 256), 20)));
        (0..40).for_each(|_| world.step(&mut random));
        let idle: Vec<Name> = world.view.vms.keys().cloned().collect();
        assert_eq!(idle.len(), 4, "{what}: four VMs idle");
        let submitted: Vec<_> = [own.map(|mib| of("alice", mib)), other.map(|mib| of("bob", mib))]
            .into_iter()
            .flatten()
            .map(|spec| (spec.memory_mib <= 1024, world.submit(spec, 20)))
            .collect();
        (0..20).for_each(|_| world.step(&mut random));
        let left = idle.iter().filter(|vm| world.view.vms.contains_key(*vm)).count();
        assert_eq!(idle.len() - left, gone, "{what}: VMs that went");
        for (fits, job) in submitted {
            assert_eq!(world.started(&job), fits, "{what}: job {job}");
        }
    }
}

/// A world of random clouds and streams, in which jobs of other sizes turn up.
fn live(seed: u64) -> i64 {
    let mut random = Random::new(seed);
    let clouds: &[(&str, u32, u64)] = random.pick(&[
        &[("a", 4, 1024)][..],
        &[("a", 3, 2048), ("b", 5, 1500)][..],
        &[("a", 2, 900), ("b", 8, 2048), ("c", 1, 4096)][..],
    ]);
    let algorithm = random.pick(&[Algorithm::Fairshare, Algorithm::Fairshare, Algorithm::Fifo]);
    let boot_s = random.pick(&[5, 30, 120]);
    let mut world = World::new(clouds, algorithm, boot_s);
    for user in ["alice", "bob", "carol"] {
        if random.chance(70) {
            let memory_mib = random.pick(&[100, 256, 512]);
            let lasts_s = random.pick(&[vec![10], vec![20, 60, 300], vec![600]]);
            world.streams.push((of(user, memory_mib), lasts_s));
        }
    }
    let mut submitted = Vec::new();
    for step in 0..600 {
        if random.chance(3) && step < 300 {
            let user = random.pick(&["alice", "bob", "carol", "dave"]);
            let memory_mib = random.pick(&[200, 300, 513, 800, 900]);
            let high_priority = random.chance(20);
            let lasts_s = random.pick(&[10, 60, 300]);
            submitted.push(world.submit(JobSpec { high_priority, ..of(user, memory_mib) }, lasts_s));
        }
        world.step(&mut random);
    }
    // Every one of them comes to its turn; each waits for those before it.
    let mut steps = 0;
    while let Some(job) = submitted.iter().find(|job| !world.started(job)) {
        world.step(&mut random);
        steps += 1;
        let bound = world.bound_s() / STEP_S * i64::try_from(submitted.len() + 1).unwrap();
        assert!(steps < bound, "seed {seed}: {job} never starts: {:#?}", world.view.jobs[job]);
    }
    world.longest_wait_s
}

#[test]
fn no_job_that_is_first_waits_longer_than_two_jobs_and_boots() {
    let mut longest_s = 0;
    for seed in seeds(FEW) {
        let lived = std::panic::catch_unwind(|| live(seed));
        longest_s = longest_s.max(lived.unwrap_or_else(|_| panic!("PILEUS_SEED={seed} shows it again")));
    }
    println!("the longest time that a job was first: {longest_s} s");
}
