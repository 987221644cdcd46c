//! The agent of one cloud: makes, watches and destroys its VMs through its driver.
//!
//! It starts calls and does not wait for them, at most one for each VM. Every call has a time limit
//! and a task of its own, so that neither a driver that hangs nor one that panics stops it. What it
//! learns goes to the writer; what could not be written is learnt again.

use std::{collections::HashMap, sync::Arc, time::Duration};

use pileus_model::{Clock, Monotonic, Name, View, Vm};
use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
};
use tracing::{debug, warn};

use super::backoff::Backoff;
use crate::{
    change::Change,
    drivers::{DriverError, Seen},
    fleet::{Slot, within},
    hub::{Hub, lock},
};

/// VMs of one cloud that are being made at a time.
const CALLS_MAX: usize = 16;

const BY: &str = "[vm poller]";

/// What is to be done. It may be old: each is looked up again before anything is done.
#[derive(Debug, Default)]
pub struct Todo {
    pub create: Vec<Arc<Vm>>,
    pub destroy: Vec<Arc<Vm>>,
}

impl Todo {
    pub fn is_empty(&self) -> bool {
        self.create.is_empty() && self.destroy.is_empty()
    }
}

/// What a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    Create(Name),
    Destroy(Name),
    Poll,
}

#[derive(Debug)]
enum Answer {
    Create(Result<String, DriverError>),
    Destroy(Result<(), DriverError>),
    Poll(Vec<Name>, Result<Vec<Seen>, DriverError>),
}

/// The agent.
pub struct Agent {
    hub: Arc<Hub>,
    cloud: Name,
    slot: Arc<Slot>,
    calls: JoinSet<Answer>,
    about: HashMap<Id, Call>,
    /// After a failed `create`.
    create: Backoff,
    /// After a failed `poll`.
    poll: Backoff,
    /// After a failed `destroy`, by VM.
    destroy: HashMap<Name, Backoff>,
    polled: Option<Monotonic>,
}

impl Agent {
    pub fn new(hub: Arc<Hub>, cloud: Name, slot: Arc<Slot>) -> Self {
        Self {
            hub,
            cloud,
            slot,
            calls: JoinSet::new(),
            about: HashMap::new(),
            create: Backoff::default(),
            poll: Backoff::default(),
            destroy: HashMap::new(),
            polled: None,
        }
    }

    /// Works until nobody tells it what to do.
    pub async fn run(mut self, mut todo: watch::Receiver<Todo>) {
        loop {
            let now = self.hub.clock.monotonic();
            let wait = self.begin(&todo.borrow_and_update(), now);
            tokio::select! {
                changed = todo.changed() => if changed.is_err() {
                    lock(&self.hub.troubles).remove(&self.cloud);
                    return;
                },
                Some(ended) = self.calls.join_next_with_id() => self.end(ended).await,
                () = self.hub.clock.sleep(wait) => (),
            }
        }
    }

    /// Starts what is due. Answers with how long to wait if nothing happens before.
    fn begin(&mut self, todo: &Todo, now: Monotonic) -> Duration {
        let view = self.hub.view.load_full();
        let interval = Duration::from_secs(self.hub.config.vm_poller_interval_s.get());
        let mut wait = interval;
        let destroys_max = self.hub.config.max_destroying_vms.get();
        let destroys_max = usize::try_from(destroys_max).unwrap_or(usize::MAX);
        self.destroy.retain(|vm, _| view.vms.contains_key(vm));
        for vm in newest(&view, &todo.destroy).filter(|vm| vm.destroy.is_some()) {
            if self.count(|call| matches!(call, Call::Destroy(_))) >= destroys_max {
                break;
            }
            if let Some(left) = self.destroy.get(&vm.id).and_then(|backoff| backoff.wait(now)) {
                wait = wait.min(left);
            } else if !self.busy(&vm.id) {
                let (slot, hub) = (self.slot.clone(), self.hub.clone());
                self.spawn(Call::Destroy(vm.id.clone()), async move {
                    Answer::Destroy(within(&*hub.clock, slot.driver.destroy(vm)).await)
                });
            }
        }
        for vm in newest(&view, &todo.create).filter(|vm| vm.destroy.is_none() && vm.handle.is_empty()) {
            if let Some(left) = self.create.wait(now) {
                wait = wait.min(left);
                break;
            }
            if self.count(|call| matches!(call, Call::Create(_))) >= CALLS_MAX {
                break;
            }
            if self.busy(&vm.id) {
                continue;
            }
            // Closed while strays are swept; the poller wakes us afterwards.
            let Ok(pass) = self.slot.gate.clone().try_read_owned() else { break };
            let (slot, hub) = (self.slot.clone(), self.hub.clone());
            self.spawn(Call::Create(vm.id.clone()), async move {
                let made = within(&*hub.clock, slot.driver.create(vm)).await;
                drop(pass);
                Answer::Create(made)
            });
        }
        let due = self.polled.map_or(Duration::ZERO, |at| interval.saturating_sub(now.since(at)));
        let due = due.max(self.poll.wait(now).unwrap_or_default());
        if !due.is_zero() {
            return wait.min(due);
        }
        if self.count(|call| *call == Call::Poll) == 0 {
            self.polled = Some(now);
            let known = |vm: &&Arc<Vm>| vm.destroy.is_none() && !vm.handle.is_empty();
            let vms: Vec<_> = view.vms_of(&self.cloud).filter(known).cloned().collect();
            if !vms.is_empty() {
                let (slot, hub) = (self.slot.clone(), self.hub.clone());
                self.spawn(Call::Poll, async move {
                    let names = vms.iter().map(|vm| vm.id.clone()).collect();
                    Answer::Poll(names, within(&*hub.clock, slot.driver.poll(vms)).await)
                });
            }
        }
        wait
    }

    fn spawn(&mut self, about: Call, call: impl Future<Output = Answer> + Send + 'static) {
        debug!(cloud = %self.cloud, call = ?about, "driver called");
        let id = self.calls.spawn(call).id();
        self.about.insert(id, about);
    }

    fn busy(&self, vm: &Name) -> bool {
        self.count(|call| matches!(call, Call::Create(it) | Call::Destroy(it) if it == vm)) > 0
    }

    fn count(&self, of: impl Fn(&Call) -> bool) -> usize {
        self.about.values().filter(|call| of(call)).count()
    }

    /// A call has ended: writes what was learnt.
    async fn end(&mut self, ended: Result<(Id, Answer), JoinError>) {
        let (id, answer) = match ended {
            Ok((id, answer)) => (id, Some(answer)),
            Err(panicked) => (panicked.id(), None),
        };
        let Some(about) = self.about.remove(&id) else { return };
        let broke = || DriverError::Failed("the driver panicked".into());
        let now = self.hub.clock.monotonic();
        let (changes, failure) = match (&about, answer) {
            (Call::Create(vm), Some(Answer::Create(Ok(handle)))) => {
                // What the cloud says of it is wanted at once.
                self.polled = None;
                (vec![Change::Created { vm: vm.clone(), handle }], None)
            }
            (Call::Create(vm), answer) => {
                let error = match answer {
                    Some(Answer::Create(Err(error))) => error,
                    _ => broke(),
                };
                let full = matches!(error, DriverError::NoCapacity(_));
                (vec![Change::NotCreated { vm: vm.clone(), error: error.to_string(), full }], Some(error))
            }
            (Call::Destroy(vm), Some(Answer::Destroy(Ok(())))) => {
                (vec![Change::Gone { vm: vm.clone() }], None)
            }
            (Call::Destroy(vm), answer) => {
                let error = match answer {
                    Some(Answer::Destroy(Err(error))) => error,
                    _ => broke(),
                };
                (vec![Change::NotDestroyed { vm: vm.clone(), error: error.to_string() }], Some(error))
            }
            (Call::Poll, Some(Answer::Poll(vms, Ok(seen)))) if vms.len() == seen.len() => {
                let seen = vms.into_iter().zip(seen).map(|(vm, seen)| Change::Polled { vm, seen });
                (seen.collect(), None)
            }
            (Call::Poll, answer) => {
                let error = match answer {
                    Some(Answer::Poll(_, Err(error))) => error,
                    Some(_) => DriverError::Failed("the cloud's answer has gaps".into()),
                    None => broke(),
                };
                (Vec::new(), Some(error))
            }
        };
        if let Some(error) = &failure {
            warn!(cloud = %self.cloud, call = ?about, %error, "driver failed");
        }
        let written = if changes.is_empty() { Ok(()) } else { self.hub.change(BY, changes).await.map(drop) };
        let trouble = failure.map(|error| error.to_string());
        let trouble = trouble.or_else(|| written.err().map(|refusal| refusal.to_string()));
        self.learn(about, trouble, now);
    }

    /// Backs off where something went wrong, and lets everybody know.
    fn learn(&mut self, about: Call, trouble: Option<String>, now: Monotonic) {
        let backoff = match about {
            Call::Create(_) => &mut self.create,
            Call::Poll => &mut self.poll,
            Call::Destroy(vm) => self.destroy.entry(vm).or_default(),
        };
        match &trouble {
            Some(_) => drop(backoff.fail(now)),
            None => backoff.reset(),
        }
        let closed = [self.create.wait(now), self.poll.wait(now)].into_iter().flatten().max();
        match closed {
            Some(wait) => drop(lock(&self.hub.closed).insert(self.cloud.clone(), now.after(wait))),
            None => drop(lock(&self.hub.closed).remove(&self.cloud)),
        }
        let mut troubles = lock(&self.hub.troubles);
        match trouble {
            Some(trouble) => drop(troubles.insert(self.cloud.clone(), trouble)),
            None if closed.is_none() => drop(troubles.remove(&self.cloud)),
            None => (),
        }
    }
}

/// The same VMs as they are now.
fn newest<'a>(view: &'a View, vms: &'a [Arc<Vm>]) -> impl Iterator<Item = Arc<Vm>> + 'a {
    vms.iter().filter_map(|vm| view.vms.get(&vm.id).cloned())
}
