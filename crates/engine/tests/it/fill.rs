//! Time from the end of a job to the start of the next one on the same VM, by the number of jobs kept.
//!
//! `cargo test --release -p pileus-engine --test it -- --ignored --nocapture an_idle_slot_is_filled_soon`

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use pileus_engine::{
    DriverFactory, Running, SystemClock,
    desk::{Desk, End, JobResult},
    drivers::Driver,
    start,
};
use pileus_model::{
    Actor, Clock, Command, Engine, Exit, JobState, Name, Output, Receipt, Refusal, View, VmState,
};

use crate::fake::{Fake, config, job};

/// VMs that run jobs.
const SLOTS: u32 = 4;

/// Ends of jobs that are measured.
const ENDS: usize = 100;

/// Commands under way at a time.
const AT_ONCE: usize = 256;

/// Goal of design §11, at p50.
const GOAL: Duration = Duration::from_millis(20);

/// Jobs beside those that run.
#[derive(Debug, Clone, Copy)]
enum Kept {
    /// They wait for the same VMs.
    Waiting,
    /// They have ended.
    Ended,
}

/// An engine on the system's clock: a reconciler that rests does so in real time.
struct World {
    running: Running,
    engine: Arc<dyn Engine>,
    desk: Arc<dyn Desk>,
    cloud: Fake,
}

impl World {
    async fn start(dir: &Path) -> Self {
        let (cloud, desk) = (Fake::default(), Arc::new(OnceLock::<Arc<dyn Desk>>::new()));
        let (given, driver) = (desk.clone(), cloud.clone());
        let factory: Box<DriverFactory> = Box::new(move |_, desk| {
            drop(given.set(desk));
            let driver: Arc<dyn Driver> = Arc::new(driver.clone());
            Box::pin(async { Ok(driver) })
        });
        let mut settings = config(dir, &[("c", SLOTS)]);
        settings.scheduler.waiting_jobs_max = u64::MAX;
        settings.scheduler.waiting_bytes_max = u64::MAX;
        let running = start(settings, Arc::new(SystemClock), factory).await.unwrap();
        let engine = running.engine();
        let desk = desk.get().unwrap().clone();
        Self { running, engine, desk, cloud }
    }

    fn submit(&self, command: Command) -> pileus_model::BoxFuture<Result<Receipt, Refusal>> {
        self.engine.submit(command, Actor::default())
    }

    async fn until(&self, is: impl Fn(&View) -> bool) -> Arc<View> {
        loop {
            let view = self.engine.view();
            if is(&view) {
                return view;
            }
            self.engine.changed_since(view.seq).await;
        }
    }

    /// Submits `count` jobs, and removes those that are to have ended.
    async fn keep(&self, count: usize, kept: Kept) {
        let mut done = 0;
        while done < count {
            let some = AT_ONCE.min(count - done);
            let submitted: Vec<_> =
                (done..done + some).map(|_| self.submit(Command::SubmitJob(Box::new(job())))).collect();
            let mut removed = Vec::new();
            for job in submitted {
                let job: Name = job.await.unwrap().id.into();
                if matches!(kept, Kept::Ended) {
                    removed.push(self.submit(Command::DeleteJob { job }));
                }
            }
            for job in removed {
                job.await.unwrap();
            }
            done += some;
        }
    }

    /// Boots what is to boot, until as many VMs as there are slots run a job.
    async fn fill(&self) {
        loop {
            let view = self.engine.view();
            let busy = view.vms.values().filter(|vm| vm.job.is_some()).count();
            if busy == SLOTS as usize {
                return;
            }
            let boots: Vec<_> = view.vms.values().filter(|vm| vm.registered.is_none()).cloned().collect();
            for vm in boots {
                while !self.cloud.0.lock().unwrap().vms.contains_key(&vm.id) {
                    tokio::task::yield_now().await;
                }
                self.cloud.0.lock().unwrap().vms.insert(vm.id.clone(), VmState::Running);
                self.desk.registered(&vm.id).await.unwrap();
            }
            let seq = view.seq;
            drop(tokio::time::timeout(Duration::from_millis(100), self.engine.changed_since(seq)).await);
        }
    }

    /// Ends one job after the other; answers with the times until the VM had another one.
    async fn ends(&self) -> Vec<Duration> {
        let (clock, mut times) = (SystemClock, Vec::new());
        let vms: Vec<Name> = self.engine.view().vms.keys().cloned().collect();
        for vm in vms.iter().cycle().take(ENDS) {
            let runs = |view: &View| view.vms[vm].job.clone();
            let ended = self.until(|view| runs(view).is_some()).await.vms[vm].job.clone().unwrap();
            let began = clock.monotonic();
            let end = End::Exited(Exit::Code(0));
            self.desk.finished(vm, &ended, JobResult::new(end, Output::default())).await.unwrap();
            self.until(|view| runs(view).is_some_and(|job| job != ended)).await;
            times.push(clock.monotonic().since(began));
        }
        times.sort();
        times
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: run it with --release"]
async fn an_idle_slot_is_filled_soon() {
    let mut missed = Vec::new();
    for kept in [Kept::Waiting, Kept::Ended] {
        for count in [0, 20_000, 60_000] {
            let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
            let world = World::start(dir.path()).await;
            // Enough of one user's for all ends; these jobs are what runs.
            world.keep(ENDS + 2 * SLOTS as usize, Kept::Waiting).await;
            world.fill().await;
            world.keep(count, kept).await;
            let times = world.ends().await;
            let at = |percent: usize| times[(times.len() - 1) * percent / 100];
            println!(
                "{count:6} {kept:?}: p50 {:.1} ms, p99 {:.1} ms",
                at(50).as_secs_f64() * 1000.0,
                at(99).as_secs_f64() * 1000.0
            );
            let waits = world.engine.view().jobs.values().filter(|job| job.state == JobState::New).count();
            assert!(waits > 0, "jobs were left to fill slots with");
            missed.extend((at(50) > GOAL).then(|| format!("{count} {kept:?}: {:?}", at(50))));
            world.running.stop().await;
        }
    }
    assert!(missed.is_empty(), "the goal of {GOAL:?} was missed: {missed:?}");
}
