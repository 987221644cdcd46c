//! A state folder with a driver on it, and a desk that does what the engine would.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use pileus_engine::{
    desk::{Desk, End, JobResult},
    drivers::{
        Driver, Seen,
        local::{Confinement, Kernel, Local, LocalConfig, LocalSettings},
    },
};
use pileus_model::{
    BoxFuture, Clock, Job, ManualClock, Name, Output, OutputPart, OutputRange, Refusal, RunTimes, Time, View,
    Vm, VmState,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::watch};

/// Conditions are looked at so often, and so many times: 60 s, for a busy machine.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS: u32 = 6000;
/// Time-out of workers, as by default.
const WORKER_TIMEOUT: Duration = Duration::from_secs(60);

/// Most that is kept of a stream.
pub const OUTPUT_MAX: usize = 2 << 20;

/// What a VM reported of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub vm: String,
    pub job: String,
    pub end: End,
    pub output: Output,
    pub times: Option<RunTimes>,
}

/// The engine's part.
#[derive(Default)]
pub struct FakeDesk {
    pub clock: ManualClock,
    pub view: watch::Sender<Arc<View>>,
    pub reports: Mutex<Vec<Report>>,
    pub registered: Mutex<BTreeSet<String>>,
    /// How many reports are to be refused before one is taken.
    pub refuse: Mutex<u32>,
}

impl FakeDesk {
    pub fn change(&self, change: impl FnOnce(&mut View)) {
        self.view.send_modify(|view| {
            let mut next = View::clone(view);
            change(&mut next);
            next.seq += 1;
            *view = Arc::new(next);
        });
    }

    fn change_vm(&self, id: &str, change: impl FnOnce(&mut Vm)) {
        self.change(|view| {
            if let Some(vm) = view.vms.get(id) {
                let mut vm = Vm::clone(vm);
                change(&mut vm);
                view.vms.insert(vm.id.clone(), Arc::new(vm));
            }
        });
    }
}

impl Desk for FakeDesk {
    fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    fn changed_since(&self, seq: u64) -> BoxFuture<()> {
        let mut views = self.view.subscribe();
        Box::pin(async move {
            let _ = views.wait_for(|view| view.seq > seq).await;
        })
    }

    fn registered(&self, vm: &str) -> BoxFuture<Result<(), Refusal>> {
        self.registered.lock().unwrap().insert(vm.into());
        Box::pin(async { Ok(()) })
    }

    fn finished(&self, vm: &str, job: &str, result: JobResult) -> BoxFuture<Result<(), Refusal>> {
        let mut refuse = self.refuse.lock().unwrap();
        if *refuse > 0 {
            *refuse -= 1;
            return Box::pin(async { Err(Refusal::Full) });
        }
        let is_its = self.view().vms.get(vm).is_some_and(|vm| vm.job.as_deref() == Some(job));
        if result.interrupted && is_its {
            return Box::pin(async { Ok(()) });
        }
        self.reports.lock().unwrap().push(Report {
            vm: vm.into(),
            job: job.into(),
            end: result.end,
            output: result.output,
            times: result.times,
        });
        self.change_vm(vm, |vm| vm.job = vm.job.take_if(|given| **given != *job).or(None));
        Box::pin(async { Ok(()) })
    }
}

pub struct World {
    pub runtime: Runtime,
    pub desk: Arc<FakeDesk>,
    pub clock: ManualClock,
    /// `None`: the server is away.
    pub local: Option<Arc<Local>>,
    /// Where jobs may leave something for the test to see.
    pub shared: PathBuf,
    pub state_dir: PathBuf,
    /// Features of the kernel that the driver uses.
    pub kernel: Kernel,
    _dir: TempDir,
}

impl World {
    pub fn new() -> Self {
        Self::of(0o755, Kernel::probe())
    }

    /// A world on a kernel without Landlock: its jobs may signal their worker.
    pub fn unconfined() -> Self {
        Self::of(0o755, Kernel::default())
    }

    /// A world whose state folder lies below a folder of this mode.
    pub fn below(mode: u32) -> Self {
        Self::of(mode, Kernel::probe())
    }

    fn of(mode: u32, kernel: Kernel) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        // Nobody promised a short, plain path.
        let parent = dir.path().join(format!("a folder – längst nicht \"kurz\" {}", "x".repeat(150)));
        let state_dir = parent.join("state");
        let shared = dir.path().join("shared");
        fs::create_dir_all(&state_dir).unwrap();
        fs::create_dir(&shared).unwrap();
        [(dir.path(), 0o755), (&state_dir, 0o711), (&parent, mode), (&shared, 0o777)]
            .into_iter()
            .for_each(|(path, mode)| chmod(path, mode));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let desk = Arc::new(FakeDesk::default());
        let clock = desk.clock.clone();
        let mut world = Self { runtime, desk, clock, local: None, shared, state_dir, kernel, _dir: dir };
        world.start();
        world
    }

    /// Starts the server (again) on the same state folder.
    pub fn start(&mut self) {
        self.local = Some(self.try_start());
    }

    fn try_start(&self) -> Arc<Local> {
        let settings = LocalSettings { writable: vec![self.shared.clone()], ..LocalSettings::default() };
        let config = LocalConfig {
            state_dir: self.state_dir.clone(),
            worker_exe: std::env::current_exe().unwrap(),
            output_max: OUTPUT_MAX,
            worker_timeout: WORKER_TIMEOUT,
            confinement: Confinement { settings, kernel: self.kernel, ..Confinement::default() },
        };
        let started = Local::start(config, self.desk.clone(), Arc::new(self.clock.clone()));
        self.runtime.block_on(started).unwrap()
    }

    pub fn stop(&mut self) {
        let local = self.local.take().unwrap();
        self.runtime.block_on(local.stop());
    }

    pub fn local(&self) -> &Local {
        self.local.as_ref().unwrap()
    }

    /// A VM in the desk's view, not yet created.
    pub fn name_vm(&self, id: &str) -> Arc<Vm> {
        let vm = Arc::new(vm(id));
        self.desk.change(|view| drop(view.vms.insert(vm.id.clone(), vm.clone())));
        vm
    }

    /// A VM that lives and has called home.
    pub fn boot(&self, id: &str) -> Arc<Vm> {
        let vm = self.name_vm(id);
        self.boot_named(vm)
    }

    /// The same, for a VM that is in the view.
    pub fn boot_named(&self, vm: Arc<Vm>) -> Arc<Vm> {
        let id = &*vm.id;
        self.runtime.block_on(self.local().create(vm.clone())).unwrap();
        self.until("the worker calls home", || self.desk.registered.lock().unwrap().contains(id));
        assert_eq!(self.state(&vm), VmState::Running);
        vm
    }

    pub fn state(&self, vm: &Arc<Vm>) -> VmState {
        let seen = self.runtime.block_on(self.local().poll(vec![vm.clone()])).unwrap();
        assert_eq!((&*seen[0].hostname, &*seen[0].address), (&*vm.id, "127.0.0.1"));
        seen[0].state
    }

    /// Lets time pass while the server listens; returns what the driver says of the VM then.
    pub fn listen(&self, vm: &Arc<Vm>, seconds: u64) -> Seen {
        let poll = || self.runtime.block_on(self.local().poll(vec![vm.clone()])).unwrap().remove(0);
        let mut seen = poll();
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            seen = poll();
        }
        seen
    }

    /// Gives a VM a job, as the scheduler would.
    pub fn give(&self, vm: &str, job: &str, command: &[&str]) {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let job: Job = serde_json::from_value(json!({
            "id": job, "project": "p", "user": "u", "source": "queue", "command": command, "vm_type": "t",
            "cpu_cores": 1, "memory_mib": 1, "storage_gib": 0, "priority": 0, "high_priority": false,
            "keep_alive_s": null, "target_clouds": [], "state": "running", "reason": null, "submitted": 0,
            "started": null, "finished": null, "vm": vm, "cloud": "here", "attempts": 1, "exit": null,
        }))
        .unwrap();
        let id = job.id.clone();
        self.desk.change(|view| drop(view.jobs.insert(id.clone(), Arc::new(job))));
        self.desk.change_vm(vm, |vm| vm.job = Some(id));
    }

    /// Takes a VM's job away.
    pub fn take_away(&self, vm: &str) {
        self.desk.change_vm(vm, |vm| vm.job = None);
    }

    pub fn give_shell(&self, vm: &str, job: &str, script: &str) {
        self.give(vm, job, &["sh", "-c", &tagged(script)]);
    }

    /// A piece of what a job writes that runs.
    pub fn read(&self, vm: &str, job: &str, range: OutputRange, wait: Duration) -> Option<OutputPart> {
        self.runtime.block_on(self.local().output_part(vm, job, range, wait))
    }

    /// Waits for a job's report.
    pub fn report(&self, job: &str) -> Report {
        self.until(job, || !self.reports(job).is_empty());
        self.reports(job).remove(0)
    }

    pub fn reports(&self, job: &str) -> Vec<Report> {
        self.desk.reports.lock().unwrap().iter().filter(|report| report.job == job).cloned().collect()
    }

    pub fn destroy(&self, vm: &Arc<Vm>) {
        self.runtime.block_on(self.local().destroy(vm.clone())).unwrap();
        assert_eq!(self.processes(&vm.id), NOTHING, "nothing of {} runs", vm.id);
        assert!(!self.folder(&vm.id).exists());
    }

    pub fn folder(&self, vm: &str) -> PathBuf {
        self.state_dir.join("vms").join(vm)
    }

    /// Processes that belong to this VM: they live in its folder, or, where we may not ask them, were
    /// started for it. Zombies do not count.
    pub fn processes(&self, vm: &str) -> Vec<i32> {
        let folder = self.folder(vm).into_os_string().into_encoded_bytes();
        let home = [b"HOME=", &folder[..]].concat();
        let belongs = |pid: &i32| {
            words(*pid, "environ").any(|entry| entry.starts_with(&home))
                || words(*pid, "cmdline").any(|word| word == folder)
        };
        let mut found: Vec<_> = pids().filter(belongs).collect();
        found.sort_unstable();
        found
    }

    /// The number of a VM's worker.
    pub fn worker(&self, vm: &str) -> i32 {
        self.pid(vm, "pid")
    }

    /// The number of its parent.
    pub fn supervisor(&self, vm: &str) -> i32 {
        self.pid(vm, "supervisor")
    }

    /// The processes of a VM that runs no job.
    pub fn idle(&self, vm: &str) -> Vec<i32> {
        let mut pids = vec![self.supervisor(vm), self.worker(vm)];
        pids.sort_unstable();
        pids
    }

    fn pid(&self, vm: &str, file: &str) -> i32 {
        let pid = fs::read_to_string(self.folder(vm).join(file)).unwrap();
        pid.split_once(' ').unwrap().0.parse().unwrap()
    }

    pub fn shared(&self, name: &str) -> PathBuf {
        self.shared.join(name)
    }

    /// Waits for something to become true.
    pub fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..LOOKS {
            if holds() {
                return;
            }
            self.runtime.block_on(async { tokio::time::sleep(LOOK).await });
        }
        let logs = fs::read_dir(self.state_dir.join("vms")).into_iter().flatten().flatten();
        let logs: Vec<_> = logs.map(|vm| fs::read_to_string(vm.path().join("worker.log"))).collect();
        panic!("never: {what}; workers said {logs:?}");
    }
}

/// A VM as the scheduler names it.
pub fn vm(id: &str) -> Vm {
    serde_json::from_value(json!({
        "id": id, "cloud": "here", "project": "p", "user": "u", "vm_type": "t", "cpu_cores": 1,
            "memory_mib": 128, "storage_gib": 1, "keep_alive_s": 0, "state": "Starting",
            "override_state": null, "force_retire": false, "destroy": null, "last_error": null,
            "error_count": 0, "created": 0, "changed": 0, "running": null, "registered": null,
            "idle_since": null, "job": null, "job_runs_s": [], "hostname": "", "address": "", "handle": "",
    }))
    .unwrap()
}

/// A server in a process of its own: makes one VM and goes on until it is killed.
pub fn serve(state_dir: &Path) -> ! {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let desk = Arc::new(FakeDesk::default());
    let vm = Arc::new(vm("here-killed"));
    desk.change(|view| drop(view.vms.insert(vm.id.clone(), vm.clone())));
    let config = LocalConfig {
        state_dir: state_dir.to_owned(),
        worker_exe: std::env::current_exe().unwrap(),
        output_max: OUTPUT_MAX,
        worker_timeout: WORKER_TIMEOUT,
        confinement: Confinement::default(),
    };
    runtime.block_on(async {
        let local = Local::start(config, desk, Arc::new(ManualClock::default())).await.unwrap();
        local.create(vm).await.unwrap();
        std::future::pending::<std::convert::Infallible>().await
    });
    unreachable!("it is killed")
}

impl Drop for World {
    /// Nothing is left, also where a test failed.
    fn drop(&mut self) {
        *self.desk.refuse.lock().unwrap() = 0;
        if let Some(local) = self.local.take() {
            self.runtime.block_on(local.stop());
        }
        self.desk.change(|view| view.vms.clear());
        let local = self.try_start();
        let swept = self.runtime.block_on(local.sweep(Vec::new()));
        self.runtime.block_on(local.stop());
        if !std::thread::panicking() {
            swept.unwrap();
        }
    }
}

/// No process.
pub const NOTHING: [i32; 0] = [];

/// A word that only processes of this run have: in scripts `TAG` stands for its end.
fn tagged(text: &str) -> String {
    text.replace("TAG", &std::process::id().to_string())
}

/// Processes whose command line has this word.
pub fn running(word: &str) -> Vec<i32> {
    let word = tagged(word);
    pids().filter(|pid| words(*pid, "cmdline").any(|found| found == word.as_bytes())).collect()
}

fn words(pid: i32, file: &str) -> impl Iterator<Item = Vec<u8>> {
    let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    text.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter()
}

fn pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

pub fn name(text: &str) -> Name {
    text.into()
}
