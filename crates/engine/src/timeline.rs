//! The engine's time: the wall clock without its jumps.
//!
//! Times in the state are wall times, and decisions compare them. A wall clock that jumps must neither make
//! everything old nor let everything stand still. The engine's time starts as the wall clock and goes on by
//! the monotonic count. A jump is logged. Once the wall clock has kept its new offset for [`AGREEMENT`], the
//! engine's time takes it over, and the event [`ClockSet`](pileus_model::Kind::ClockSet) moves the times of
//! the state with it: no age changes. Until a start has seen the wall clock agree for as long, the time since
//! the last known event does not count for what expires: it may be a wrong clock.
//! Decision: docs/decisions/0031-the-engines-time.md.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use pileus_model::{BoxFuture, Clock, Monotonic, Time, View};
use tracing::{info, warn};

use crate::hub::lock;

/// The wall clock is trusted after it has kept an offset for so long.
pub const AGREEMENT: Duration = Duration::from_secs(600);

/// Pause between two looks at the wall clock.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Smaller differences are no jump, in milliseconds.
const TOLERANCE_MS: i64 = 2000;

/// Times for one decision.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The engine's time.
    pub now: Time,
    /// Start of this process. Timers of VMs begin at the earliest here: nothing was heard of them before.
    pub started: Time,
    /// Time for what expires: earlier than `now` while the wall clock of a start is not proven.
    pub expiry: Time,
}

impl From<Time> for Moment {
    /// A moment of a process that has always run.
    fn from(now: Time) -> Self {
        Self { now, started: Time(i64::MIN), expiry: now }
    }
}

/// The engine's time. As a [`Clock`], its wall time is the engine's.
#[derive(Debug)]
pub struct Timeline {
    wall: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The engine's time at `origin`.
    base: Time,
    origin: Monotonic,
    /// Number of the event by which it was set last, and by how much, in milliseconds.
    set: Option<(u64, i64)>,
    started: Time,
    /// Time since the last known event before the start, as long as it is not proven, in milliseconds.
    downtime_ms: i64,
    /// A jump that may be undone: offset of the wall clock in milliseconds, and when it was seen first.
    jump: Option<(i64, Monotonic)>,
    /// Moment from which the wall clock has agreed.
    agrees_since: Monotonic,
}

impl State {
    fn at(&self, moment: Monotonic) -> Time {
        self.base.after(moment.since(self.origin))
    }
}

impl Timeline {
    /// The time of an engine that starts on this state: never before the state's latest event.
    pub fn new(wall: Arc<dyn Clock>, view: &View) -> Self {
        let (now, origin) = (wall.now(), wall.monotonic());
        let latest = latest(view);
        let base = latest.map_or(now, |latest| latest.max(now));
        let downtime = latest.map_or(Duration::ZERO, |latest| base.since(latest));
        let downtime_ms = millis(downtime);
        let (set, jump) = (None, None);
        let state = State { base, origin, set, started: base, downtime_ms, jump, agrees_since: origin };
        Self { wall, state: Mutex::new(state) }
    }

    /// Times for decisions on `view`, which may be the one before the time was set.
    pub fn moment(&self, view: &View) -> Moment {
        let moment = self.wall.monotonic();
        let state = lock(&self.state);
        let early_ms = state.set.filter(|(seq, _)| view.seq < *seq).map_or(0, |(_, by_ms)| by_ms);
        let now = moved(state.at(moment), -early_ms);
        let started = moved(state.started, -early_ms);
        Moment { now, started, expiry: moved(now, -state.downtime_ms) }
    }

    /// Compares with the wall clock. Returns by how many milliseconds the time is to be set now.
    pub fn look(&self) -> Option<i64> {
        let moment = self.wall.monotonic();
        let wall = self.wall.now();
        if self.wall.monotonic().since(moment) > LOOK_EVERY {
            // Stopped or suspended between the two.
            return None;
        }
        let mut state = lock(&self.state);
        let off_ms = wall.0.saturating_sub(state.at(moment).0);
        if off_ms.abs() <= TOLERANCE_MS {
            if state.jump.take().is_some() {
                info!("wall clock is back");
                state.agrees_since = moment;
            }
            if state.downtime_ms > 0 && moment.since(state.agrees_since) >= AGREEMENT {
                state.downtime_ms = 0;
            }
            return None;
        }
        match state.jump {
            Some((known_ms, since)) if off_ms.saturating_sub(known_ms).abs() <= TOLERANCE_MS => {
                (moment.since(since) >= AGREEMENT).then_some(off_ms)
            }
            _ => {
                let (off_s, after_s) = (off_ms / 1000, AGREEMENT.as_secs());
                warn!(off_s, after_s, "wall clock jumped, the engine's time follows if it stays so");
                state.jump = Some((off_ms, moment));
                None
            }
        }
    }

    /// Start of this process, in the engine's time: times before are of other processes.
    pub fn started(&self) -> Time {
        lock(&self.state).started
    }

    /// `true` while the wall clock is elsewhere, and while that of the start is not proven.
    #[cfg(test)]
    pub fn doubts(&self) -> (bool, bool) {
        let state = lock(&self.state);
        (state.jump.is_some(), state.downtime_ms > 0)
    }

    /// The event `seq` has set the time.
    pub fn set(&self, seq: u64, by_ms: i64) {
        let moment = self.wall.monotonic();
        let mut state = lock(&self.state);
        state.base = moved(state.base, by_ms);
        state.started = moved(state.started, by_ms);
        state.set = Some((seq, by_ms));
        // A clock that was ahead at the start made the downtime longer than it was.
        state.downtime_ms = state.downtime_ms.saturating_add(by_ms.min(0)).max(0);
        (state.jump, state.agrees_since) = (None, moment);
    }
}

impl Clock for Timeline {
    fn now(&self) -> Time {
        let moment = self.wall.monotonic();
        lock(&self.state).at(moment)
    }

    fn monotonic(&self) -> Monotonic {
        self.wall.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        self.wall.sleep(duration)
    }
}

/// A time moved by so many milliseconds.
pub fn moved(time: Time, by_ms: i64) -> Time {
    Time(time.0.saturating_add(by_ms))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The latest time in a state. `None`: it is empty.
fn latest(view: &View) -> Option<Time> {
    let jobs = view.jobs.values().flat_map(|job| [Some(job.submitted), job.started, job.finished]).flatten();
    let of_vm =
        |vm: &Arc<pileus_model::Vm>| [Some(vm.created), Some(vm.changed), vm.registered, vm.idle_since];
    let vms = view.vms.values().flat_map(of_vm).flatten();
    let keys = view.keys.values().map(|key| key.since);
    jobs.chain(vms).chain(keys).max()
}

#[cfg(test)]
mod tests;
