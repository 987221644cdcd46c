//! The desk at which workers report: what a channel to a VM may ask of the engine.

use std::sync::Arc;

use pileus_model::{BoxFuture, Exit, Output, Refusal, RunTimes, Time, View};

/// How a job ended on its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It ran, and ended so.
    Exited(Exit),
    /// It could not be started by a fault of its own (no such program, …): final.
    NotStarted(String),
    /// It could not be started by a fault of its host (no process, no space, …): it waits again.
    HostFault(String),
    /// It went beyond a limit of its VM, and was ended: final.
    OverLimit(String),
}

/// Result of a job, as its worker reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobResult {
    /// How it ended.
    pub end: End,
    /// Its output.
    pub output: Output,
    /// When it ran. `None`: the worker does not say, or it did not run.
    pub times: Option<RunTimes>,
    /// `true` if it was ended because its VM was: it will run elsewhere, unless it was removed.
    pub interrupted: bool,
}

impl JobResult {
    /// A result whose worker does not say when the job ran.
    pub fn new(end: End, output: Output) -> Self {
        Self { end, output, times: None, interrupted: false }
    }
}

/// What a worker's channel may ask. **Which job a VM runs is read from the view**: `vm.job` is set
/// durably before the worker hears of it. A channel compares it with what the worker runs and sends
/// *run* or *kill* accordingly, so that a crash on either side needs no other repair.
pub trait Desk: Send + Sync {
    /// The picture now.
    fn view(&self) -> Arc<View>;

    /// The engine's time, of which all times in the state are.
    fn now(&self) -> Time;

    /// Ends once a view with a higher `seq` than this has been published.
    fn changed_since(&self, seq: u64) -> BoxFuture<()>;

    /// A part of a driver has ended that works as long as the process: the process ends.
    fn ended(&self, part: &'static str, why: String) {
        tracing::error!(part, why, "a part of a driver has ended");
    }

    /// The worker of this VM has called home (again). Idempotent.
    fn registered(&self, vm: &str) -> BoxFuture<Result<(), Refusal>>;

    /// The VM's job ended. Answers once that is durable, together with the output; only then may
    /// the worker forget it. Of a job that was removed while this VM ran it, the output is kept; any other job
    /// that is not this VM's any more is answered and ignored.
    fn finished(&self, vm: &str, job: &str, result: JobResult) -> BoxFuture<Result<(), Refusal>>;
}
