//! Reconcilers compare what is with what shall be, and do what is missing.
//!
//! Each is woken by time and by every change of the view, takes no input, and may be repeated: what it
//! does not get done, or did on a view that is old by now, the next cycle does. [`decider`] runs those
//! that only think (`Scheduler`, `Cleanup`, `MachinePoller`); [`fleet`] keeps one [`agent`] for each
//! cloud, which talks to its driver, so that a cloud that hangs holds up nobody else (`VMPoller`);
//! [`jobs`] looks into the sources (`JobPoller`).

mod agent;
mod backoff;
mod breaker;
pub mod decider;
pub mod fleet;
pub mod jobs;

pub use breaker::Breaker;

#[cfg(test)]
pub use backoff::Backoff;
#[cfg(test)]
pub use fleet::todos;
use std::{num::NonZeroU64, sync::Arc, time::Duration};

use pileus_model::Clock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;

/// When a reconciler runs its next cycle.
pub struct Pace {
    hub: Arc<Hub>,
    stop: CancellationToken,
    interval: Duration,
    seq: watch::Receiver<u64>,
}

/// Rest after a cycle for each job and VM that it looked at. Looking takes about a tenth of it, so that
/// a reconciler which is woken all the time does not work all the time.
const REST_EACH: Duration = Duration::from_micros(10);

/// So few need no rest.
const FEW: usize = 1000;

impl Pace {
    pub fn new(hub: Arc<Hub>, stop: CancellationToken, interval_s: NonZeroU64) -> Self {
        let seq = hub.seq.subscribe();
        Self { hub, stop, interval: Duration::from_secs(interval_s.get()), seq }
    }

    /// A cycle begins: what changes from now on wakes the next one.
    pub fn begin(&mut self) {
        self.seq.mark_unchanged();
    }

    /// Ends when the next cycle is due: after the interval, or at the first change, but not before
    /// there was some rest from one that looked at many things. After a failed cycle a change does not
    /// wake it, so that what fails does not fail all the time. `false`: it shall stop.
    pub async fn next(&mut self, looked_at: usize, failed: bool) -> bool {
        let many = u32::try_from(looked_at).unwrap_or(u32::MAX);
        let rest = if looked_at < FEW { Duration::ZERO } else { REST_EACH.saturating_mul(many) };
        let rest = rest.min(self.interval);
        let wait = self.hub.clock.sleep(self.interval);
        let changed = async {
            if !rest.is_zero() {
                self.hub.clock.sleep(rest).await;
            }
            if failed || self.seq.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = changed => true,
            () = wait => true,
        }
    }
}
