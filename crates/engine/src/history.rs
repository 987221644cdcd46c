//! Background task that keeps the history within its bounds.
//!
//! Events beyond `history_keep_days` and `history_keep_mib` are deleted in small steps between other writes.

use std::{sync::Arc, time::Duration};

use pileus_model::Clock;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    hub::Hub,
    store::{StoreError, compact::Bounds},
};

/// Pause between two looks at the history. What is deletable must have been so one look earlier, too: a wall
/// clock that jumps ahead and back deletes nothing.
const LOOK: Duration = Duration::from_secs(60 * 60);

/// Pause between two steps, for other writes.
const STEP: Duration = Duration::from_millis(50);

/// Runs until it is told to stop.
pub async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    let mut before = 0;
    loop {
        match look(&hub, before, &stop).await {
            Ok(deletable) => before = deletable,
            Err(error) => warn!(%error, "history not compacted"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = hub.clock.sleep(LOOK) => (),
        }
    }
}

/// Deletes what the former look found deletable and this one finds, too. Returns what is deletable now.
async fn look(hub: &Hub, before: u64, stop: &CancellationToken) -> Result<u64, StoreError> {
    if hub.store.is_tight() {
        return Ok(before);
    }
    let deletable = hub.store.deletable(bounds(hub)).await?;
    let last = deletable.min(before);
    let first = hub.store.compacted();
    if last > first {
        while !stop.is_cancelled() && !hub.store.compact(last).await? {
            hub.clock.sleep(STEP).await;
        }
        info!(events = hub.store.compacted() - first, last, "old events deleted");
    }
    Ok(deletable)
}

fn bounds(hub: &Hub) -> Bounds {
    Bounds { days: hub.config.history_keep_days, mib: hub.config.history_keep_mib }
}
