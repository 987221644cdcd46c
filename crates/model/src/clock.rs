//! Time, as a value and as a source that a test can move.

use std::{
    fmt,
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::BoxFuture;

/// A moment, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub i64);

impl Time {
    /// Whole seconds since the Unix epoch, as the old wire speaks.
    pub fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// What has passed since `earlier`; zero where `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The moment `duration` after this one.
    pub fn after(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The moment `duration` before this one.
    pub fn before(self, duration: Duration) -> Time {
        Time(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.secs(), self.0.rem_euclid(1000))
    }
}

/// A moment of a clock's monotonic count, in nanoseconds since an origin of the clock's own choice. Of use
/// within one process alone: to be compared with other moments of the same clock, never stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// Whole milliseconds since the origin. Differences of these do not lose a part at each step.
    pub fn ms(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Duration since `earlier`; zero where `earlier` is later.
    pub fn since(self, earlier: Monotonic) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `duration` after this one.
    pub fn after(self, duration: Duration) -> Monotonic {
        Monotonic(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Debug for Monotonic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{:?}", Duration::from_nanos(self.0))
    }
}

/// Source of time. One is made at start and handed to every part that needs it.
///
/// Durations (intervals, time-outs, back-offs, rates) are measured by [`monotonic`](Clock::monotonic). Wall
/// time is for timestamps, and for ends that others set by wall time, such as that of a token.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The wall clock. May jump ahead and back.
    fn now(&self) -> Time;

    /// The wall clock in microseconds since the Unix epoch, for log lines.
    fn now_us(&self) -> i64 {
        self.now().0.saturating_mul(1000)
    }

    /// The monotonic count. Never goes backwards, and no change of the wall clock moves it. Counts while
    /// the host is suspended.
    fn monotonic(&self) -> Monotonic;

    /// Ends once `duration` has passed on this clock.
    fn sleep(&self, duration: Duration) -> BoxFuture<()>;
}

/// A clock that stands still until a test moves it.
#[derive(Debug, Default, Clone)]
pub struct ManualClock(std::sync::Arc<Mutex<Manual>>);

#[derive(Debug, Default)]
struct Manual {
    /// Wall time.
    now: Time,
    monotonic: Monotonic,
    sleepers: Vec<Waker>,
}

impl ManualClock {
    /// A clock that shows `start`. Its monotonic count starts at a value that has no meaning.
    pub fn at(start: Time) -> Self {
        let monotonic = Monotonic(1_000_000_000_000);
        Self(std::sync::Arc::new(Mutex::new(Manual { now: start, monotonic, sleepers: Vec::new() })))
    }

    /// Lets time pass: wall clock and monotonic count move forward, and sleeps end.
    pub fn advance(&self, by: Duration) {
        let sleepers = {
            let mut inner = self.lock();
            inner.now = inner.now.after(by);
            inner.monotonic = inner.monotonic.after(by);
            std::mem::take(&mut inner.sleepers)
        };
        sleepers.into_iter().for_each(Waker::wake);
    }

    /// Sets the wall clock ahead, or back by a negative number of milliseconds. No time passes.
    pub fn jump(&self, by_ms: i64) {
        let mut inner = self.lock();
        inner.now = Time(inner.now.0.saturating_add(by_ms));
    }

    fn lock(&self) -> MutexGuard<'_, Manual> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        self.lock().now
    }

    fn monotonic(&self) -> Monotonic {
        self.lock().monotonic
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        let clock = self.clone();
        let until = clock.monotonic().after(duration);
        Box::pin(poll_fn(move |cx| {
            let mut inner = clock.lock();
            if inner.monotonic >= until {
                return Poll::Ready(());
            }
            inner.sleepers.push(cx.waker().clone());
            Poll::Pending
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_moves_the_wall_clock_alone() {
        let clock = ManualClock::at(Time(10_000));
        let start = clock.monotonic();
        for (by_ms, wall_ms, passed_ms) in [(-3_600_000, -3_589_000, 1000), (3_600_000, 12_000, 2000)] {
            clock.jump(by_ms);
            clock.advance(Duration::from_secs(1));
            assert_eq!(clock.now(), Time(wall_ms), "{by_ms} ms");
            assert_eq!(clock.monotonic().since(start), Duration::from_millis(passed_ms), "{by_ms} ms");
        }
        assert_eq!(start.since(clock.monotonic()), Duration::ZERO);
    }
}
