//! Time since each worker was heard.
//!
//! Silence counts only while the server listened. A start, or a gap in the server's own heartbeats (a
//! stopped process, a suspended host), restarts the count of every VM.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pileus_model::{Clock, Monotonic, Name};

/// Pause between two heartbeats of the server.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);
/// Longest time between two heartbeats in which the server still listened.
const GAP_MAX: Duration = Duration::from_secs(5);

/// Last signs of life, by VM.
#[derive(Debug)]
pub(crate) struct Silence {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Time since which the server listens without a gap.
    since: Monotonic,
    /// Last heartbeat of the server.
    beat: Monotonic,
    heard: HashMap<Name, Monotonic>,
}

impl Silence {
    /// Starts to listen now.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let now = clock.monotonic();
        Self { clock, inner: Mutex::new(Inner { since: now, beat: now, heard: HashMap::new() }) }
    }

    /// Records a heartbeat of the server.
    pub(crate) fn beat(&self) {
        let _ = self.enter();
    }

    /// Records a sign of life of the VM's worker.
    pub(crate) fn heard(&self, vm: &Name) {
        let (mut inner, now) = self.enter();
        match inner.heard.get_mut(vm) {
            Some(at) => *at = now,
            None => drop(inner.heard.insert(vm.clone(), now)),
        }
    }

    /// Returns how long the server has listened without hearing the VM's worker.
    pub(crate) fn of(&self, vm: &str) -> Duration {
        let (inner, now) = self.enter();
        let heard = inner.heard.get(vm).copied().unwrap_or_default();
        now.since(heard.max(inner.since))
    }

    /// Forgets a VM that is gone.
    pub(crate) fn forget(&self, vm: &str) {
        self.enter().0.heard.remove(vm);
    }

    fn enter(&self) -> (MutexGuard<'_, Inner>, Monotonic) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.monotonic();
        if now.since(inner.beat) > GAP_MAX {
            inner.since = now;
        }
        inner.beat = inner.beat.max(now);
        (inner, now)
    }
}

#[cfg(test)]
mod tests {
    use pileus_model::{ManualClock, Time};

    use super::*;

    #[test]
    fn silence_counts_only_while_the_server_listens() {
        /// Seconds that pass, and whether the worker is heard then.
        type Steps = &'static [(u64, bool)];
        let cases: [(&str, Steps, u64); 6] = [
            ("never heard since the start", &[(3, false), (3, false)], 6),
            ("heard", &[(3, false), (3, true), (2, false)], 2),
            ("the server was stopped", &[(3, true), (600, false)], 0),
            ("stopped, then it listens", &[(3, true), (600, false), (4, false), (5, false)], 9),
            ("heard after the gap", &[(600, false), (4, true), (1, false)], 1),
            ("a pause at the limit is none", &[(5, true), (5, false), (5, false)], 10),
        ];
        for (what, steps, silent_s) in cases {
            let clock = ManualClock::at(Time(0));
            let silence = Silence::new(Arc::new(clock.clone()));
            for (seconds, heard) in steps {
                clock.advance(Duration::from_secs(*seconds));
                silence.beat();
                if *heard {
                    silence.heard(&"v".into());
                }
            }
            assert_eq!(silence.of("v"), Duration::from_secs(silent_s), "{what}");
        }
    }
}
