//! The door to the engine: what the floors above may know of it.

use std::{sync::Arc, time::Duration};

use crate::{
    Actor, BoxFuture, Command, Explanation, History, Holding, Name, Output, OutputPart, OutputRange, Refusal,
    Shares, Stray, Time, View, Waiting,
};

/// Answer to a [`Command`] that was done: it is durable and can be seen.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The picture right after the change.
    pub view: Arc<View>,
    /// What was made, where the engine chose its name; else empty.
    pub id: String,
}

/// A reconciler's sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// `Scheduler`, `Cleanup`, `VMPoller`, `JobPoller`, `MachinePoller`: the old wire's names, in
    /// the old wire's order.
    pub name: &'static str,
    /// Pause after a cycle, in seconds.
    pub interval_s: u64,
    /// When it finished its last cycle; at first, when it was made.
    pub last: Time,
    /// Why its last cycle failed; `None`: it did not.
    pub error: Option<String>,
}

/// Copy of the state, read in parts.
pub struct Backup {
    /// Size in bytes.
    pub bytes: u64,
    /// Reads the part at an offset; empty at the end.
    pub read: Box<dyn Fn(u64) -> BoxFuture<std::io::Result<Vec<u8>>> + Send + Sync>,
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// The engine as everybody above it sees it. Reading never waits.
pub trait Engine: Send + Sync {
    /// A consistent picture: for every GET.
    fn view(&self) -> Arc<View>;

    /// The newest view's `seq`, or for a moment that of the one before: for who keeps what he has made of a
    /// view, and wants to know whether there is another. Costs a look.
    fn seq(&self) -> u64 {
        self.view().seq
    }

    /// Asks for a change; answers once it is durable, or was refused and changed nothing. Runs to
    /// its end even when the future is dropped.
    fn submit(&self, command: Command, by: Actor) -> BoxFuture<Result<Receipt, Refusal>>;

    /// Output of a job that has ended; `None` where there is nothing.
    fn output(&self, job: &str) -> BoxFuture<Result<Option<Output>, Refusal>>;

    /// Piece of a stream of a job, which may still run. Waits for up to `wait` while nothing is at the offset
    /// and the job may write more. `None`: there is no such job. Nothing is fetched from a worker but by this.
    fn output_part(
        &self,
        job: &str,
        range: OutputRange,
        wait: Duration,
    ) -> BoxFuture<Result<Option<OutputPart>, Refusal>> {
        let _ = (job, range, wait);
        Box::pin(async { Err(Refusal::Unavailable) })
    }

    /// What happened after the event `after`, at most `limit` events, fewer where they are long. For
    /// a project: what it owns and what is everybody's; for `None` all of it. Waits for no writer.
    fn events(&self, after: u64, limit: usize, project: Option<Name>) -> BoxFuture<Result<History, Refusal>>;

    /// Why a job is where it is; `None` where there is no such job. Costs as much as a cycle of the
    /// scheduler, so that few are made at a time.
    fn explain(&self, job: &str) -> BoxFuture<Result<Option<Explanation>, Refusal>>;

    /// Ends once a view with a higher `seq` than this has been published.
    fn changed_since(&self, seq: u64) -> BoxFuture<()>;

    /// Most jobs of a project that may wait. `None`: the engine has no such limit.
    fn waiting_max(&self) -> Option<Waiting> {
        None
    }

    /// Signs of life.
    fn beats(&self) -> Vec<Beat>;

    /// Sentences on what keeps the engine from its work now: a write that failed, a part without a sign of
    /// life. Empty: nothing does.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    /// Number of the last event that was deleted, because the history is long; 0: none was.
    fn compacted(&self) -> u64 {
        0
    }

    /// A consistent copy of the whole state. Needs as much disk as the state, until it is dropped.
    fn backup(&self) -> BoxFuture<Result<Backup, Refusal>> {
        Box::pin(async { Err(Refusal::Unavailable) })
    }

    /// The shares by which the scheduler would decide now. Costs as an [`explain`](Engine::explain).
    fn shares(&self) -> BoxFuture<Result<Shares, Refusal>> {
        Box::pin(async { Err(Refusal::Unavailable) })
    }

    /// What each reconciler holds, in the order of [`beats`](Engine::beats).
    fn holdings(&self) -> Vec<Holding> {
        Vec::new()
    }

    /// Machines that no VM matched when their driver looked last. It ended them.
    fn strays(&self) -> Vec<Stray> {
        Vec::new()
    }
}

/// The engine that is not there: an empty picture, and no to everything. `pileus check` builds the
/// pipelines upon it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Idle;

impl Engine for Idle {
    fn view(&self) -> Arc<View> {
        Arc::default()
    }

    fn submit(&self, _: Command, _: Actor) -> BoxFuture<Result<Receipt, Refusal>> {
        Box::pin(async { Err(Refusal::Unavailable) })
    }

    fn output(&self, _: &str) -> BoxFuture<Result<Option<Output>, Refusal>> {
        Box::pin(async { Err(Refusal::Unavailable) })
    }

    fn events(&self, _: u64, _: usize, _: Option<Name>) -> BoxFuture<Result<History, Refusal>> {
        Box::pin(async { Err(Refusal::Unavailable) })
    }

    fn explain(&self, _: &str) -> BoxFuture<Result<Option<Explanation>, Refusal>> {
        Box::pin(async { Err(Refusal::Unavailable) })
    }

    fn changed_since(&self, _: u64) -> BoxFuture<()> {
        Box::pin(std::future::pending())
    }

    fn beats(&self) -> Vec<Beat> {
        Vec::new()
    }
}
