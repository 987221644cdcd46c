//! The desk at which workers report: what a channel to a VM may ask of the engine.

use std::sync::Arc;

use pileus_model::{BoxFuture, Exit, Output, Refusal, View};

/// How a job ended on its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It ran, and ended so.
    Exited(Exit),
    /// It could not be started (no such program, …): final.
    NotStarted(String),
    /// It went beyond a limit of its VM, and was ended: final.
    OverLimit(String),
}

/// What a worker's channel may ask. **Which job a VM runs is read from the view**: `vm.job` is set
/// durably before the worker hears of it. A channel compares it with what the worker runs and sends
/// *run* or *kill* accordingly, so that a crash on either side needs no other repair.
pub trait Desk: Send + Sync {
    /// The picture now.
    fn view(&self) -> Arc<View>;

    /// Ends once a view with a higher `seq` than this has been published.
    fn changed_since(&self, seq: u64) -> BoxFuture<()>;

    /// A part of a driver has ended that works as long as the process: the process ends.
    fn ended(&self, part: &'static str, why: String) {
        tracing::error!(part, why, "a part of a driver has ended");
    }

    /// The worker of this VM has called home (again). Idempotent.
    fn registered(&self, vm: &str) -> BoxFuture<Result<(), Refusal>>;

    /// The VM's job ended. Answers once that is durable, together with the output; only then may
    /// the worker forget it. A job that is not this VM's any more is answered and ignored.
    fn finished(&self, vm: &str, job: &str, end: End, output: Output) -> BoxFuture<Result<(), Refusal>>;
}
