//! Pieces of what a job wrote: from its worker while it runs, from the store once it has ended.
//!
//! A reader pulls. Nothing is sent by a worker, and nothing is stored, while no client reads.

use std::{sync::Arc, time::Duration};

use pileus_model::{Clock, Job, JobState, Name, OutputPart, OutputRange, Refusal, View};

use crate::hub::Hub;

/// Longest pause before a worker that could not be asked is asked again. It may have called home since, which no
/// view shows.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Time that a job which was removed may take to end on its VM and to be reported.
const REMOVED: Duration = Duration::from_secs(60);

/// The piece at an offset. Waits for up to `wait` while there is none and the job may write more. `None`: there is no
/// such job.
pub async fn part(
    hub: Arc<Hub>,
    job: Name,
    range: OutputRange,
    wait: Duration,
) -> Result<Option<OutputPart>, Refusal> {
    let began = hub.clock.monotonic();
    loop {
        // Before all looks: whatever is stored after them ends the pause.
        let stored = hub.outputs.notified();
        tokio::pin!(stored);
        stored.as_mut().enable();
        let view = hub.view.load_full();
        let Some(it) = view.jobs.get(&job) else { return Ok(None) };
        let left = wait.saturating_sub(hub.clock.monotonic().since(began));
        let vm = vm_of(&view, it, &hub);
        if let Some(part) = live(&hub, &view, vm, &job, range, left).await {
            return Ok(Some(part));
        }
        if let Some(part) = hub.store.output_part(job.clone(), range).await? {
            return Ok(Some(part));
        }
        let ended = it.state.is_final() && vm.is_none();
        let left = wait.saturating_sub(hub.clock.monotonic().since(began));
        if ended || left.is_zero() {
            return Ok(Some(OutputPart { offset: range.offset, ended, ..OutputPart::default() }));
        }
        let changed = changed(&hub, &view, it, vm);
        tokio::select! {
            () = stored => {}
            () = changed => {}
            () = hub.clock.sleep(left.min(ASK_AGAIN)) => {}
        }
    }
}

/// VM that runs the job, or still ends it after it was removed.
fn vm_of<'a>(view: &View, job: &'a Job, hub: &Hub) -> Option<&'a Name> {
    let ends = || job.finished.is_some_and(|at| hub.clock.now().since(at) < REMOVED);
    let runs = job.state == JobState::Running || (job.state == JobState::Removed && ends());
    job.vm.as_ref().filter(|vm| runs && view.vms.contains_key(*vm))
}

/// The piece that the job's worker has.
async fn live(
    hub: &Hub,
    view: &View,
    vm: Option<&Name>,
    job: &str,
    range: OutputRange,
    wait: Duration,
) -> Option<OutputPart> {
    let vm = view.vms.get(vm?)?;
    let slot = hub.fleet.get(&view.clouds.get(&vm.cloud)?.spec.driver)?;
    slot.driver.output_part(&vm.id, job, range, wait).await
}

/// Ends once the job or its VM is not as it was in `view`.
async fn changed(hub: &Hub, view: &View, job: &Arc<Job>, vm: Option<&Name>) {
    let mut seq = view.seq;
    loop {
        hub.after(seq).await;
        let view = hub.view.load_full();
        seq = view.seq;
        let same = view.jobs.get(&job.id).is_some_and(|it| Arc::ptr_eq(it, job));
        if !same || vm.is_some_and(|vm| !view.vms.contains_key(vm)) {
            return;
        }
    }
}
