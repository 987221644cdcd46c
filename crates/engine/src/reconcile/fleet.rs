//! The `VMPoller`: keeps an agent for every cloud, tells each what is to be made and destroyed, and has
//! strays swept.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use pileus_model::{Name, View, Vm};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    Pace,
    agent::{Agent, Todo},
};
use crate::{
    fleet::{Slot, within},
    hub::{Door, Hub, RECONCILERS, lock},
};

const WHICH: usize = 2;

/// Pause between two sweeps of a driver.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Runs until it is told to stop; its agents end with it.
pub async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    let mut pace = Pace::new(hub.clone(), stop, hub.config.vm_poller_interval_s);
    let mut poller = Poller { hub: hub.clone(), agents: HashMap::new(), tasks: JoinSet::new() };
    let mut sweeps = JoinSet::new();
    loop {
        let began = pace.begin();
        while sweeps.try_join_next().is_some() {}
        let problems = poller.cycle(&mut sweeps);
        hub.beat(WHICH, (!problems.is_empty()).then(|| problems.join("; ")));
        let next = tokio::select! {
            next = pace.next(began, false) => next,
            // Its gate is open again: agents that stood before it go on.
            Some(_) = sweeps.join_next() => true,
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
}

/// The line to an agent. The agent ends once it is dropped.
struct Line {
    driver: String,
    todo: watch::Sender<Todo>,
    task: AbortHandle,
}

impl Poller {
    /// Answers with what is wrong.
    fn cycle(&mut self, sweeps: &mut JoinSet<()>) -> Vec<String> {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(panicked) = ended {
                error!(reconciler = RECONCILERS[WHICH], error = %panicked, "agent ended, another takes over");
            }
        }
        let view = self.hub.view.load_full();
        self.agents.retain(|cloud, line| {
            let cloud = view.clouds.get(cloud);
            !line.task.is_finished() && cloud.is_some_and(|cloud| cloud.spec.driver == line.driver)
        });
        let mut problems = Vec::new();
        let mut drivers = BTreeMap::new();
        for cloud in view.clouds.values() {
            let driver = drivers
                .entry(cloud.spec.driver.clone())
                .or_insert_with_key(|driver| self.hub.fleet.open(driver, Arc::new(Door(self.hub.clone()))));
            if let Err(error) = driver {
                problems.push(format!("{}: driver {}: {error}", cloud.name, cloud.spec.driver));
            }
        }
        // Before the agents, who would keep it waiting.
        for (driver, slot) in self.hub.fleet.slots() {
            sweep(&self.hub, driver, &slot, sweeps);
        }
        let mut todos = todos(&view);
        for cloud in view.clouds.values() {
            let Some(Ok(slot)) = drivers.get(&cloud.spec.driver) else { continue };
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
            let (todo, receiver) = watch::channel(todo);
            let agent = Agent::new(self.hub.clone(), cloud.name.clone(), slot.clone());
            let task = self.tasks.spawn(agent.run(receiver));
            self.agents.insert(cloud.name.clone(), Line { driver: cloud.spec.driver.clone(), todo, task });
        }
        let troubles = lock(&self.hub.troubles);
        problems.extend(troubles.iter().map(|(cloud, trouble)| format!("{cloud}: {trouble}")));
        problems
    }
}

/// What is to be made and destroyed in each cloud.
fn todos(view: &View) -> HashMap<&str, Todo> {
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
    let now = hub.clock.now();
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
                strays.iter().for_each(|vm| info!(vm.id = %vm, driver, "stray vm swept"));
            }
            Err(error) => warn!(driver, %error, "strays not swept"),
        }
        drop(alone);
    });
}
