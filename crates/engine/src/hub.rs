//! What everybody inside the engine shares: the newest view, the way to the writer, the signs of life.

use std::{
    collections::{BTreeMap, HashSet},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use pileus_model::{
    Actor, Backup, Beat, BoxFuture, Clock, Command, Engine, Explanation, History, Holding, Monotonic, Name,
    Output, OutputPart, OutputRange, Receipt, Refusal, Shares, Stray, Time, View, Waiting,
};
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, oneshot, watch},
};
use tracing::{error, warn};

use crate::{
    change::Change,
    config::SchedulerConfig,
    death::Death,
    desk::{Desk, JobResult},
    files,
    fleet::{Fleet, within},
    health::Health,
    insight, output,
    proxies::Office,
    reconcile::Breaker,
    schedule::explain::explain,
    state::FILES,
    store::Store,
    tail::Tail,
    timeline::{LOOK_EVERY, Timeline},
    waiting,
    writer::{Item, Work},
};

/// The reconcilers, in the old wire's order.
pub const RECONCILERS: [&str; 5] = ["Scheduler", "Cleanup", "VMPoller", "JobPoller", "MachinePoller"];

/// Bytes of a backup that are read at a time.
const BACKUP_PART: usize = 64 << 10;

/// The shared parts. `Arc<Hub>` is the engine's door and the workers' desk.
pub struct Hub {
    /// The engine's time.
    pub clock: Arc<Timeline>,
    pub config: SchedulerConfig,
    pub store: Arc<dyn Store>,
    pub fleet: Fleet,
    pub office: Office,
    pub view: ArcSwap<View>,
    /// Of the newest view, for who only wants to know whether there is another; set after the view is there.
    pub newest: AtomicU64,
    /// The newest view's sequence number; sent after the view is there.
    pub seq: watch::Sender<u64>,
    /// The newest events.
    pub tail: Tail,
    /// Held by whoever looks over all jobs and VMs for a client: one at a time.
    pub surveying: Arc<tokio::sync::Mutex<()>>,
    pub queue: mpsc::Sender<Item>,
    /// Wakes readers of outputs once one was stored.
    pub outputs: Notify,
    pub runtime: Handle,
    pub aliases_file: Option<PathBuf>,
    pub limits_file: Option<PathBuf>,
    pub beats: Mutex<Vec<Beat>>,
    pub health: Health,
    /// Reason for the end of the process; `None`: there is none.
    pub death: watch::Sender<Option<Death>>,
    /// Clouds in back-off, and until when.
    pub closed: Mutex<BTreeMap<Name, Monotonic>>,
    /// Clouds whose VMs fail.
    pub breaker: Breaker,
    /// What is wrong with clouds now.
    pub troubles: Mutex<BTreeMap<Name, String>>,
    /// What the last sweep of each driver found.
    pub strays: Mutex<BTreeMap<String, Vec<Name>>>,
}

/// The engine, as a type that is shared.
#[derive(Clone)]
pub struct Door(pub Arc<Hub>);

impl Hub {
    /// Hands work to the writer at once. The answer comes when it is durable.
    pub fn enqueue(&self, work: Work, by: Actor) -> oneshot::Receiver<Result<Receipt, Refusal>> {
        let (answer, answered) = oneshot::channel();
        match self.queue.try_send(Item { work, by, answer }) {
            Err(mpsc::error::TrySendError::Full(item)) => {
                let queue = self.queue.clone();
                self.runtime.spawn(async move { drop(queue.send(item).await) });
            }
            // Stopped: the answer's sender is dropped, which says so.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => (),
        }
        answered
    }

    /// Writes what a part of the engine wants changed.
    pub async fn change(&self, by: &str, changes: Vec<Change>) -> Result<Receipt, Refusal> {
        let by = Actor { user: by.into(), ..Actor::default() };
        self.enqueue(Work::Changes(changes), by).await.unwrap_or(Err(Refusal::Unavailable))
    }

    /// Ends once a view with a higher `seq` has been published.
    pub fn after(&self, seq: u64) -> BoxFuture<()> {
        let mut seqs = self.seq.subscribe();
        Box::pin(async move {
            if seqs.wait_for(|newest| *newest > seq).await.is_err() {
                // Nothing is published any more. To end would be to say that something was.
                std::future::pending::<()>().await;
            }
        })
    }

    /// Clouds that take no VM now: in back-off, or because their VMs failed.
    pub fn closed(&self) -> HashSet<Name> {
        let now = self.clock.monotonic();
        let mut closed = lock(&self.closed);
        closed.retain(|_, until| *until > now);
        let suspects = self.breaker.suspects(&self.view.load(), now);
        closed.keys().cloned().chain(suspects.into_iter().map(|suspect| suspect.cloud)).collect()
    }

    /// Watches the wall clock, and follows it once a jump has lasted.
    pub async fn watch_clock(self: Arc<Self>) {
        loop {
            self.clock.sleep(LOOK_EVERY).await;
            if let Some(by_ms) = self.clock.look() {
                let by = Actor { user: "[clock]".into(), ..Actor::default() };
                // Refused: the next look asks again.
                drop(self.enqueue(Work::SetClock { by_ms }, by).await);
            }
        }
    }

    /// Ends the process. The first reason counts.
    pub fn die(&self, death: Death) {
        error!(error = %death, "the engine ends");
        self.death.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert(death);
            first
        });
    }

    /// A reconciler has finished a cycle.
    pub fn beat(&self, which: usize, error: Option<String>) {
        self.health.pulse(which, &*self.clock);
        let now = self.clock.now();
        if let Some(beat) = lock(&self.beats).get_mut(which) {
            (beat.last, beat.error) = (now, error);
        }
    }

    /// Reads a file and has the writer compare it with the state; by the same way as any command.
    async fn reload<T: Send + 'static>(
        self: Arc<Self>,
        field: &'static str,
        read: impl FnOnce() -> Result<T, files::FileError> + Send + 'static,
        change: impl FnOnce(T) -> Change,
        by: Actor,
    ) -> Result<Receipt, Refusal> {
        let read = tokio::task::spawn_blocking(read).await.map_err(|_| Refusal::Unavailable)?;
        let read = read.map_err(|error| {
            // The old port answers with a word alone: here stands where.
            warn!(%error, "file not read again, what it said before stays");
            Refusal::Invalid { field, problem: error.to_string() }
        })?;
        let by = Actor { user: FILES.into(), ..by };
        let answer = self.enqueue(Work::Changes(vec![change(read)]), by);
        answer.await.unwrap_or(Err(Refusal::Unavailable))
    }

    /// Tells the drivers to let go, then forgets. A driver that fails does not keep an administrator
    /// from forgetting: that is often why it is done.
    async fn remove(self: Arc<Self>, vms: Vec<Name>, by: Actor) -> Result<Receipt, Refusal> {
        let view = self.view.load_full();
        let mut calls = tokio::task::JoinSet::new();
        for vm in crate::command::find_all(&view, &vms)? {
            let Some(cloud) = view.clouds.get(&vm.cloud) else { continue };
            let Some(slot) = self.fleet.get(&cloud.spec.driver) else { continue };
            let (vm, clock) = (vm.clone(), self.clock.clone());
            calls.spawn(async move {
                if let Err(error) = within(&*clock, slot.driver.forget(vm.clone())).await {
                    warn!(vm.id = %vm.id, cloud = %vm.cloud, %error, "driver did not let go of a vm");
                }
            });
        }
        while calls.join_next().await.is_some() {}
        let answer = self.enqueue(Work::Command(Command::RemoveVms { vms }), by);
        answer.await.unwrap_or(Err(Refusal::Unavailable))
    }
}

impl Door {
    /// Looks over all jobs and VMs beside those who serve, one look at a time.
    fn survey<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Hub) -> T + Send + 'static,
    ) -> BoxFuture<Result<T, Refusal>> {
        let hub = self.0.clone();
        Box::pin(async move {
            let turn = hub.surveying.clone().lock_owned().await;
            let seen = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                look(&hub)
            });
            seen.await.map_err(|_| Refusal::Unavailable)
        })
    }
}

impl Engine for Door {
    fn view(&self) -> Arc<View> {
        self.0.view.load_full()
    }

    fn seq(&self) -> u64 {
        self.0.newest.load(Ordering::Acquire)
    }

    fn submit(&self, command: Command, by: Actor) -> BoxFuture<Result<Receipt, Refusal>> {
        let hub = self.0.clone();
        let spawned = match (command, &self.0.aliases_file, &self.0.limits_file) {
            (Command::ReloadAliases, Some(path), _) => {
                let path = path.clone();
                let read = move || files::aliases(&path);
                let change = |aliases| Change::Aliases { aliases };
                self.0.runtime.spawn(hub.reload("cloud_aliases", read, change, by))
            }
            (Command::ReloadUserLimits, _, Some(path)) => {
                let path = path.clone();
                let read = move || files::user_limits(&path);
                let change = |limits| Change::UserLimits { limits };
                self.0.runtime.spawn(hub.reload("user_limits", read, change, by))
            }
            (Command::RenewProxy { user, which }, _, _) => {
                self.0.runtime.spawn(hub.renew_proxy(user, which, by))
            }
            (Command::RemoveVms { vms }, _, _) => self.0.runtime.spawn(hub.remove(vms, by)),
            (command, _, _) => {
                let answer = hub.enqueue(Work::Command(command), by);
                return Box::pin(async move { answer.await.unwrap_or(Err(Refusal::Unavailable)) });
            }
        };
        Box::pin(async move { spawned.await.unwrap_or(Err(Refusal::Unavailable)) })
    }

    fn output(&self, job: &str) -> BoxFuture<Result<Option<Output>, Refusal>> {
        let output = self.0.store.output(job.into());
        Box::pin(async move { Ok(output.await?) })
    }

    fn output_part(
        &self,
        job: &str,
        range: OutputRange,
        wait: Duration,
    ) -> BoxFuture<Result<Option<OutputPart>, Refusal>> {
        Box::pin(output::part(self.0.clone(), job.into(), range, wait))
    }

    fn events(&self, after: u64, limit: usize, project: Option<Name>) -> BoxFuture<Result<History, Refusal>> {
        let last = self.0.view.load().seq;
        if after >= last {
            return Box::pin(async { Ok(History::default()) });
        }
        if let Some(history) = self.0.tail.read(after, limit, project.as_deref()) {
            return Box::pin(async { Ok(history) });
        }
        let read = self.0.store.events(after, last, limit, project);
        Box::pin(async move { Ok(read.await?) })
    }

    fn explain(&self, job: &str) -> BoxFuture<Result<Option<Explanation>, Refusal>> {
        let job = Name::from(job);
        self.survey(move |hub| {
            let view = hub.view.load_full();
            let now = hub.clock.moment(&view).now;
            explain(&view, now, &hub.config, &hub.closed(), &job)
        })
    }

    fn changed_since(&self, seq: u64) -> BoxFuture<()> {
        self.0.after(seq)
    }

    fn waiting_max(&self) -> Option<Waiting> {
        Some(waiting::max(&self.0.config))
    }

    fn beats(&self) -> Vec<Beat> {
        lock(&self.0.beats).clone()
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = self.0.health.problems(&*self.0.clock, &lock(&self.0.beats));
        problems.extend(self.0.store.trouble().map(|cause| format!("the state folder is lost: {cause}")));
        if self.0.store.is_tight() {
            problems.push("the disk of the state folder is full".into());
        }
        problems
    }

    fn compacted(&self) -> u64 {
        self.0.store.compacted()
    }

    fn backup(&self) -> BoxFuture<Result<Backup, Refusal>> {
        let made = self.0.store.backup();
        Box::pin(async move {
            let file = Arc::new(made.await?);
            let bytes = file.metadata().map_err(|_| Refusal::Unavailable)?.len();
            let read = move |offset| -> BoxFuture<std::io::Result<Vec<u8>>> {
                let file = file.clone();
                let read = move || {
                    let mut part = vec![0; BACKUP_PART];
                    let length = file.read_at(&mut part, offset)?;
                    part.truncate(length);
                    Ok(part)
                };
                Box::pin(
                    async move { tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)? },
                )
            };
            Ok(Backup { bytes, read: Box::new(read) })
        })
    }

    fn shares(&self) -> BoxFuture<Result<Shares, Refusal>> {
        self.survey(insight::shares)
    }

    fn holdings(&self) -> Vec<Holding> {
        insight::holdings(&self.0)
    }

    fn strays(&self) -> Vec<Stray> {
        insight::strays(&self.0)
    }
}

impl Desk for Door {
    fn view(&self) -> Arc<View> {
        self.0.view.load_full()
    }

    fn now(&self) -> Time {
        self.0.clock.now()
    }

    fn changed_since(&self, seq: u64) -> BoxFuture<()> {
        self.0.after(seq)
    }

    fn registered(&self, vm: &str) -> BoxFuture<Result<(), Refusal>> {
        self.report(vm, Change::Registered { vm: vm.into() })
    }

    fn ended(&self, part: &'static str, why: String) {
        self.0.die(Death::ended(part, why));
    }

    fn finished(&self, vm: &str, job: &str, result: JobResult) -> BoxFuture<Result<(), Refusal>> {
        self.report(vm, Change::Finished { vm: vm.into(), job: job.into(), result: Box::new(result) })
    }
}

impl Door {
    fn report(&self, vm: &str, change: Change) -> BoxFuture<Result<(), Refusal>> {
        let by = Actor { user: format!("[vm {vm}]").into(), ..Actor::default() };
        let answer = self.0.enqueue(Work::Changes(vec![change]), by);
        Box::pin(async move { answer.await.unwrap_or(Err(Refusal::Unavailable)).map(drop) })
    }
}

/// Whoever panicked with it left it as it was: none of these locks is held over more than one step.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
