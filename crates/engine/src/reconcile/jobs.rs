//! The `JobPoller`: brings jobs of the sources into the state.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{Cost, Pace};
use crate::{
    change::Change,
    hub::{Hub, RECONCILERS},
    sources::{self, Source},
};

const WHICH: usize = 3;

/// Runs until it is told to stop.
pub async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    let sources = sources::all();
    let mut pace = Pace::new(hub.clone(), stop, hub.config.job_poller_interval_s);
    loop {
        pace.begin();
        let mut problems = Vec::new();
        for source in &sources {
            if let Err(problem) = poll(&hub, &**source).await {
                error!(
                    reconciler = RECONCILERS[WHICH],
                    source = source.name(),
                    error = problem,
                    "cycle failed"
                );
                problems.push(format!("{}: {problem}", source.name()));
            }
        }
        hub.beat(WHICH, (!problems.is_empty()).then(|| problems.join("; ")));
        hub.health.panicked(WHICH, false);
        if !pace.next(Cost::default(), !problems.is_empty()).await {
            return;
        }
    }
}

async fn poll(hub: &Arc<Hub>, source: &dyn Source) -> Result<(), String> {
    // In a task of its own, so that a panic ends no more than this look.
    let found =
        tokio::spawn(source.poll(hub.view.load_full())).await.map_err(|panicked| panicked.to_string())?;
    let found: Vec<_> = found
        .map_err(|error| error.to_string())?
        .into_iter()
        .map(|job| Change::Found { job: Box::new(job) })
        .collect();
    if found.is_empty() {
        return Ok(());
    }
    hub.change("[job poller]", found).await.map(drop).map_err(|refusal| refusal.to_string())
}
