//! Reconcilers that only think: from the view to changes, which go to the writer.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use pileus_model::View;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{Cost, Pace, thread_time};
use crate::{
    change::Change,
    hub::{Hub, RECONCILERS},
    schedule::{
        assign::assign,
        cleanup::cleanup_without,
        plan::{Intent, plan_without},
    },
};

/// What to change, by the view.
pub type Think = fn(&Hub, &View) -> Vec<Change>;

/// A reconciler that thinks.
#[derive(Clone, Copy)]
pub struct Decider {
    /// Its place in [`RECONCILERS`].
    pub which: usize,
    /// Its name in events.
    pub by: &'static str,
    pub think: Think,
    pub interval_s: fn(&Hub) -> NonZeroU64,
}

/// All of them.
pub static DECIDERS: [Decider; 3] = [
    Decider {
        which: 0,
        by: "[scheduler]",
        think: schedule,
        interval_s: |hub| hub.config.scheduler_interval_s,
    },
    Decider { which: 1, by: "[cleanup]", think: clean, interval_s: |hub| hub.config.cleanup_interval_s },
    Decider {
        which: 4,
        by: "[machine poller]",
        think: give_jobs,
        interval_s: |hub| hub.config.machine_poller_interval_s,
    },
];

/// Runs until it is told to stop.
pub async fn run(hub: Arc<Hub>, decider: Decider, stop: CancellationToken) {
    let Decider { which, interval_s, .. } = decider;
    let mut pace = Pace::new(hub.clone(), stop, interval_s(&hub));
    loop {
        pace.begin();
        let view = hub.view.load_full();
        let size = view.jobs.len() + view.vms.len();
        let done = cycle(&hub, view, decider).await;
        let (took, error) = (done.as_ref().copied().unwrap_or_default(), done.err());
        if let Some(error) = &error {
            error!(reconciler = RECONCILERS[which], error, "cycle failed");
        }
        hub.beat(which, error.clone());
        if !pace.next(Cost { size, took }, error.is_some()).await {
            return;
        }
    }
}

/// Runs a cycle; answers with the processor time that its thoughts took.
async fn cycle(hub: &Arc<Hub>, view: Arc<View>, decider: Decider) -> Result<Duration, String> {
    let Decider { which, by, think, .. } = decider;
    let thinker = hub.clone();
    // A long thought must not keep a request waiting, nor a panic end the reconciler.
    let thought = tokio::task::spawn_blocking(move || {
        let began = thread_time();
        let changes = think(&thinker, &view);
        (changes, thread_time().saturating_sub(began))
    });
    let thought = thought.await;
    hub.health.panicked(which, thought.is_err());
    let (changes, took) = thought.map_err(|panicked| panicked.to_string())?;
    if !changes.is_empty() {
        hub.change(by, changes).await.map_err(|refusal| refusal.to_string())?;
    }
    Ok(took)
}

fn schedule(hub: &Hub, view: &View) -> Vec<Change> {
    let now = hub.clock.moment(view).now;
    let intents = plan_without(view, now, &hub.config, &hub.closed()).into_iter();
    let change = |intent| match intent {
        Intent::Boot { job, cloud } => Change::Boot { job, cloud },
        Intent::Reason { job, reason } => Change::Reason { job, reason },
    };
    intents.map(change).collect()
}

fn clean(hub: &Hub, view: &View) -> Vec<Change> {
    cleanup_without(view, hub.clock.moment(view), &hub.config, &hub.closed())
}

fn give_jobs(hub: &Hub, view: &View) -> Vec<Change> {
    assign(view, hub.config.algorithm).into_iter().map(|(job, vm)| Change::Start { job, vm }).collect()
}
