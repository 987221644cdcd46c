//! Reconcilers compare what is with what shall be, and do what is missing.
//!
//! Each is woken by time and by every change of the view, takes no input, and may be repeated: what it
//! does not get done, or did on a view that is old by now, the next cycle does. [`decider`] runs those
//! that only think (`Scheduler`, `Cleanup`, `MachinePoller`); [`fleet`] keeps one [`agent`] for each
//! cloud, which talks to its driver, so that a cloud that hangs holds up nobody else (`VMPoller`);
//! [`jobs`] looks into the sources (`JobPoller`).

mod agent;
mod backoff;
pub mod decider;
pub mod fleet;
pub mod jobs;

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use pileus_model::Time;
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

/// What part of the time a reconciler that is woken all the time may work: one in this many.
const REST: u32 = 10;

impl Pace {
    pub fn new(hub: Arc<Hub>, stop: CancellationToken, interval_s: NonZeroU64) -> Self {
        let seq = hub.seq.subscribe();
        Self { hub, stop, interval: Duration::from_secs(interval_s.get()), seq }
    }

    /// A cycle begins: what changes from now on wakes the next one.
    pub fn begin(&mut self) -> Time {
        self.seq.mark_unchanged();
        self.hub.clock.now()
    }

    /// Ends when the next cycle is due: after the interval, or at the first change, but not before
    /// there was some rest from a long cycle. After a failed cycle a change does not wake it, so that
    /// what fails does not fail all the time. `false`: it shall stop.
    pub async fn next(&mut self, began: Time, failed: bool) -> bool {
        let took = self.hub.clock.now().since(began);
        let rest = took.saturating_mul(REST - 1).min(self.interval);
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
