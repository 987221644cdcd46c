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
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.secs(), self.0.rem_euclid(1000))
    }
}

/// Where the time comes from. One is made at start and handed to everybody.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time now. Never goes backwards.
    fn now(&self) -> Time;

    /// The same in microseconds, for measuring how long something took. A clock that counts nothing
    /// finer than milliseconds need not say more.
    fn now_us(&self) -> i64 {
        self.now().0.saturating_mul(1000)
    }

    /// Nanoseconds since some moment of the clock's own choice, for measuring what is shorter than a
    /// microsecond.
    fn now_ns(&self) -> u64 {
        u64::try_from(self.now_us()).unwrap_or(0).saturating_mul(1000)
    }

    /// Ends once `duration` has passed on this clock.
    fn sleep(&self, duration: Duration) -> BoxFuture<()>;
}

/// A clock that stands still until a test moves it.
#[derive(Debug, Default, Clone)]
pub struct ManualClock(std::sync::Arc<Mutex<Manual>>);

#[derive(Debug, Default)]
struct Manual {
    now: Time,
    sleepers: Vec<Waker>,
}

impl ManualClock {
    /// A clock that shows `start`.
    pub fn at(start: Time) -> Self {
        Self(std::sync::Arc::new(Mutex::new(Manual { now: start, sleepers: Vec::new() })))
    }

    /// Moves the clock forward and wakes whoever slept.
    pub fn advance(&self, by: Duration) {
        let sleepers = {
            let mut inner = self.lock();
            inner.now = inner.now.after(by);
            std::mem::take(&mut inner.sleepers)
        };
        sleepers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Manual> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        self.lock().now
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        let clock = self.clone();
        let until = clock.now().after(duration);
        Box::pin(poll_fn(move |cx| {
            let mut inner = clock.lock();
            if inner.now >= until {
                return Poll::Ready(());
            }
            inner.sleepers.push(cx.waker().clone());
            Poll::Pending
        }))
    }
}
