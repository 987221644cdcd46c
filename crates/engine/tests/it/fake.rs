//! A cloud in memory, whose moods a test sets, and an engine upon it with a clock that a test moves.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use pileus_engine::{
    Config, DriverFactory, Running, SchedulerConfig, StartError,
    desk::{Desk, End, JobResult},
    drivers::{Driver, DriverError, Seen},
    start,
};
use pileus_model::{
    Actor, BoxFuture, Clock, CloudSpec, Command, Engine, Exit, JobSpec, ManualClock, Name, Output, Receipt,
    Refusal, Time, View, Vm, VmState,
};

/// How the cloud of a VM behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Well,
    /// Every call fails.
    Failing,
    /// No call is ever answered.
    Hanging,
    /// Nothing new is taken.
    Full,
    /// Calls panic.
    Panicking,
}

#[derive(Debug, Default)]
pub struct Inside {
    /// By the cloud's name.
    pub moods: BTreeMap<String, Mood>,
    /// What exists, and in which state.
    pub vms: BTreeMap<Name, VmState>,
    /// Every `create` call.
    pub creates: Vec<Name>,
    /// Every `destroy` call.
    pub destroys: Vec<Name>,
    pub forgotten: BTreeSet<Name>,
    pub sweeps: usize,
}

/// The driver. Its clouds outlive the engine.
#[derive(Debug, Default, Clone)]
pub struct Fake(pub Arc<Mutex<Inside>>);

impl Fake {
    pub fn mood(&self, cloud: &str, mood: Mood) {
        self.0.lock().unwrap().moods.insert(cloud.into(), mood);
    }

    fn call<T: Send + 'static>(
        &self,
        cloud: &str,
        act: impl FnOnce(&mut Inside, Mood) -> Result<T, DriverError> + Send + 'static,
    ) -> BoxFuture<Result<T, DriverError>> {
        let (inside, cloud) = (self.0.clone(), cloud.to_owned());
        Box::pin(async move {
            let mood = inside.lock().unwrap().moods.get(&cloud).copied().unwrap_or_default();
            match mood {
                Mood::Hanging => std::future::pending().await,
                Mood::Failing => Err(DriverError::Failed("the cloud is down".into())),
                Mood::Panicking => panic!("a driver's mistake"),
                Mood::Well | Mood::Full => act(&mut inside.lock().unwrap(), mood),
            }
        })
    }
}

impl Driver for Fake {
    fn create(&self, vm: Arc<Vm>) -> BoxFuture<Result<String, DriverError>> {
        self.0.lock().unwrap().creates.push(vm.id.clone());
        let cloud = vm.cloud.clone();
        self.call(&cloud, move |inside, mood| match mood {
            Mood::Full => Err(DriverError::NoCapacity("quota".into())),
            _ => {
                inside.vms.entry(vm.id.clone()).or_insert(VmState::Starting);
                Ok(format!("handle-{}", vm.id))
            }
        })
    }

    fn poll(&self, vms: Vec<Arc<Vm>>) -> BoxFuture<Result<Vec<Seen>, DriverError>> {
        let cloud = vms[0].cloud.clone();
        self.call(&cloud, move |inside, _| {
            let seen = |vm: &Arc<Vm>| {
                let state = inside.vms.get(&vm.id).copied().unwrap_or(VmState::Error);
                Seen { state, hostname: format!("host-{}", vm.id), address: "10.0.0.1".into(), lost: None }
            };
            Ok(vms.iter().map(seen).collect())
        })
    }

    fn destroy(&self, vm: Arc<Vm>) -> BoxFuture<Result<(), DriverError>> {
        self.0.lock().unwrap().destroys.push(vm.id.clone());
        let cloud = vm.cloud.clone();
        self.call(&cloud, move |inside, _| {
            inside.vms.remove(&vm.id);
            Ok(())
        })
    }

    fn forget(&self, vm: Arc<Vm>) -> BoxFuture<Result<(), DriverError>> {
        let cloud = vm.cloud.clone();
        self.call(&cloud, move |inside, _| {
            inside.forgotten.insert(vm.id.clone());
            Ok(())
        })
    }

    fn sweep(&self, known: Vec<Name>) -> BoxFuture<Result<Vec<Name>, DriverError>> {
        self.call("", move |inside, _| {
            inside.sweeps += 1;
            let stray = |vm: &&Name| !known.contains(vm) && !inside.forgotten.contains(*vm);
            let strays: Vec<Name> = inside.vms.keys().filter(stray).cloned().collect();
            inside.vms.retain(|vm, _| !strays.contains(vm));
            Ok(strays)
        })
    }
}

/// An engine upon fake clouds.
pub struct Bench {
    pub running: Option<Running>,
    pub engine: Arc<dyn Engine>,
    pub desk: Arc<dyn Desk>,
    pub clock: ManualClock,
    /// Milliseconds by which the wall clock is ahead of the engine's time.
    ahead_ms: AtomicI64,
}

pub fn spec(vm_slots: u32) -> CloudSpec {
    CloudSpec {
        driver: "local".into(),
        enabled: true,
        vm_slots,
        cpu_cores: 8,
        memory_mib: 100_000,
        storage_gib: 1000,
        priority: 0,
        keep_alive_s: 60,
        boot_timeout_s: Some(600),
        max_vm_memory_mib: None,
    }
}

pub fn config(dir: &Path, clouds: &[(&str, u32)]) -> Config {
    Config {
        state_dir: dir.join("state"),
        store: "sqlite".into(),
        worker_exe: PathBuf::new(),
        scheduler: SchedulerConfig::default(),
        clouds: clouds.iter().map(|(name, slots)| ((*name).to_owned(), spec(*slots))).collect(),
        cloud_aliases: None,
        user_limits: None,
        credentials: Default::default(),
        confinement: Default::default(),
    }
}

pub fn job() -> JobSpec {
    JobSpec {
        project: "p".into(),
        user: "alice".into(),
        command: vec!["true".into()],
        vm_type: "t1".into(),
        cpu_cores: 1,
        memory_mib: 100,
        storage_gib: 1,
        priority: 0,
        high_priority: false,
        keep_alive_s: None,
        target_clouds: Vec::new(),
        image: None,
        user_type_limit: None,
    }
}

impl Bench {
    pub async fn start(config: Config, cloud: &Fake) -> Self {
        Self::try_start(config, cloud, &ManualClock::at(Time(1_000_000_000))).await.unwrap()
    }

    pub async fn try_start(config: Config, cloud: &Fake, clock: &ManualClock) -> Result<Self, StartError> {
        let desk: Arc<OnceLock<Arc<dyn Desk>>> = Arc::default();
        let (given, cloud) = (desk.clone(), cloud.clone());
        let factory: Box<DriverFactory> = Box::new(move |_, desk| {
            drop(given.set(desk));
            let cloud: Arc<dyn Driver> = Arc::new(cloud.clone());
            Box::pin(async { Ok(cloud) })
        });
        let running = start(config, Arc::new(clock.clone()), factory).await?;
        let engine = running.engine();
        let desk = desk.get().expect("a cloud is configured").clone();
        Ok(Self { running: Some(running), engine, desk, clock: clock.clone(), ahead_ms: AtomicI64::new(0) })
    }

    pub async fn stop(mut self) {
        self.running.take().unwrap().stop().await;
    }

    pub async fn submit(&self, command: Command) -> Result<Receipt, Refusal> {
        let by =
            Actor { user: "ann".into(), project: "p".into(), request_id: "r".into(), ..Actor::default() };
        self.engine.submit(command, by).await
    }

    pub async fn submit_job(&self, spec: JobSpec) -> Name {
        self.submit(Command::SubmitJob(Box::new(spec))).await.unwrap().id.into()
    }

    pub async fn submit_job_or_not(&self, spec: JobSpec) -> Result<Name, Refusal> {
        self.submit(Command::SubmitJob(Box::new(spec))).await.map(|done| done.id.into())
    }

    /// Waits for a view; what it waits for comes by itself, without the clock being moved.
    pub async fn until(&self, what: &str, is: impl Fn(&View) -> bool) -> Arc<View> {
        let wait = async {
            loop {
                let view = self.engine.view();
                if is(&view) {
                    return view;
                }
                self.engine.changed_since(view.seq).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(30), wait).await {
            Ok(view) => view,
            Err(_) => panic!("{what} did not happen: {:#?}", self.engine.view()),
        }
    }

    /// Waits for something outside the view.
    pub async fn until_so(&self, what: &str, is: impl Fn() -> bool) {
        let wait = async {
            while !is() {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(30), wait).await.is_err() {
            panic!("{what} did not happen: {:#?}", self.engine.view());
        }
    }

    /// Lets five seconds pass, as often as told, each time until every reconciler has seen it.
    pub async fn tick(&self, times: usize) {
        for _ in 0..times {
            self.clock.advance(Duration::from_secs(5));
            let now = Time(self.clock.now().0 - self.ahead_ms.load(Ordering::Relaxed));
            let all = || self.engine.beats().iter().all(|beat| beat.last == now);
            self.until_so("a cycle of every reconciler", all).await;
            // The store is another thread: what was to be written before is written then, however slow it is.
            let none = Command::RevokeToken { name: "none".into() };
            self.submit(none).await.unwrap_err();
        }
    }

    /// Has the wall clock jump. The engine's time does not, unless it lasts.
    pub fn jump(&self, by_ms: i64) {
        self.clock.jump(by_ms);
        self.ahead_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// Lets time pass until the engine's time has followed the wall clock.
    pub async fn follow(&self) {
        for _ in 0..200 {
            self.clock.advance(Duration::from_secs(5));
            let wall = self.clock.now();
            let engine = Time(wall.0 - self.ahead_ms.load(Ordering::Relaxed));
            let all = |time: Time| self.engine.beats().iter().all(|beat| beat.last == time);
            self.until_so("a cycle of every reconciler", || all(engine) || all(wall)).await;
            if all(wall) {
                return self.ahead_ms.store(0, Ordering::Relaxed);
            }
            // As in `tick`: the store is another thread.
            let none = Command::RevokeToken { name: "none".into() };
            self.submit(none).await.unwrap_err();
        }
        panic!("the wall clock was not followed");
    }

    /// Lets time pass until the view is so.
    pub async fn tick_until(&self, what: &str, is: impl Fn(&View) -> bool) -> Arc<View> {
        let wait = async {
            loop {
                let view = self.engine.view();
                if is(&view) {
                    return view;
                }
                self.tick(1).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(30), wait).await {
            Ok(view) => view,
            Err(_) => panic!("{what} did not happen: {:#?}", self.engine.view()),
        }
    }

    /// The VM's worker starts, and calls home.
    pub async fn boot(&self, cloud: &Fake, vm: &str) {
        self.until_so("creation", || cloud.0.lock().unwrap().vms.contains_key(vm)).await;
        cloud.0.lock().unwrap().vms.insert(vm.into(), VmState::Running);
        self.desk.registered(vm).await.unwrap();
    }

    pub async fn finish(&self, vm: &str, job: &str, stdout: &[u8]) -> Result<(), Refusal> {
        let output = Output { stdout: stdout.into(), ..Output::default() };
        self.desk.finished(vm, job, JobResult::new(End::Exited(Exit::Code(0)), output)).await
    }
}
