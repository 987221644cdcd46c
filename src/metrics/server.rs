//! What a server counts of its requests and connections.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use http::StatusCode;
use pileus_model::Clock;

use super::Stage;

/// Statuses begin with this one.
const FIRST: u16 = 100;

/// All statuses that HTTP has room for, 100 to 999; and before them those who went without an answer.
const SLOTS: usize = 901;

/// Setting that a connection exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `max_connections`.
    Connections,
    /// `max_connections_per_address`.
    PerAddress,
}

impl Limit {
    /// Both, in the order of their counters.
    pub const ALL: [Self; 2] = [Self::Connections, Self::PerAddress];

    /// Name of the setting.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "max_connections",
            Self::PerAddress => "max_connections_per_address",
        }
    }
}

/// The counts of one server. Two atomic additions for each request.
#[derive(Debug)]
pub struct ServerCounts {
    begun: AtomicU64,
    ended: Box<[AtomicU64]>,
    accepted: AtomicU64,
    closed: AtomicU64,
    over_limit: [AtomicU64; Limit::ALL.len()],
    dropped: AtomicU64,
    jobs: AtomicU64,
    /// From the first stage until there was an answer, in requests that were timed.
    pub times: Arc<Stage>,
}

impl ServerCounts {
    /// Of a server that nobody has called.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            begun: AtomicU64::default(),
            ended: (0..SLOTS).map(|_| AtomicU64::default()).collect(),
            accepted: AtomicU64::default(),
            closed: AtomicU64::default(),
            over_limit: Default::default(),
            dropped: AtomicU64::default(),
            jobs: AtomicU64::default(),
            times: Arc::new(Stage::new(clock)),
        }
    }

    /// A request begins; how many began before it.
    pub fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Relaxed)
    }

    /// A request has ended, its body included; `None`: nobody waited for its answer.
    pub fn end(&self, status: Option<StatusCode>) {
        let slot = status.map_or(0, |status| usize::from(status.as_u16().saturating_sub(FIRST)) + 1);
        if let Some(slot) = self.ended.get(slot) {
            slot.fetch_add(1, Relaxed);
        }
    }

    /// A connection is open until what comes back is dropped.
    pub fn open(self: &Arc<Self>) -> Open {
        self.accepted.fetch_add(1, Relaxed);
        Open(self.clone())
    }

    /// Counts a connection above a limit.
    pub fn over_limit(&self, limit: Limit) {
        for (at, count) in Limit::ALL.iter().zip(&self.over_limit) {
            if *at == limit {
                count.fetch_add(1, Relaxed);
            }
        }
    }

    /// Counts a connection that is closed at once.
    pub fn drop_connection(&self) {
        self.dropped.fetch_add(1, Relaxed);
    }

    /// Counts a connection of a job that is refused.
    pub fn refuse_job(&self) {
        self.jobs.fetch_add(1, Relaxed);
    }

    /// Connections of jobs that were refused.
    pub fn refused_jobs(&self) -> u64 {
        self.jobs.load(Relaxed)
    }

    /// Connections above each limit.
    pub fn limited(&self) -> impl Iterator<Item = (Limit, u64)> {
        Limit::ALL.into_iter().zip(self.over_limit.iter().map(|count| count.load(Relaxed)))
    }

    /// Connections that were closed at once.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Statuses that were answered, and how often.
    pub fn answered(&self) -> impl Iterator<Item = (u16, u64)> {
        let counts = self.ended.iter().skip(1).map(|slot| slot.load(Relaxed));
        (FIRST..).zip(counts).filter(|(_, count)| *count > 0)
    }

    /// Requests that nobody waited for any more.
    pub fn abandoned(&self) -> u64 {
        self.ended.first().map_or(0, |slot| slot.load(Relaxed))
    }

    /// Requests that have begun and not ended.
    pub fn in_flight(&self) -> u64 {
        // What ended is looked at first: a request that comes meanwhile is one more, not one less than none.
        let ended: u64 = self.ended.iter().map(|slot| slot.load(Relaxed)).sum();
        self.begun.load(Relaxed).saturating_sub(ended)
    }

    /// Connections: that were accepted, and that are open.
    pub fn connections(&self) -> (u64, u64) {
        let closed = self.closed.load(Relaxed);
        let accepted = self.accepted.load(Relaxed);
        (accepted, accepted.saturating_sub(closed))
    }
}

/// A connection that is open.
#[derive(Debug)]
pub struct Open(Arc<ServerCounts>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use pileus_model::ManualClock;

    use super::*;

    #[test]
    fn a_request_is_in_flight_until_it_has_ended_in_one_way() {
        let counts = Arc::new(ServerCounts::new(Arc::new(ManualClock::default())));
        assert_eq!([counts.begin(), counts.begin(), counts.begin(), counts.begin()], [0, 1, 2, 3]);
        counts.end(Some(StatusCode::OK));
        counts.end(Some(StatusCode::from_u16(999).unwrap()));
        counts.end(None);
        assert_eq!(counts.answered().collect::<Vec<_>>(), [(200, 1), (999, 1)]);
        assert_eq!((counts.abandoned(), counts.in_flight()), (1, 1));
        let open = counts.open();
        drop(counts.open());
        assert_eq!(counts.connections(), (2, 1));
        drop(open);
        assert_eq!(counts.connections(), (2, 0));
    }
}
