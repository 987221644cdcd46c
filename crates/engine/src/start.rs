//! Start and stop: opens the store, brings the configuration in, and sets everybody to work.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    num::NonZeroU64,
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use arc_swap::ArcSwap;
use pileus_model::{Actor, Beat, Clock, CloudSpec, Engine, ProxyUse, Refusal, View};
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, watch},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    change::Change,
    command::valid,
    config::{Config, SchedulerConfig},
    death::Death,
    drivers::DriverError,
    files::{self, FileError},
    fleet::{DriverFactory, Fleet},
    health::Health,
    history,
    hub::{Door, Hub, RECONCILERS},
    ids::Ids,
    proxies::{self, CredentialsConfig, Office},
    reconcile::{self, Breaker, decider::DECIDERS},
    state::FILES,
    store::{self, OpenError, Store, compact::Bounds},
    supervise::{supervise, vital},
    timeline::Timeline,
    writer::{self, Work},
};

/// How long an orderly stop waits for VMs to be destroyed. What is left is marked, and destroyed at
/// the next start.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the engine does not start. Nothing of it is left running.
#[allow(missing_docs, reason = "a variant says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state folder.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// A cloud of the configuration.
    #[error("cloud `{cloud}`: {problem}")]
    Cloud { cloud: String, problem: String },
    /// The alias file or the user-limit file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A driver that a cloud names.
    #[error("driver `{driver}` does not start: {error}")]
    Driver { driver: String, error: DriverError },
    /// The configuration could not be brought into the state.
    #[error("the state folder {}: {refusal}", dir.display())]
    Write { dir: PathBuf, refusal: Refusal },
}

/// The engine at work. Dropped without [`stop`](Running::stop) it ends as in a crash: nothing that was
/// acknowledged is lost, and VMs go on.
#[must_use]
pub struct Running {
    hub: Arc<Hub>,
    /// Those who think up new VMs and give out jobs.
    deciders: Option<JoinSet<()>>,
    stop_deciders: CancellationToken,
    /// The one who talks to the clouds.
    poller: Option<JoinSet<()>>,
    stop_poller: CancellationToken,
    writer: Option<JoinHandle<()>>,
    /// Hears of the store's end.
    store_watch: JoinHandle<()>,
}

/// Starts the engine. To be called within a tokio runtime.
///
/// `drivers` makes the driver of a name; the engine calls it once for each name that a cloud uses.
pub async fn start(
    config: Config,
    clock: Arc<dyn Clock>,
    drivers: Box<DriverFactory>,
) -> Result<Running, StartError> {
    check_clouds(&config.clouds)?;
    let (name, dir) = (config.store.clone(), config.state_dir.clone());
    let (store, view) = blocking(move || store::open(&name, &dir)).await?;
    start_upon(config, clock, drivers, store, view).await
}

/// Opens a state folder without starting the engine: commands are decided and become durable, and no
/// reconcile loop runs. For commands that work on a folder while no server owns it. To be called within a
/// tokio runtime, and to be ended by [`Running::stop_with`].
pub async fn open(state_dir: PathBuf, store: String, clock: Arc<dyn Clock>) -> Result<Running, StartError> {
    let config = Config {
        state_dir: state_dir.clone(),
        store: store.clone(),
        worker_exe: PathBuf::new(),
        scheduler: SchedulerConfig::default(),
        clouds: Vec::new(),
        cloud_aliases: None,
        user_limits: None,
        credentials: CredentialsConfig::default(),
        confinement: crate::drivers::local::Confinement::default(),
    };
    let (store, view) = blocking(move || store::open(&store, &state_dir)).await?;
    let none: Box<DriverFactory> = Box::new(|name, _| {
        let error = DriverError::Failed(format!("driver `{name}` is not started"));
        Box::pin(async move { Err(error) })
    });
    Ok(Running::on_store(config, clock, none, store, view))
}

/// Starts the engine upon an open store and what was in it.
pub(crate) async fn start_upon(
    config: Config,
    clock: Arc<dyn Clock>,
    drivers: Box<DriverFactory>,
    store: Arc<dyn Store>,
    view: View,
) -> Result<Running, StartError> {
    let read = (config.cloud_aliases.clone(), config.user_limits.clone());
    let read = move || Ok::<_, FileError>((read_aliases(read.0)?, read_limits(read.1)?));
    let files = blocking(read).await;
    let (clouds, state_dir) = (config.clouds.clone(), config.state_dir.clone());
    let mut running = Running::on_store(config, clock, drivers, store, view);
    let begun = match files {
        Ok((aliases, limits)) => running.begin(clouds, aliases, limits, state_dir).await,
        Err(error) => Err(error),
    };
    if let Err(error) = begun {
        running.close().await;
        return Err(error);
    }
    Ok(running)
}

impl Running {
    /// Starts the writer alone, on an open store and its view.
    fn on_store(
        config: Config,
        clock: Arc<dyn Clock>,
        drivers: Box<DriverFactory>,
        store: Arc<dyn Store>,
        view: View,
    ) -> Self {
        let ids = Ids::after(&view);
        let (queue, items) = mpsc::channel(writer::QUEUE);
        let scheduler = &config.scheduler;
        let intervals = [
            scheduler.scheduler_interval_s,
            scheduler.cleanup_interval_s,
            scheduler.vm_poller_interval_s,
            scheduler.job_poller_interval_s,
            scheduler.machine_poller_interval_s,
        ];
        let now = clock.now();
        let beat = |(name, interval): (&'static str, NonZeroU64)| Beat {
            name,
            interval_s: interval.get(),
            last: now,
            error: None,
        };
        let breaker = Breaker::new(&view);
        let hub = Arc::new(Hub {
            clock: Arc::new(Timeline::new(clock, &view)),
            store,
            fleet: Fleet::new(drivers),
            office: Office::new(config.credentials, &config.state_dir),
            seq: watch::Sender::new(view.seq),
            newest: AtomicU64::new(view.seq),
            view: ArcSwap::from_pointee(view),
            tail: crate::tail::Tail::default(),
            surveying: Arc::default(),
            queue,
            outputs: Notify::new(),
            runtime: Handle::current(),
            aliases_file: config.cloud_aliases,
            limits_file: config.user_limits,
            beats: Mutex::new(RECONCILERS.into_iter().zip(intervals).map(beat).collect()),
            health: Health::default(),
            death: watch::Sender::new(None),
            closed: Mutex::default(),
            breaker,
            troubles: Mutex::default(),
            strays: Mutex::default(),
            config: config.scheduler,
        });
        let writer = tokio::spawn(vital(hub.clone(), "the writer", writer::run(hub.clone(), items, ids)));
        let (store, watching) = (hub.store.death(), hub.clone());
        let store_watch = tokio::spawn(async move { watching.die(store.await) });
        Self {
            hub,
            deciders: None,
            stop_deciders: CancellationToken::new(),
            poller: None,
            stop_poller: CancellationToken::new(),
            writer: Some(writer),
            store_watch,
        }
    }

    /// The desk of drivers.
    #[cfg(test)]
    pub(crate) fn desk(&self) -> Arc<dyn crate::desk::Desk> {
        Arc::new(Door(self.hub.clone()))
    }

    /// The door for everybody above.
    pub fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(Door(self.hub.clone()))
    }

    /// Ends if a part of the engine has ended that works as long as the process, or if the state folder is
    /// another's. The process has to end then: see [`Death`].
    pub fn died(&self) -> impl Future<Output = Death> + use<> {
        let mut death = self.hub.death.subscribe();
        async move {
            let found = death.wait_for(Option::is_some).await.ok().and_then(|death| death.clone());
            match found {
                Some(death) => death,
                // Stopped in order.
                None => std::future::pending().await,
            }
        }
    }

    async fn begin(
        &mut self,
        clouds: Vec<(String, CloudSpec)>,
        aliases: BTreeMap<String, Vec<String>>,
        limits: BTreeMap<String, u32>,
        dir: PathBuf,
    ) -> Result<(), StartError> {
        let drivers: BTreeSet<_> = clouds.iter().map(|(_, spec)| spec.driver.clone()).collect();
        let changes = [
            ("[start]", Change::Configure { clouds }),
            // With no file configured these are empty: what a former one said goes.
            (FILES, Change::Aliases { aliases }),
            (FILES, Change::UserLimits { limits }),
        ];
        for (by, change) in changes {
            let done = self.hub.change(by, vec![change]).await;
            done.map_err(|refusal| StartError::Write { dir: dir.clone(), refusal })?;
        }
        let view = self.hub.view.load_full();
        // Drivers of other clouds are the poller's to open: what was made through the API must not
        // keep the API from starting.
        for driver in drivers {
            let desk = Arc::new(Door(self.hub.clone()));
            let opened = self.hub.fleet.open(&driver, desk, &*self.hub.clock).await;
            opened.map_err(|error| StartError::Driver { driver, error })?;
        }
        let mut poller = JoinSet::new();
        let (hub, stop) = (self.hub.clone(), self.stop_poller.clone());
        for which in 0..RECONCILERS.len() {
            self.hub.health.pulse(which, &*self.hub.clock);
        }
        poller.spawn(supervise(hub.clone(), RECONCILERS[2], Some(2), stop.clone(), move || {
            reconcile::fleet::run(hub.clone(), stop.clone())
        }));
        self.poller = Some(poller);
        let mut deciders = JoinSet::new();
        for decider in DECIDERS {
            let (hub, stop) = (self.hub.clone(), self.stop_deciders.clone());
            let (name, which) = (RECONCILERS[decider.which], Some(decider.which));
            deciders.spawn(supervise(hub.clone(), name, which, stop.clone(), move || {
                reconcile::decider::run(hub.clone(), decider, stop.clone())
            }));
        }
        let (hub, stop) = (self.hub.clone(), self.stop_deciders.clone());
        deciders.spawn(supervise(hub.clone(), RECONCILERS[3], Some(3), stop.clone(), move || {
            reconcile::jobs::run(hub.clone(), stop.clone())
        }));
        for which in ProxyUse::ALL {
            let (hub, stop) = (self.hub.clone(), self.stop_deciders.clone());
            deciders.spawn(supervise(hub.clone(), "a refresher of proxies", None, stop.clone(), move || {
                proxies::refresh(hub.clone(), which, stop.clone())
            }));
        }
        let (hub, stop) = (self.hub.clone(), self.stop_deciders.clone());
        deciders.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => (),
                () = hub.watch_clock() => (),
            }
        });
        let (hub, stop) = (self.hub.clone(), self.stop_deciders.clone());
        deciders.spawn(supervise(hub.clone(), "the compaction of events", None, stop.clone(), move || {
            history::run(hub.clone(), stop.clone())
        }));
        self.deciders = Some(deciders);
        info!(jobs = view.jobs.len(), vms = view.vms.len(), clouds = view.clouds.len(), "engine started");
        Ok(())
    }

    /// Stops in order, as `keep_vms_on_stop` says.
    pub async fn stop(self) {
        let keep_vms = self.hub.config.keep_vms_on_stop;
        self.stop_with(keep_vms).await;
    }

    /// Stops in order. Unless VMs shall be kept, all are destroyed; the jobs that ran on them wait
    /// again and run at the next start. Then a last snapshot, and the state folder is free.
    pub async fn stop_with(mut self, keep_vms: bool) {
        self.stop_deciders.cancel();
        if let Some(mut deciders) = self.deciders.take() {
            while deciders.join_next().await.is_some() {}
        }
        if !keep_vms {
            let late = self.hub.clock.sleep(STOP_TIMEOUT);
            tokio::select! {
                () = destroy_all(&self.hub) => (),
                () = late => {
                    let left = self.hub.view.load().vms.len();
                    warn!(vms = left, "vms are left, they are destroyed at the next start");
                }
            }
        }
        self.stop_poller.cancel();
        if let Some(mut poller) = self.poller.take() {
            while poller.join_next().await.is_some() {}
        }
        self.close().await;
        info!("engine stopped");
    }

    /// Deletes the events beyond these bounds, and gives their space back. Returns their number.
    pub async fn compact(&self, keep_days: u64, keep_mib: u64) -> Result<u64, Refusal> {
        let store = &self.hub.store;
        store.snapshot(self.hub.view.load_full()).await?;
        let last = store.deletable(Bounds { days: keep_days, mib: keep_mib }).await?;
        let first = store.compacted();
        while !store.compact(last).await? {}
        store.shrink().await?;
        Ok(store.compacted() - first)
    }

    /// Ends the writer and the store.
    async fn close(&mut self) {
        let stopped = self.hub.enqueue(Work::Stop, Actor::default());
        drop(stopped.await);
        if let Some(writer) = self.writer.take() {
            drop(writer.await);
        }
        if let Err(error) = self.hub.store.snapshot(self.hub.view.load_full()).await {
            warn!(%error, "last snapshot not taken, the next start takes longer");
        }
        self.hub.store.close().await;
        self.hub.fleet.clear();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The tasks of the join sets end with them.
        if let Some(writer) = &self.writer {
            writer.abort();
        }
        self.store_watch.abort();
        self.hub.fleet.clear();
    }
}

/// Marks all VMs, and ends once the poller has destroyed them.
async fn destroy_all(hub: &Hub) {
    loop {
        let view = hub.view.load_full();
        if view.vms.is_empty() {
            return;
        }
        let why = "the scheduler stops";
        let left = view.vms.values().filter(|vm| vm.destroy.is_none());
        let changes: Vec<_> = left.map(|vm| Change::Destroy { seen: vm.clone(), why: why.into() }).collect();
        if !changes.is_empty()
            && let Err(refusal) = hub.change("[stop]", changes).await
        {
            error!(error = %refusal, "vms not destroyed");
            return;
        }
        hub.after(view.seq).await;
    }
}

async fn blocking<T: Send + 'static, E: Into<StartError> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, StartError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Into::into),
        // The runtime ends, or it panicked: in both cases with the message of whoever began it.
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}

fn read_aliases(path: Option<PathBuf>) -> Result<BTreeMap<String, Vec<String>>, FileError> {
    path.map_or_else(|| Ok(BTreeMap::new()), |path| files::aliases(&path))
}

fn read_limits(path: Option<PathBuf>) -> Result<BTreeMap<String, u32>, FileError> {
    path.map_or_else(|| Ok(BTreeMap::new()), |path| files::user_limits(&path))
}

fn check_clouds(clouds: &[(String, CloudSpec)]) -> Result<(), StartError> {
    let mut seen = HashSet::new();
    for (cloud, spec) in clouds {
        let wrong = |problem| StartError::Cloud { cloud: cloud.clone(), problem };
        valid::cloud(cloud, spec).map_err(|refusal| wrong(refusal.to_string()))?;
        if !seen.insert(cloud.to_ascii_lowercase()) {
            return Err(wrong("it is there twice, and names ignore case".into()));
        }
    }
    Ok(())
}

/// The picture of an engine that runs, for those who only look.
impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let view: &View = &self.hub.view.load();
        f.debug_struct("Running").field("seq", &view.seq).finish_non_exhaustive()
    }
}
