//! The clock of the host. All other code gets a [`Clock`]; clippy forbids other reads of the system's clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pileus_model::{BoxFuture, Clock, Monotonic, Time};
use rustix::time::{ClockId, clock_gettime};

/// The host's wall clock, and its monotonic count since boot, which includes the time in suspend.
///
/// `std::time::Instant` does not count suspend: a token that ends in an hour would live as much longer.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        Time(self.now_us().div_euclid(1000))
    }

    #[allow(clippy::disallowed_methods, reason = "this is the injected clock")]
    fn now_us(&self) -> i64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(wall.as_micros()).unwrap_or(i64::MAX)
    }

    fn monotonic(&self) -> Monotonic {
        let since_boot = clock_gettime(ClockId::Boottime);
        let (s, ns) = (u64::try_from(since_boot.tv_sec), u64::try_from(since_boot.tv_nsec));
        Monotonic(s.unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(ns.unwrap_or(0)))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_count_goes_on() {
        let clock = SystemClock;
        let before = clock.monotonic();
        assert!(before > Monotonic(0));
        while clock.monotonic() == before {}
        assert!(clock.monotonic().since(before) < Duration::from_secs(60));
    }
}
