//! Signs of life of the writer and the reconcilers, for health checks.
//!
//! All times are of the clock's monotonic count: a wall clock that jumps makes nothing old.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use pileus_model::{Beat, Clock};

use crate::{
    hub::{RECONCILERS, lock},
    store::StoreError,
};

/// Longest time for one batch of the writer.
const WRITE_MAX: Duration = Duration::from_secs(10);

/// A reconciler is late after this many intervals and [`GRACE`].
const INTERVALS: u32 = 3;

const GRACE: Duration = Duration::from_secs(30);

/// Signs of life. Moments are nanoseconds of [`Clock::monotonic`]; 0: none.
#[derive(Debug, Default)]
pub struct Health {
    /// Begin of the batch that is being written.
    writing: AtomicU64,
    /// Failure of the last write.
    refused: Mutex<Option<StoreError>>,
    /// Last sign of life of each reconciler, in the order of [`RECONCILERS`]. 0: it does not run.
    pulses: [AtomicU64; RECONCILERS.len()],
    /// `true` if the last cycle panicked.
    panicked: [AtomicBool; RECONCILERS.len()],
}

impl Health {
    /// A batch is being written.
    pub fn writes(&self, clock: &dyn Clock) {
        self.writing.store(moment(clock), Relaxed);
    }

    /// A batch was written, or was not.
    pub fn wrote(&self, result: Result<(), StoreError>) {
        self.writing.store(0, Relaxed);
        self.tried(result);
    }

    /// A write succeeded or failed.
    pub fn tried(&self, result: Result<(), StoreError>) {
        *lock(&self.refused) = result.err();
    }

    /// `true` if the last write failed.
    pub fn is_refused(&self) -> bool {
        lock(&self.refused).is_some()
    }

    /// A reconciler runs.
    pub fn pulse(&self, which: usize, clock: &dyn Clock) {
        if let Some(pulse) = self.pulses.get(which) {
            pulse.store(moment(clock), Relaxed);
        }
    }

    /// A cycle of a reconciler panicked, or did not. The message is in the log.
    pub fn panicked(&self, which: usize, panicked: bool) {
        if let Some(slot) = self.panicked.get(which) {
            slot.store(panicked, Relaxed);
        }
    }

    /// Sentences on what is wrong; empty: nothing is.
    pub fn problems(&self, clock: &dyn Clock, beats: &[Beat]) -> Vec<String> {
        let now = moment(clock);
        let age = |since: &AtomicU64| match since.load(Relaxed) {
            0 => None,
            since => Some(Duration::from_nanos(now.saturating_sub(since))),
        };
        let mut problems = Vec::new();
        if let Some(age) = age(&self.writing).filter(|age| *age > WRITE_MAX) {
            problems.push(format!("the writer has been at one change for {} s", age.as_secs()));
        }
        if let Some(error) = *lock(&self.refused) {
            problems.push(format!("the last change could not be written: {error}"));
        }
        for ((beat, pulse), panicked) in beats.iter().zip(&self.pulses).zip(&self.panicked) {
            let late = Duration::from_secs(beat.interval_s) * INTERVALS + GRACE;
            if let Some(age) = age(pulse).filter(|age| *age > late) {
                problems.push(format!("{} has shown no sign of life for {} s", beat.name, age.as_secs()));
            } else if panicked.load(Relaxed) {
                problems.push(format!("{} panicked in its last cycle, see the log", beat.name));
            }
        }
        problems
    }
}

fn moment(clock: &dyn Clock) -> u64 {
    clock.monotonic().0.max(1)
}

#[cfg(test)]
mod tests {
    use pileus_model::{ManualClock, Time};

    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        type Act = fn(&Health, &ManualClock);
        let beat = |name| Beat { name, interval_s: 10, last: Time(0), error: None };
        let beats: Vec<_> = RECONCILERS.into_iter().map(beat).collect();
        let cases: [(&str, Act, u64, &[&str]); 9] = [
            ("nothing runs", |_, _| (), 1000, &[]),
            ("a batch is written", |health, clock| health.writes(clock), 10, &[]),
            (
                "a batch hangs",
                |health, clock| health.writes(clock),
                11,
                &["the writer has been at one change for 11 s"],
            ),
            (
                "no space",
                |health, _| health.wrote(Err(StoreError::Full)),
                0,
                &["the last change could not be written: the disk is full"],
            ),
            (
                "space again",
                |health, _| {
                    health.wrote(Err(StoreError::Full));
                    health.tried(Ok(()));
                },
                0,
                &[],
            ),
            ("in time", |health, clock| health.pulse(1, clock), 60, &[]),
            (
                "late",
                |health, clock| health.pulse(1, clock),
                61,
                &["Cleanup has shown no sign of life for 61 s"],
            ),
            (
                "a panic",
                |health, _| health.panicked(0, true),
                0,
                &["Scheduler panicked in its last cycle, see the log"],
            ),
            (
                "well again",
                |health, _| {
                    health.panicked(0, true);
                    health.panicked(0, false);
                },
                0,
                &[],
            ),
        ];
        for (case, act, later_s, expected) in cases {
            let (health, clock) = (Health::default(), ManualClock::at(Time(5000)));
            act(&health, &clock);
            clock.advance(Duration::from_secs(later_s));
            assert_eq!(health.problems(&clock, &beats), expected, "{case}");
        }
    }
}
