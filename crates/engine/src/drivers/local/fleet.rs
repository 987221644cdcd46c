//! The worker processes of one state folder: how they come, are found, and go.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pileus_model::{Name, Refusal, Vm, VmState};
use rustix::process::Signal;
use tokio::{
    process::{Child, Command},
    sync::{OwnedMutexGuard, Semaphore},
    time::sleep,
};
use tracing::{debug, info, warn};

use super::{
    Confinement,
    cgroup::{self, Cgroups},
    channel::Channel,
    cpus::Cpus,
    folder::{self, HOME, LOG, Orders, PID, RESULTS, SUPERVISOR, StateFolder},
    job_exec::Sandbox,
    process::{Hunt, Process, STATE_VARIABLE, VM_VARIABLE},
    session,
    users::Users,
    vm_processes,
    wire::{self, Finished, FromWorker, RESULT_MAX, Span},
    worker,
};
use crate::drivers::{DriverError, Seen};

/// How long a worker outlives its server while no job runs.
const LEASE: Duration = Duration::from_secs(60);
/// Processes are looked at so often. The kernel's time, not the clock's: a test cannot move it.
const LOOK: Duration = Duration::from_millis(20);
/// Looks until a new worker must have said its number: 10 s.
const START_LOOKS: u32 = 500;
/// Looks until a worker that was asked to end is made to: 4 s, more than it gives its job.
const STOP_LOOKS: u32 = 200;
/// Looks until what is left must have died: 5 s. Else the caller repeats it all.
const END_LOOKS: u32 = 250;
/// Looks in a row that must find nothing, where it is not sure: who forks and ends may be missed.
const NOTHING_LOOKS: u32 = 3;
/// Signs of life within the time-out of a worker: one that is late or lost does not end its VM.
const SIGNS: u64 = 3;
/// First version of Landlock that denies connections by TCP: Linux 6.7.
const LANDLOCK_PORTS: u8 = 4;
/// Looks at all of `/proc` at a time.
const SCANS: usize = 2;

pub(super) struct Fleet {
    pub(super) state: Arc<StateFolder>,
    pub(super) channel: Arc<Channel>,
    worker_exe: PathBuf,
    users: Option<Users>,
    /// Most that is kept of each of a job's two streams, in bytes.
    output_max: usize,
    confinement: Confinement,
    cpus: Mutex<Cpus>,
    cgroups: Cgroups,
    /// VMs that are being made or destroyed: one step at a time for each.
    busy: Mutex<HashMap<Name, Arc<tokio::sync::Mutex<()>>>>,
    scans: Semaphore,
    worker_timeout: Duration,
}

impl Fleet {
    pub(super) fn new(
        state: Arc<StateFolder>,
        channel: Arc<Channel>,
        worker_exe: PathBuf,
        users: Option<Users>,
        output_max: usize,
        worker_timeout: Duration,
        confinement: Confinement,
    ) -> Self {
        let scans = Semaphore::new(SCANS);
        let cpus = Mutex::new(Cpus::of_this_host());
        let cgroups = Cgroups::of_this_host();
        match cgroups.bounds_memory {
            true => info!("memory is bounded for each VM as a whole"),
            false => info!("no memory controller of cgroup v2: memory is bounded for each process of a VM"),
        }
        Self {
            state,
            channel,
            worker_exe,
            users,
            output_max,
            confinement,
            cpus,
            cgroups,
            busy: Mutex::default(),
            scans,
            worker_timeout,
        }
    }

    /// Tells the workers that are there already where the server is now.
    pub(super) fn adopt(&self) -> io::Result<()> {
        for id in self.state.ids()? {
            if let Some(orders) = self.state.orders(&id) {
                if orders.user.is_none() {
                    vm_processes::found(&self.state.marker, &orders.closed_ports);
                }
                self.cpus().found(&id, orders.cpus);
            }
            let told = folder::replace(&self.state.vm(&id)?.join(HOME), self.home().as_bytes(), 0o644);
            if let Err(error) = told {
                warn!(vm.id = id, %error, "the worker cannot be told where the server is");
            }
        }
        Ok(())
    }

    /// Makes the VM's worker live, or finds it.
    pub(super) async fn create(self: Arc<Self>, vm: Arc<Vm>) -> Result<String, DriverError> {
        let _busy = self.enter(&vm.id).await;
        if self.worker(&vm.id).is_some() {
            return Ok(self.handle(&vm.id));
        }
        let folder = self.state.vm(&vm.id).map_err(|error| failed("VM was not made", &error))?;
        if folder.exists() {
            // A server that died in the middle may have left a worker that has not said its number.
            self.end_all(&vm.id).await?;
        }
        let fleet = self.clone();
        let started = blocking(move || fleet.spawn(&vm).map(|child| (vm, child))).await?;
        let (vm, mut child) = started.map_err(|error| failed("worker was not started", &error))?;
        for _ in 0..START_LOOKS {
            let ended = matches!(child.try_wait(), Ok(Some(_)));
            // Whoever has called home was there, even if it has been told to end before we looked.
            if self.worker(&vm.id).is_some() || (ended && self.channel.has_called(&vm.id)) {
                info!(vm.id = &*vm.id, "the worker was started");
                // Reaped when it ends; if the server ends before, by whoever adopts orphans.
                tokio::spawn(async move { child.wait().await });
                return Ok(self.handle(&vm.id));
            }
            if ended {
                break;
            }
            sleep(LOOK).await;
        }
        Err(DriverError::Failed(format!("the worker did not start: {}", last_words(&folder.join(LOG)))))
    }

    fn spawn(&self, vm: &Vm) -> io::Result<Child> {
        let user = self.users.as_ref().map(|users| users.take(&self.state.marker, &vm.id)).transpose()?;
        if user.is_none() {
            vm_processes::found(&self.state.marker, &self.closed_ports(false));
        }
        let cgroup = match self.cgroups.make(&self.state.marker, &vm.id, vm.memory_mib) {
            Err(error) if !self.cgroups.bounds_memory => {
                warn!(vm.id = &*vm.id, %error, "the VM has no control group");
                None
            }
            made => made?,
        };
        let orders = Orders {
            vm: vm.id.to_string(),
            cpus: self.cpus().take(&vm.id, vm.cpu_cores),
            memory_mib: vm.memory_mib,
            // Jobs of older versions ask for none where they do not say it.
            storage_gib: Some(vm.storage_gib.max(1)),
            user,
            cgroup,
            output_max: self.output_max,
            lease_s: LEASE.as_secs(),
            alive_s: (self.worker_timeout.as_secs() / SIGNS).clamp(1, wire::ALIVE_S),
            sandbox: self.sandbox(user.is_some()),
            closed_ports: self.closed_ports(user.is_some()),
        };
        let folder = self.state.lay_out(&orders, &self.home())?;
        folder::remove_file(&folder.join(PID))?;
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(folder.join(LOG))?;
        let mut command = Command::new(&self.worker_exe);
        command.arg("worker").arg(&folder).current_dir("/").env_clear();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let own = |name: &str| std::env::var_os(name);
        command.env("LANG", own("LANG").unwrap_or_else(|| "C.UTF-8".into()));
        command.envs(own("TZ").map(|zone| ("TZ", zone)));
        let name = if user.is_some() { None } else { own("USER") };
        command.env("USER", name.unwrap_or_else(|| "pileus".into()));
        command.env(VM_VARIABLE, &*vm.id).env(STATE_VARIABLE, &self.state.marker.0);
        command.spawn()
    }

    /// Ports that jobs may not connect to. Callers with a user of their own are refused by the listener.
    fn closed_ports(&self, own_user: bool) -> Vec<u16> {
        let enforced = !own_user && self.confinement.kernel.landlock >= LANDLOCK_PORTS;
        if enforced { self.confinement.closed_ports.clone() } else { Vec::new() }
    }

    /// Files and processes that jobs may reach. `None`: this kernel has no Landlock.
    fn sandbox(&self, own_user: bool) -> Option<Sandbox> {
        let Confinement { settings, hidden, kernel, .. } = &self.confinement;
        (kernel.landlock > 0).then(|| Sandbox {
            landlock: kernel.landlock,
            readable: settings.readable.clone(),
            writable: settings.writable.clone(),
            hidden: hidden.clone(),
            common: own_user,
        })
    }

    /// What is known of these VMs.
    pub(super) async fn poll(self: Arc<Self>, vms: Vec<Arc<Vm>>) -> Result<Vec<Seen>, DriverError> {
        let fleet = self.clone();
        let states = move || -> Vec<_> { vms.into_iter().map(|vm| (fleet.state_of(&vm), vm)).collect() };
        let mut seen = Vec::new();
        for (mut state, vm) in blocking(states).await? {
            if state == VmState::Error && self.salvage(&vm.id).await.is_err() {
                state = vm.state; // as long as its last result is not safe, it is not gone
            }
            let silent = (state == VmState::Running).then(|| self.silent(&vm.id)).flatten();
            if let Some(lost) = silent {
                let (state, hostname) = (VmState::Error, vm.id.to_string());
                seen.push(Seen { state, hostname, address: "127.0.0.1".into(), lost: Some(lost) });
                continue;
            }
            let lost = (state == VmState::Error).then(|| {
                let words = last_words(&self.state.vm(&vm.id).map(|it| it.join(LOG)).unwrap_or_default());
                format!("its worker has ended: {words}")
            });
            seen.push(Seen { state, hostname: vm.id.to_string(), address: "127.0.0.1".into(), lost });
        }
        Ok(seen)
    }

    /// Reason why a VM with a silent worker is lost; `None`: it is not.
    fn silent(&self, id: &str) -> Option<String> {
        let silent = self.channel.silence.of(id);
        if silent <= self.worker_timeout {
            return None;
        }
        // A worker that was started under a longer time-out speaks less often.
        let alive_s = self.state.orders(id).map_or(wire::ALIVE_S, |orders| orders.alive_s);
        (silent > Duration::from_secs(alive_s.saturating_mul(SIGNS)))
            .then(|| format!("its worker has been silent for {} s", silent.as_secs()))
    }

    fn state_of(&self, vm: &Vm) -> VmState {
        match self.worker(&vm.id) {
            Some(_) if vm.registered.is_some() || self.channel.has_called(&vm.id) => VmState::Running,
            Some(_) => VmState::Starting,
            None if self.is_busy(&vm.id) => vm.state,
            None => VmState::Error,
        }
    }

    /// Destroys a VM, whatever is left of it.
    pub(super) async fn destroy(self: Arc<Self>, id: Name) -> Result<(), DriverError> {
        if self.state.vm(&id).is_err() {
            return Ok(()); // by this name none was ever made
        }
        let _busy = self.enter(&id).await;
        self.end_all(&id).await?;
        self.channel.forget(&id);
        // A result that was not reported yet is worth keeping: the VM may go because its server was away.
        self.salvage(&id).await.map_err(|refusal| DriverError::Failed(refusal.to_string()))?;
        let fleet = self.clone();
        let vm = id.clone();
        let removed = blocking(move || {
            if let Some(cgroup) = fleet.cgroup(&vm) {
                cgroup::remove(&cgroup)?;
            }
            fleet.state.remove(&vm)?;
            Users::give_back(&fleet.state.marker, &vm)
        });
        removed.await?.map_err(|error| failed("VM left something", &error))?;
        self.cpus().give_back(&id);
        debug!(vm.id = &*id, "nothing of the VM is left");
        Ok(())
    }

    /// Destroys the VMs of this state folder that nobody knows; answers with their names.
    pub(super) async fn sweep(self: Arc<Self>, known: Vec<Name>) -> Result<Vec<Name>, DriverError> {
        let fleet = self.clone();
        let found = blocking(move || -> io::Result<BTreeSet<String>> {
            let mut found: BTreeSet<String> = fleet.state.ids()?.into_iter().collect();
            found.extend(fleet.state.marker.vms());
            found.extend(Users::vms(&fleet.state.marker));
            found.extend(fleet.cgroups.vms(&fleet.state.marker));
            Ok(found)
        });
        let mut strays = found.await?.map_err(|error| failed("VMs were not listed", &error))?;
        // Read after the list was made: whatever was made since is in the view, if not in `known`.
        let view = self.channel.desk.view();
        strays.retain(|id| !known.iter().any(|name| **name == **id) && !view.vms.contains_key(&**id));
        let (mut gone, mut problem) = (Vec::new(), None);
        for id in strays {
            // A job may say of itself what it likes: its own VM's end ends it.
            if self.state.vm(&id).is_err() {
                continue;
            }
            let id: Name = id.into();
            match self.clone().destroy(id.clone()).await {
                Ok(()) => {
                    info!(vm.id = &*id, "a VM that nobody knows was destroyed");
                    gone.push(id);
                }
                Err(error) => {
                    warn!(vm.id = &*id, %error, "a VM that nobody knows could not be destroyed");
                    problem = Some(error);
                }
            }
        }
        problem.filter(|_| gone.is_empty()).map_or(Ok(gone), Err)
    }

    /// Ends the worker, then all that it left, and answers once nothing runs.
    async fn end_all(&self, id: &Name) -> Result<(), DriverError> {
        // A worker of an older version has no supervisor.
        let roots = [SUPERVISOR, PID].map(|file| self.process(id, file));
        if let Some(root) = roots.iter().flatten().next() {
            root.signal(Signal::TERM).map_err(|error| failed("worker was not ended", &error))?;
            for _ in 0..STOP_LOOKS {
                if !roots.iter().flatten().any(|root| root.lives()) {
                    break;
                }
                sleep(LOOK).await;
            }
        }
        let user = self.user(id);
        let jobs = self.state.jobs(id);
        let cgroup = self.cgroup(id);
        let (mut hunt, mut nothing) = (Hunt::default(), 0);
        for _ in 0..END_LOOKS {
            let sure = match user {
                Some(user) => self.end_user(user).await,
                None => false,
            };
            let (state, vm, jobs, cgroup) = (self.state.clone(), id.clone(), jobs.clone(), cgroup.clone());
            let left = {
                let _scan = self.scans.acquire().await;
                let look = move || {
                    let mut left = cgroup.map_or_else(Vec::new, |cgroup| cgroup::kill(&cgroup));
                    left.extend(state.marker.processes_of(&vm, user, &jobs));
                    left
                };
                blocking(look).await?
            };
            nothing = if hunt.round(&left) { nothing + 1 } else { 0 };
            if nothing == NOTHING_LOOKS || (nothing > 0 && sure) {
                return Ok(());
            }
            sleep(LOOK).await;
        }
        Err(DriverError::Failed(format!("something of VM {id} cannot be ended")))
    }

    /// Ends all that runs as a VM's user, by somebody who becomes that user. `false`: it did not work.
    async fn end_user(&self, user: u32) -> bool {
        let mut ender = Command::new(&self.worker_exe);
        ender.arg("worker").arg("/").current_dir("/").env_clear();
        ender.env(worker::END_USER_VARIABLE, user.to_string());
        ender.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match ender.status().await {
            Ok(status) => status.success(),
            Err(error) => {
                warn!(%error, "the worker program cannot be run");
                false
            }
        }
    }

    /// Reports the results that a dead worker kept. `Err`: not now.
    async fn salvage(&self, id: &Name) -> Result<(), Refusal> {
        let Ok(results) = self.state.vm(id).map(|folder| folder.join(RESULTS)) else { return Ok(()) };
        for (file, result) in blocking(move || kept_in(&results)).await.unwrap_or_default() {
            let span = result.span.map(Span::aged);
            let (job, result) = Finished { span, ..result }.into_result(self.channel.desk.now());
            match self.channel.desk.finished(id, &job, result).await {
                Err(refusal) if session::passing(&refusal) => return Err(refusal),
                Err(refusal) => warn!(vm.id = &**id, job.id = job, %refusal, "a late result was refused"),
                Ok(()) => info!(vm.id = &**id, job.id = job, "a dead worker's result was found"),
            }
            let _ = folder::remove_file(&file);
        }
        Ok(())
    }

    /// The VM's worker, if it lives.
    fn worker(&self, id: &str) -> Option<Process> {
        self.process(id, PID)
    }

    /// The process of a VM that a file of its folder names, if it lives.
    fn process(&self, id: &str, file: &str) -> Option<Process> {
        let process = Process::read(&self.state.vm(id).ok()?.join(file))?;
        let marker = &self.state.marker;
        process.lives_for(marker, id, || self.user(id)).then_some(process)
    }

    /// The VM's user, if it has one.
    fn user(&self, id: &str) -> Option<u32> {
        let marker = &self.state.marker;
        let ordered = self.state.orders(id).and_then(|orders| orders.user);
        ordered.filter(|user| Users::has(marker, id, *user)).or_else(|| Users::of(marker, id))
    }

    /// The VM's control group, made or not. An older server may have made it elsewhere.
    fn cgroup(&self, id: &str) -> Option<PathBuf> {
        let ordered = self.state.orders(id).and_then(|orders| orders.cgroup);
        ordered.or_else(|| self.cgroups.of(&self.state.marker, id))
    }

    /// For people: the state folder knows it too, and finds the VM by its name.
    fn handle(&self, id: &str) -> String {
        self.user(id).map_or_else(|| "worker".to_owned(), |user| format!("worker as user {user}"))
    }

    fn home(&self) -> String {
        format!("{}\n", self.channel.address())
    }

    fn cpus(&self) -> MutexGuard<'_, Cpus> {
        self.cpus.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn enter(&self, id: &Name) -> OwnedMutexGuard<()> {
        let lock = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.retain(|_, lock| Arc::strong_count(lock) > 1);
            busy.entry(id.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }

    fn is_busy(&self, id: &str) -> bool {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.get(id).is_some_and(|lock| lock.try_lock().is_err())
    }
}

/// The results in a folder that a job may have meddled with.
fn kept_in(results: &Path) -> Vec<(PathBuf, Finished)> {
    let files = fs::read_dir(results).into_iter().flatten().flatten().map(|entry| entry.path());
    let results = files.filter_map(|file| {
        let line = folder::read_untrusted(&file, RESULT_MAX).ok()?;
        match serde_json::from_slice(&line).ok()? {
            FromWorker::Finished(result) => Some((file, result)),
            _ => None,
        }
    });
    results.collect()
}

fn last_words(log: &Path) -> String {
    let log = folder::read_untrusted(log, 1 << 20).unwrap_or_default();
    String::from_utf8_lossy(&log).lines().last().unwrap_or("it said nothing").to_owned()
}

/// Runs what may wait for the disk or walks `/proc`, out of the runtime's way.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DriverError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| DriverError::Failed(error.to_string()))
}

/// An error of this host, as the scheduler reads it.
pub(super) fn failed(what: &str, error: &io::Error) -> DriverError {
    use io::ErrorKind::{OutOfMemory, QuotaExceeded, StorageFull, WouldBlock};
    use nix::libc::{EMFILE, ENFILE};
    let full = matches!(error.kind(), OutOfMemory | QuotaExceeded | StorageFull | WouldBlock)
        || matches!(error.raw_os_error(), Some(EMFILE | ENFILE));
    let text = format!("{what}: {error}");
    if full { DriverError::NoCapacity(text) } else { DriverError::Failed(text) }
}
