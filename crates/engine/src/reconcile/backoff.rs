//! How long to leave somebody alone who fails.

use std::time::Duration;

use pileus_model::Monotonic;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Doubles with every failure in a row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    failures: u32,
    until: Monotonic,
}

impl Backoff {
    /// It failed: not before the answer again.
    pub fn fail(&mut self, now: Monotonic) -> Monotonic {
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures += 1;
        self.until = now.after(wait);
        self.until
    }

    /// It went well.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// What is still to be waited; `None`: nothing.
    pub fn wait(&self, now: Monotonic) -> Option<Duration> {
        (self.failures > 0 && self.until > now).then(|| self.until.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_a_minute_and_forgets() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.fail(Monotonic(0)).0 / 1_000_000_000).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.wait(Monotonic(59_000_000_000)), Some(Duration::from_secs(1)));
        assert_eq!(backoff.wait(Monotonic(60_000_000_000)), None);
        backoff.reset();
        assert_eq!((backoff.wait(Monotonic(0)), backoff.fail(Monotonic(0)).0), (None, 1_000_000_000));
    }
}
