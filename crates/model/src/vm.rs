//! A VM: from the moment its name is durable until its cloud has let go of it.

use serde::{Deserialize, Serialize};

use crate::{Name, Size, Time};

/// What the cloud says of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VmState {
    /// Named, requested or booting.
    Starting,
    /// Active in the cloud; not necessarily registered with the job source.
    Running,
    /// The cloud calls it broken, or does not know it.
    Error,
    /// Shutting down or shut down by itself.
    Shutdown,
}

impl VmState {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Error => "Error",
            Self::Shutdown => "Shutdown",
        }
    }
}

/// What the scheduler or an administrator lays over the polled state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Override {
    /// Told to finish its job and stop; takes no new one.
    Retiring,
}

impl Override {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retiring => "Retiring",
        }
    }
}

/// A VM as the engine knows it. Belongs to one user of one project, and runs this user's jobs alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// The key: chosen by the engine and durable before the cloud is asked, so that a crash loses
    /// no VM and boots none twice. `<cloud>-<uuid>`; sorts by creation within its cloud.
    pub id: Name,
    /// Where it lives.
    pub cloud: Name,
    /// Whose it is.
    pub project: Name,
    /// Whose jobs it runs.
    pub user: Name,
    /// The type that its jobs ask for.
    pub vm_type: Name,
    /// Its cores.
    pub cpu_cores: u32,
    /// Its memory, in MiB.
    pub memory_mib: u64,
    /// Its storage, in GiB.
    pub storage_gib: u64,
    /// How long it may idle, in seconds.
    pub keep_alive_s: u64,
    /// The image that it is booted from; `None`: what the cloud boots by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Name>,
    /// The job that it was booted for; it may run others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booted_for: Option<Name>,
    /// What the cloud said last.
    pub state: VmState,
    /// What is laid over it.
    pub override_state: Option<Override>,
    /// Retired by an administrator or by idling, not by rebalancing.
    pub force_retire: bool,
    /// To be destroyed, and why: the reconciler repeats it until the cloud has let go.
    pub destroy: Option<String>,
    /// The last thing that went wrong with it.
    pub last_error: Option<String>,
    /// Consecutive bad polls.
    pub error_count: u32,
    /// When its name became durable.
    pub created: Time,
    /// When `state` changed last.
    pub changed: Time,
    /// When it was `Running` first.
    pub running: Option<Time>,
    /// When its worker called home first; `None`: it never did.
    pub registered: Option<Time>,
    /// Since when it has had no job; `None`: it has one, or never registered.
    pub idle_since: Option<Time>,
    /// The job that it runs now.
    pub job: Option<Name>,
    /// Jobs in a row that it could not start by a fault of its host.
    #[serde(default, skip_serializing_if = "crate::job::is_zero")]
    pub failed_starts: u32,
    /// `true` if these were of more than one job.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed_several: bool,
    /// The last of these jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_job: Option<Name>,
    /// Run times of its last ten jobs, in seconds.
    pub job_runs_s: Vec<u64>,
    /// Its host name; empty until known.
    pub hostname: String,
    /// Its address; empty until known.
    pub address: String,
    /// What its driver wrote down to find it again; opaque to everybody else. Holds no secret.
    pub handle: String,
}

impl Vm {
    /// The word that people see: what is laid over the state, else the state.
    pub fn shown_state(&self) -> &'static str {
        self.override_state.map_or(self.state.as_str(), Override::as_str)
    }

    /// Whether it may be given another job.
    pub fn takes_jobs(&self) -> bool {
        self.override_state.is_none() && self.destroy.is_none() && self.state == VmState::Running
    }

    /// What it holds of its cloud.
    pub fn size(&self) -> Size {
        Size { vm_slots: 1, memory_mib: self.memory_mib, storage_gib: self.storage_gib }
    }

    /// Seconds from its name to its first `Running`.
    pub fn startup_s(&self) -> Option<u64> {
        self.running.map(|at| at.since(self.created).as_secs())
    }
}
