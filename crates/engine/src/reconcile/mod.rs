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

/// Rest after a cycle, in times of what it had of the processor: a reconciler that is woken all the time
/// works for a fifth of it.
const REST: u32 = 4;

/// Jobs and VMs up to which a cycle costs so little that it needs no rest.
const FEW: usize = 1000;

/// Cost of a cycle.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Jobs and VMs in the view.
    pub size: usize,
    /// Processor time.
    pub took: Duration,
}

impl Cost {
    fn rest(self) -> Duration {
        if self.size < FEW { Duration::ZERO } else { self.took.saturating_mul(REST) }
    }
}

/// Processor time of this thread so far.
pub fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (secs, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(secs.unwrap_or_default(), nanos.unwrap_or_default())
}

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
    /// there was some rest from one that cost much. After a failed cycle a change does not
    /// wake it, so that what fails does not fail all the time. `false`: it shall stop.
    pub async fn next(&mut self, cost: Cost, failed: bool) -> bool {
        let rest = cost.rest().min(self.interval);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_followed_by_rest_in_proportion_to_its_cost() {
        let ms = Duration::from_millis;
        // size, processor time, rest
        let cases = [(0, ms(9), ms(0)), (999, ms(9), ms(0)), (1000, ms(9), ms(36)), (60_000, ms(0), ms(0))];
        for (size, took, rest) in cases {
            assert_eq!(Cost { size, took }.rest(), rest, "{size} things in {took:?}");
        }
        assert!(thread_time() <= thread_time());
    }
}
