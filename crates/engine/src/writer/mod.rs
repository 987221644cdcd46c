//! The one that writes: takes work from everybody, and makes it events, durable, applied, published
//! and answered, in this order.
//!
//! Group commit: what waits is written in one transaction. Each piece of work sees what those before
//! it did; if the write fails, nothing of the batch is kept and all are refused alike.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use pileus_model::{Actor, Clock, Command, Event, Kind, Receipt, Refusal, Time, View};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info, warn};

use crate::{
    change::{Change, Settled, settle},
    command::{decide, keys},
    hub::Hub,
    ids::Ids,
    owner::owner,
    state::apply,
    store::Batch,
    timeline::{Moment, moved},
    waiting,
};

/// Pieces of work that may wait.
pub const QUEUE: usize = 1024;

/// Most pieces of work in one transaction.
const BATCH: usize = 512;

/// Fewest events between two snapshots; more where the state is larger, so that writing it costs
/// no more per event.
const SNAPSHOT_EVERY: usize = 10_000;

/// Pause between two attempts to write after a failure.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// A piece of work and where its answer goes.
pub struct Item {
    pub work: Work,
    pub by: Actor,
    pub answer: oneshot::Sender<Result<Receipt, Refusal>>,
}

pub enum Work {
    Command(Command),
    /// Settled one after the other; a refused one does not keep the others from being done.
    Changes(Vec<Change>),
    /// The engine's time is set, by so many milliseconds.
    SetClock {
        by_ms: i64,
    },
    /// Nothing comes after this.
    Stop,
}

/// Works until it is told to stop, or nobody is left to give it work.
pub async fn run(hub: Arc<Hub>, mut queue: mpsc::Receiver<Item>, mut ids: Ids) {
    let mut items = Vec::new();
    // Also of earlier lives: a server that is killed before it has written enough would never take one, and start later
    // each time.
    let mut since_snapshot = hub.store.folded();
    let mut snapshot = tokio::task::spawn(async {});
    while next(&hub, &mut queue, &mut items).await {
        if items.iter().any(|item| matches!(item.work, Work::Stop)) {
            queue.close();
        }
        let written = write(&hub, std::mem::take(&mut items), &mut ids).await;
        since_snapshot += written;
        let view = hub.view.load();
        if since_snapshot >= SNAPSHOT_EVERY.max(view.jobs.len() + view.vms.len()) && snapshot.is_finished() {
            since_snapshot = 0;
            let write = hub.store.snapshot(view.clone());
            snapshot = tokio::spawn(async move {
                if let Err(error) = write.await {
                    warn!(%error, "snapshot not taken, the next start takes longer");
                }
            });
        }
    }
    drop(snapshot.await);
}

/// Waits for work; `false`: there is none any more. Tries to write while the last write failed: without
/// work nothing else would notice that space is back.
async fn next(hub: &Hub, queue: &mut mpsc::Receiver<Item>, items: &mut Vec<Item>) -> bool {
    while hub.health.is_refused() {
        tokio::select! {
            biased;
            count = queue.recv_many(items, BATCH) => return count > 0,
            () = hub.clock.sleep(PROBE_EVERY) => hub.health.tried(hub.store.probe().await),
        }
    }
    queue.recv_many(items, BATCH).await > 0
}

/// Writes a batch; answers with the number of events.
async fn write(hub: &Hub, items: Vec<Item>, ids: &mut Ids) -> usize {
    let before = hub.view.load_full();
    let mut moment = hub.clock.moment(&before);
    let mut set = None;
    let mut view = View::clone(&before);
    let mut batch = Batch::default();
    let mut answers = Vec::with_capacity(items.len());
    for Item { work, by, answer } in items {
        let began = view.seq;
        let by_ms = if let Work::SetClock { by_ms } = &work { Some(*by_ms) } else { None };
        let done = perform(&mut view, &mut batch, work, by, moment, ids, hub);
        if let Some(by_ms) = by_ms.filter(|_| done.is_ok()) {
            moment = Moment::from(moved(moment.now, by_ms));
            moment.expiry = Time(i64::MIN);
            set = Some((view.seq, by_ms));
        }
        answers.push((answer, began, done));
    }
    let events = batch.events.len();
    let stores = !batch.outputs.is_empty();
    let written = if events == 0 && !stores {
        Ok(before.clone())
    } else {
        let batch = Arc::new(batch);
        hub.health.writes(&*hub.clock);
        let written = hub.store.append(batch.clone()).await;
        hub.health.wrote(written);
        written.map(|()| {
            batch.events.iter().for_each(|event| log(event.seq, &event.kind));
            // Before the view: whoever sees an event's number finds the event.
            if let Some((seq, by_ms)) = set {
                hub.clock.set(seq, by_ms);
            }
            hub.tail.push(Arc::unwrap_or_clone(batch).events);
            let view = Arc::new(view);
            hub.view.store(view.clone());
            hub.newest.store(view.seq, Ordering::Release);
            hub.seq.send_replace(view.seq);
            if stores {
                hub.outputs.notify_waiters();
            }
            view
        })
    };
    for (answer, began, done) in answers {
        let done = match (&written, done) {
            (Ok(view), Ok(id)) => Ok(Receipt { view: view.clone(), id }),
            (Ok(_), Err(refusal)) => Err(refusal),
            // Refused upon a state that is as it was.
            (Err(_), Err(refusal)) if began == before.seq => Err(refusal),
            (Err(error), _) => Err(Refusal::from(*error)),
        };
        // Whoever asked may have gone; it was done all the same.
        drop(answer.send(done));
    }
    if written.is_ok() { events } else { 0 }
}

/// Puts one piece of work into the view and the batch. Answers with the id of what was made.
fn perform(
    view: &mut View,
    batch: &mut Batch,
    work: Work,
    mut by: Actor,
    moment: Moment,
    ids: &mut Ids,
    hub: &Hub,
) -> Result<String, Refusal> {
    let key = by.key.take();
    let Moment { now, expiry, .. } = moment;
    match work {
        Work::Command(command) => {
            if hub.store.is_tight() && growth::command_grows(&command) {
                return Err(Refusal::Full);
            }
            let hash = key.as_ref().map(|_| keys::hash(&command));
            if let (Some(key), Some(hash)) = (&key, &hash)
                && let Some(id) = keys::done(view, key, hash, expiry)?
            {
                return Ok(id);
            }
            let mut kinds = guarded(|| match command {
                Command::KeepAnswer { key, request, answer } => {
                    keys::answered(view, key, request, answer, expiry)
                }
                command => {
                    if let Command::SubmitJob(spec) = &command {
                        waiting::admit(view, spec, &hub.config)?;
                    }
                    decide(view, command, now, ids)
                }
            })?;
            let id = match kinds.first() {
                Some(Kind::JobSubmitted(job)) => job.id.to_string(),
                _ => String::new(),
            };
            if let (Some(key), Some(hash)) = (&key, hash) {
                kinds.extend(keys::used(view, key, hash, &id, expiry));
            }
            happen(view, batch, kinds.into(), &by, now).map(|()| id)
        }
        Work::Changes(changes) => {
            let mut answer = Ok(String::new());
            let is_tight = hub.store.is_tight();
            for change in changes {
                if is_tight && growth::change_grows(&change) {
                    // A later cycle decides again.
                    continue;
                }
                let done = guarded(|| settle(view, change, now, ids, &hub.config))
                    .and_then(|settled| happen(view, batch, settled, &by, now));
                if let Err(refusal) = done {
                    answer = Err(refusal);
                }
            }
            answer
        }
        Work::SetClock { by_ms } => {
            // Back: what other processes have stamped may be right, and must not become older. Ahead: it must
            // not become older either, and moves along.
            let since = (by_ms < 0).then(|| hub.clock.started());
            let kinds = vec![Kind::ClockSet { by_ms, since }];
            happen(view, batch, kinds.into(), &by, moved(now, by_ms)).map(|()| String::new())
        }
        Work::Stop => Ok(String::new()),
    }
}

/// Applies events. One that does not apply spoils neither the view nor the batch.
fn happen(
    view: &mut View,
    batch: &mut Batch,
    settled: Settled,
    by: &Actor,
    now: Time,
) -> Result<(), Refusal> {
    let mut next = view.clone();
    let mut events = Vec::with_capacity(settled.kinds.len());
    guarded(|| {
        for kind in settled.kinds {
            let event =
                Event { seq: next.seq + 1, time: now, by: by.clone(), owner: owner(&next, &kind), kind };
            apply(&mut next, &event);
            events.push(event);
        }
        Ok(())
    })?;
    *view = next;
    batch.events.extend(events);
    batch.outputs.extend(settled.output);
    Ok(())
}

/// A mistake of ours in one piece of work must not end the writer.
fn guarded<T>(work: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        error!("deciding panicked, nothing was changed");
        Err(Refusal::Unavailable)
    })
}

/// One line for each change of a VM or job, with one name for each field.
fn log(seq: u64, kind: &Kind) {
    match kind {
        Kind::VmRequested(vm) => info!(seq, vm.id = %vm.id, cloud = %vm.cloud, "vm requested"),
        Kind::VmState { vm, state } => info!(seq, vm.id = %vm, state = state.as_str(), "vm changed state"),
        Kind::VmRegistered { vm } => info!(seq, vm.id = %vm, "vm registered"),
        Kind::VmOverride { vm, state, .. } => info!(seq, vm.id = %vm, ?state, "vm overridden"),
        Kind::VmDestroy { vm, why } => info!(seq, vm.id = %vm, why, "vm to be destroyed"),
        Kind::BootFailed { vm, failure, .. } => {
            warn!(seq, vm.id = %vm, cloud = %failure.cloud, fault = failure.fault.as_str(), "boot failed");
        }
        Kind::VmGone { vm, why } => info!(seq, vm.id = %vm, why, "vm gone"),
        Kind::VmFailed { vm, error, error_count } => {
            warn!(seq, vm.id = %vm, error, error_count, "vm failed");
        }
        Kind::JobSubmitted(job) => info!(seq, job.id = %job.id, user.id = %job.user, "job submitted"),
        Kind::JobScheduled { job, vm } => info!(seq, job.id = %job, vm.id = %vm, "job scheduled"),
        Kind::JobStarted { job, vm } => info!(seq, job.id = %job, vm.id = %vm, "job started"),
        Kind::JobReturned { job, vm, error, .. } => {
            warn!(seq, job.id = %job, vm.id = %vm, error, "job not started by its host, it waits again");
        }
        Kind::JobFinished { job, exit, .. } => info!(seq, job.id = %job, ?exit, "job finished"),
        Kind::JobState { job, state, .. } => {
            info!(seq, job.id = %job, state = state.as_str(), "job changed state");
        }
        Kind::JobReason { job, reason } => debug!(seq, job.id = %job, reason, "job waits"),
        Kind::CloudSet(cloud) => info!(seq, cloud = %cloud.name, "cloud set"),
        Kind::CloudRetired { cloud } => info!(seq, %cloud, "cloud retired"),
        Kind::CloudGone { cloud } => info!(seq, %cloud, "cloud gone"),
        Kind::CloudEnabled { cloud, enabled } => info!(seq, %cloud, enabled, "cloud switched"),
        Kind::CloudDraining { cloud } => info!(seq, %cloud, "cloud drained"),
        Kind::CloudSlots { cloud, vm_slots } => info!(seq, %cloud, vm_slots, "cloud resized"),
        Kind::VmHandle { vm, .. } => debug!(seq, vm.id = %vm, "vm known to its cloud"),
        Kind::JobsForgotten { jobs } => debug!(seq, jobs = jobs.len(), "jobs forgotten"),
        Kind::AliasSet { alias, .. } => info!(seq, %alias, "alias set"),
        Kind::AliasGone { alias } => info!(seq, %alias, "alias gone"),
        Kind::UserLimit { user, vms } => info!(seq, user.id = %user, vms, "user limit set"),
        Kind::ProxyRenewed { user, which, expires, .. } => {
            info!(seq, user.id = %user, proxy = which.as_str(), ?expires, "proxy renewed");
        }
        Kind::TokenCreated(token) => info!(seq, token = %token.name, user.id = %token.user, "token made"),
        Kind::TokenRevoked { .. } => info!(seq, "token revoked"),
        Kind::KeyUsed { .. } => debug!(seq, "idempotency key used"),
        Kind::KeyAnswered { .. } => debug!(seq, "answer kept"),
        Kind::ClockSet { by_ms, .. } => info!(seq, by_ms, "the engine's time was set to the wall clock"),
        Kind::ServiceAction { action, detail } => info!(seq, %action, detail, "service action asked for"),
        Kind::KeysForgotten { keys } => debug!(seq, keys = keys.len(), "idempotency keys forgotten"),
    }
}

mod growth;
#[cfg(test)]
mod tests;
