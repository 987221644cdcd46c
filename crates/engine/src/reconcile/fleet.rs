//! The `VMPoller`: keeps an agent for every cloud, tells each what is to be made and destroyed, and has
//! strays swept.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use pileus_model::{Clock, Monotonic, Name, View, Vm};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    Cost, Pace,
    agent::{Agent, Todo},
    thread_time,
};
use crate::{
    fleet::{Slot, within},
    hub::{Door, Hub, RECONCILERS, lock},
};

const WHICH: usize = 2;

/// Pause between two attempts to start a driver.
const OPEN_EVERY: Duration = Duration::from_secs(60);

/// Pause between two sweeps of a driver.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Runs until it is told to stop; its agents end with it.
pub async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    let mut pace = Pace::new(hub.clone(), stop, hub.config.vm_poller_interval_s);
    let mut poller = Poller {
        hub: hub.clone(),
        agents: HashMap::new(),
        tasks: JoinSet::new(),
        opening: HashMap::new(),
        aside: JoinSet::new(),
    };
    loop {
        pace.begin();
        let view = hub.view.load_full();
        let began = thread_time();
        let problems = poller.cycle(&view);
        let cost = Cost { size: view.vms.len(), took: thread_time().saturating_sub(began) };
        hub.beat(WHICH, (!problems.is_empty()).then(|| problems.join("; ")));
        hub.health.panicked(WHICH, false);
        let next = tokio::select! {
            next = pace.next(cost, false) => next,
            // A sweep's gate is open again, or a driver is there: agents go on.
            Some(ended) = poller.aside.join_next() => {
                if let Err(panicked) = ended {
                    error!(reconciler = RECONCILERS[WHICH], error = %panicked, "task ended");
                }
                true
            }
        };
        if !next {
            return;
        }
    }
}

struct Poller {
    hub: Arc<Hub>,
    /// By the cloud's name.
    agents: HashMap<Name, Line>,
    tasks: JoinSet<()>,
    /// Drivers that are not there yet, by name: when they were tried last, and what came of it.
    opening: HashMap<String, Opening>,
    /// Sweeps, and drivers being made.
    aside: JoinSet<()>,
}

/// The line to an agent. The agent ends once it is dropped.
struct Line {
    driver: String,
    todo: watch::Sender<Todo>,
    task: AbortHandle,
}

/// A driver that is being made, or could not be.
#[derive(Clone)]
struct Opening {
    began: Monotonic,
    task: AbortHandle,
    problem: Arc<Mutex<String>>,
}

impl Poller {
    /// Answers with what is wrong.
    fn cycle(&mut self, view: &View) -> Vec<String> {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(panicked) = ended {
                error!(reconciler = RECONCILERS[WHICH], error = %panicked, "agent ended, another takes over");
            }
        }
        self.agents.retain(|cloud, line| {
            let cloud = view.clouds.get(cloud);
            !line.task.is_finished() && cloud.is_some_and(|cloud| cloud.spec.driver == line.driver)
        });
        // Before the agents, who would keep it waiting.
        for (driver, slot) in self.hub.fleet.slots() {
            sweep(&self.hub, driver, &slot, &mut self.aside);
        }
        let mut problems = Vec::new();
        let mut todos = todos(view);
        for cloud in view.clouds.values() {
            let todo = todos.remove(&*cloud.name).unwrap_or_default();
            if let Some(line) = self.agents.get(&cloud.name) {
                // Agents with nothing to do are left to sleep.
                line.todo.send_if_modified(|old| {
                    let idle = old.is_empty() && todo.is_empty();
                    *old = todo;
                    !idle
                });
                continue;
            }
            let driver = &cloud.spec.driver;
            let Some(slot) = self.hub.fleet.get(driver) else {
                let problem = self.open(driver);
                problems.push(format!("{}: driver {driver} {problem}", cloud.name));
                continue;
            };
            let (todo, receiver) = watch::channel(todo);
            let agent = Agent::new(self.hub.clone(), cloud.name.clone(), slot);
            let task = self.tasks.spawn(agent.run(receiver));
            self.agents.insert(cloud.name.clone(), Line { driver: driver.clone(), todo, task });
        }
        let troubles = lock(&self.hub.troubles);
        problems.extend(troubles.iter().map(|(cloud, trouble)| format!("{cloud}: {trouble}")));
        problems
    }

    /// Has a driver made; aside, because it may hang. Answers with what is known of it.
    fn open(&mut self, driver: &str) -> String {
        let now = self.hub.clock.monotonic();
        if let Some(last) = self.opening.get(driver)
            && (!last.task.is_finished() || now.since(last.began) < OPEN_EVERY)
        {
            return lock(&last.problem).clone();
        }
        let problem = Arc::new(Mutex::new("is being started".to_owned()));
        let (hub, driver, told) = (self.hub.clone(), driver.to_owned(), problem.clone());
        let name = driver.clone();
        let task = self.aside.spawn(async move {
            let desk = Arc::new(Door(hub.clone()));
            if let Err(error) = hub.fleet.open(&driver, desk, &*hub.clock).await {
                error!(driver, %error, "driver does not start");
                *lock(&told) = format!("does not start: {error}");
            }
        });
        self.opening.insert(name, Opening { began: now, task, problem });
        "is being started".into()
    }
}

/// What is to be made and destroyed in each cloud.
pub fn todos(view: &View) -> HashMap<&str, Todo> {
    let mut todos: HashMap<&str, Todo> = HashMap::new();
    let list = |vm: &Arc<Vm>| vm.clone();
    for vm in view.vms.values() {
        if vm.destroy.is_some() {
            todos.entry(&vm.cloud).or_default().destroy.push(list(vm));
        } else if vm.handle.is_empty() {
            todos.entry(&vm.cloud).or_default().create.push(list(vm));
        }
    }
    todos
}

/// Has a driver destroy what this engine made and does not know any more. Not while a VM is being
/// made: it could be younger than the list of those that are known.
fn sweep(hub: &Arc<Hub>, driver: String, slot: &Arc<Slot>, sweeps: &mut JoinSet<()>) {
    let now = hub.clock.monotonic();
    if lock(&slot.swept).is_some_and(|at| now.since(at) < SWEEP_EVERY) {
        return;
    }
    let Ok(alone) = slot.gate.clone().try_write_owned() else { return };
    *lock(&slot.swept) = Some(now);
    let (hub, slot) = (hub.clone(), slot.clone());
    sweeps.spawn(async move {
        let known = hub.view.load().vms.keys().cloned().collect();
        match within(&*hub.clock, slot.driver.sweep(known)).await {
            Ok(strays) => {
                lock(&hub.strays).insert(driver.clone(), strays.clone());
                strays.iter().for_each(|vm| info!(vm.id = %vm, driver, "stray vm swept"));
            }
            Err(error) => warn!(driver, %error, "strays not swept"),
        }
        drop(alone);
    });
}
