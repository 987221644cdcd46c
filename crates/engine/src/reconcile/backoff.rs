//! How long to leave somebody alone who fails.

use std::time::Duration;

use pileus_model::Time;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Doubles with every failure in a row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    failures: u32,
    until: Time,
}

impl Backoff {
    /// It failed: not before the answer again.
    pub fn fail(&mut self, now: Time) -> Time {
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
    pub fn wait(&self, now: Time) -> Option<Duration> {
        (self.failures > 0 && self.until > now).then(|| self.until.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_a_minute_and_forgets() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.fail(Time(0)).0 / 1000).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.wait(Time(59_000)), Some(Duration::from_secs(1)));
        assert_eq!(backoff.wait(Time(60_000)), None);
        backoff.reset();
        assert_eq!((backoff.wait(Time(0)), backoff.fail(Time(0)).0), (None, 1000));
    }
}
