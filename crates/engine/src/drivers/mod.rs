//! Drivers boot VMs: one file or folder each, and one line in [`DRIVERS`].

pub mod local;

use std::{sync::Arc, time::Duration};

use pileus_model::{BoxFuture, Name, OutputPart, OutputRange, Vm, VmState};

/// Every driver that `driver = "…"` of a `[clouds.NAME]` may name.
pub static DRIVERS: &[&str] = &["local"];

/// What a cloud says of one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its state; `Error` where the cloud does not know it.
    pub state: VmState,
    /// Its host name; empty until known.
    pub hostname: String,
    /// Its address; empty until known.
    pub address: String,
    /// Why it is certain that nothing of it runs any more, nor ever will; `None` where that is not
    /// certain. Such a VM is given up at once, not after several answers.
    pub lost: Option<String>,
}

/// Why a driver could not do it now. Holds no secret; shown to administrators and logged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DriverError {
    /// No room, or a quota: try another cloud, and this one later.
    #[error("no capacity: {0}")]
    NoCapacity(String),
    /// The cloud did not answer as it should: back off and try again.
    #[error("{0}")]
    Failed(String),
}

/// Boots, watches and destroys the VMs of one cloud. Every call may be repeated after a crash.
pub trait Driver: Send + Sync {
    /// Makes the VM exist. Idempotent by `vm.id`, which was durable before this call: where the
    /// cloud has it already, it is found, not made again. Answers with what finds it later.
    fn create(&self, vm: Arc<Vm>) -> BoxFuture<Result<String, DriverError>>;

    /// What the cloud says of these VMs, in their order. One unknown to the cloud is `Error`; an
    /// answer that failed says nothing about any VM.
    fn poll(&self, vms: Vec<Arc<Vm>>) -> BoxFuture<Result<Vec<Seen>, DriverError>>;

    /// Destroys the VM and all that runs in it; done only once nothing of it is left. A VM that is
    /// not there is success.
    fn destroy(&self, vm: Arc<Vm>) -> BoxFuture<Result<(), DriverError>>;

    /// Lets go of a VM that an administrator wants forgotten. By default it goes on, unmanaged.
    fn forget(&self, vm: Arc<Vm>) -> BoxFuture<Result<(), DriverError>> {
        let _ = vm;
        Box::pin(async { Ok(()) })
    }

    /// Piece of what a job writes that runs on this VM. Waits for up to `wait` while there is none at the offset.
    /// `None`: the job does not run there, or its worker cannot be asked; by default, no worker can.
    fn output_part(
        &self,
        vm: &str,
        job: &str,
        range: OutputRange,
        wait: Duration,
    ) -> BoxFuture<Option<OutputPart>> {
        let _ = (vm, job, range, wait);
        Box::pin(async { None })
    }

    /// VMs that this engine made in this cloud and does not know any more are destroyed; answers
    /// with their names. `known` are those that stay.
    fn sweep(&self, known: Vec<Name>) -> BoxFuture<Result<Vec<Name>, DriverError>>;
}
