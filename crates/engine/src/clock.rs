//! The one system clock. Everybody else is handed a [`Clock`]; clippy forbids asking the system.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use pileus_model::{BoxFuture, Clock, Time};

/// The host's wall clock, made non-decreasing: while somebody sets it back, it stands still.
#[derive(Debug, Default)]
pub struct SystemClock {
    /// The latest answer, in microseconds since the Unix epoch.
    latest: AtomicI64,
    /// From when on nanoseconds are counted.
    origin: OnceLock<Instant>,
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        Time(self.now_us().div_euclid(1000))
    }

    #[allow(clippy::disallowed_methods, reason = "this is the injected clock")]
    fn now_us(&self) -> i64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = i64::try_from(wall.as_micros()).unwrap_or(i64::MAX);
        self.latest.fetch_max(wall, Ordering::Relaxed).max(wall)
    }

    #[allow(clippy::disallowed_methods, reason = "this is the injected clock")]
    fn now_ns(&self) -> u64 {
        let origin = self.origin.get_or_init(Instant::now);
        u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_set_back_stands_still() {
        let clock = SystemClock::default();
        let ahead = clock.now().after(Duration::from_secs(3600));
        clock.latest.store(ahead.0 * 1000, Ordering::Relaxed);
        assert_eq!(clock.now(), ahead);
    }
}
